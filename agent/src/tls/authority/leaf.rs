//! The certificates with which the agent stands in for servers: made when a client first asks for one, and
//! kept for a while.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::Arc,
    time::{Duration, SystemTime},
};

use prometheus::IntCounter;
use rcgen::{
    CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, Issuer, KeyPair, KeyUsagePurpose,
    SanType,
};
use tokio_rustls::rustls::{ServerConfig, crypto::ring, server::NoServerSessionStorage};

use super::{
    error::AuthorityError,
    signer::{CLOCK_SKEW, Signer},
};
use crate::tls::alpn::AlpnNames;

/// How many certificates are kept. One more, and all are made anew.
pub(super) const LEAVES_MAX: usize = 1_024;
/// How long a certificate is good for.
const AGE_MAX: Duration = Duration::from_secs(7 * 86_400);
/// How long a certificate is served before another is made.
const RENEWAL: Duration = Duration::from_secs(86_400);

/// What a client asked for.
#[derive(PartialEq, Eq, Hash)]
struct Request {
    /// The server's name, where the client gave one (SNI).
    name: Option<Box<str>>,
    /// The server's address.
    address: IpAddr,
    /// The protocol's names.
    alpn: AlpnNames,
}

struct Leaf {
    config: Arc<ServerConfig>,
    made: SystemTime,
}

/// The certificates kept, each ready to be served.
pub(super) struct Leaves {
    kept: HashMap<Request, Leaf>,
    /// How often [`LEAVES_MAX`] was reached.
    made_anew: IntCounter,
}

impl Leaves {
    pub(super) fn new(made_anew: IntCounter) -> Self {
        Self { kept: HashMap::new(), made_anew }
    }

    /// Forgets all: the authority that signed them has been replaced.
    pub(super) fn clear(&mut self) {
        self.kept.clear();
    }

    /// How many are kept.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.kept.len()
    }

    /// The configuration to serve a client with that asks for `name` at `address`.
    pub(super) fn get(
        &mut self,
        signer: &Signer,
        name: Option<&str>,
        address: IpAddr,
        alpn: AlpnNames,
    ) -> Result<Arc<ServerConfig>, AuthorityError> {
        let now = SystemTime::now();
        let request = Request { name: name.map(Box::from), address, alpn };
        if let Some(leaf) = self.kept.get(&request)
            && now.duration_since(leaf.made).is_ok_and(|age| age < RENEWAL)
        {
            return Ok(Arc::clone(&leaf.config));
        }
        let config = Arc::new(make(&signer.issuer, &request, now)?);
        if self.kept.len() >= LEAVES_MAX {
            self.made_anew.inc();
            self.kept.clear();
        }
        self.kept.insert(request, Leaf { config: Arc::clone(&config), made: now });
        Ok(config)
    }
}

/// Makes a certificate, and the configuration that serves it.
fn make(
    issuer: &Issuer<'_, KeyPair>,
    request: &Request,
    now: SystemTime,
) -> Result<ServerConfig, AuthorityError> {
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::OrganizationName, "lineal");
    if let Some(name) = &request.name {
        params.subject_alt_names.push(SanType::DnsName((&**name).try_into()?));
    }
    params.subject_alt_names.push(SanType::IpAddress(request.address.to_canonical()));
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.use_authority_key_identifier_extension = true;
    params.not_before = (now - CLOCK_SKEW).into();
    params.not_after = (now + AGE_MAX).into();
    let certificate = params.signed_by(&key, issuer)?;
    let provider = Arc::new(ring::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(vec![certificate.into()], key.into())?;
    config.alpn_protocols = request.alpn.iter().map(|name| name.to_vec()).collect();
    // No sessions are resumed: PostgreSQL does not, and its clients do not ask for it.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(config)
}
