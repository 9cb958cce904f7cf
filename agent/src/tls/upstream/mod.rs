//! TLS towards upstreams. An upstream's policy says how far its certificate must be good.

mod binding;
mod error;
mod verifier;

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv4Addr},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use agent_policy::{Leg, TlsMode};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject};
use sha2::{Digest, Sha256};
use tokio::net::TcpStream;
use tokio_rustls::{
    TlsConnector, TlsStream,
    rustls::{
        ClientConfig,
        client::Resumption,
        crypto::{CryptoProvider, ring},
    },
};
use zeroize::Zeroizing;

pub use self::{binding::end_point, error::UpstreamTlsError};
use super::{alpn::AlpnNames, stream::Stream};

/// A client certificate that the agent shows to a server.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Identity {
    /// The chain of certificates, the agent's own first; a PEM file.
    pub certificate: PathBuf,
    /// The key of the first, a PEM file.
    pub key: PathBuf,
}

/// Makes TLS connections to upstreams. The files that they name are read again at each: new content is used
/// as soon as it is there.
pub struct Connector {
    provider: Arc<CryptoProvider>,
    /// Configurations already made. There are no more than bundles and the configuration name.
    made: Mutex<HashMap<Settings, Made>>,
}

/// What a configuration is made from, beside the content of the files.
#[derive(PartialEq, Eq, Hash)]
struct Settings {
    mode: TlsMode,
    ca: Option<PathBuf>,
    identity: Option<Identity>,
    /// ALPN names to offer.
    alpn: AlpnNames,
}

/// A configuration, and what the files held when it was made.
struct Made {
    digest: [u8; 32],
    config: Arc<ClientConfig>,
}

/// The content of the files that an upstream and a client certificate name.
struct Contents {
    ca: Vec<u8>,
    certificate: Option<Vec<u8>>,
    key: Option<Zeroizing<Vec<u8>>>,
}

impl Connector {
    /// A connector that has made no configuration yet.
    pub fn new() -> Self {
        Self { provider: Arc::new(ring::default_provider()), made: Mutex::default() }
    }

    /// Whether an upstream's settings and files can be used. Connects to nobody.
    pub fn check(&self, leg: &Leg) -> Result<(), UpstreamTlsError> {
        self.make(leg, None, &Contents::read(leg, None)?)?;
        server_name(leg, IpAddr::V4(Ipv4Addr::UNSPECIFIED)).map(drop)
    }

    /// Negotiates TLS with the server at the other end of `stream`, which has agreed to TLS and speaks
    /// `alpn`. A certificate that must bear the server's name must bear the one that the upstream gives, or
    /// else `address`.
    pub async fn connect(
        &self,
        leg: &Leg,
        identity: Option<&Identity>,
        stream: TcpStream,
        address: IpAddr,
        alpn: AlpnNames,
    ) -> Result<Stream, UpstreamTlsError> {
        let config = self.config(leg, identity, alpn)?;
        let name = server_name(leg, address)?;
        let stream = TlsConnector::from(config).connect(name, stream).await;
        let stream = stream.map_err(UpstreamTlsError::Handshake)?;
        Ok(Stream::Tls(Box::new(TlsStream::Client(stream))))
    }

    /// The configuration for these settings and what their files hold now.
    fn config(
        &self,
        leg: &Leg,
        identity: Option<&Identity>,
        alpn: AlpnNames,
    ) -> Result<Arc<ClientConfig>, UpstreamTlsError> {
        let settings = Settings { mode: leg.tls, ca: leg.ca.clone(), identity: identity.cloned(), alpn };
        let contents = Contents::read(leg, identity)?;
        let digest = contents.digest();
        let mut configs = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(made) = configs.get(&settings).filter(|made| made.digest == digest) {
            return Ok(Arc::clone(&made.config));
        }
        let mut config = self.make(leg, identity, &contents)?;
        config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
        let config = Arc::new(config);
        configs.insert(settings, Made { digest, config: Arc::clone(&config) });
        Ok(config)
    }

    /// Makes a configuration that offers no ALPN names.
    fn make(
        &self,
        leg: &Leg,
        identity: Option<&Identity>,
        contents: &Contents,
    ) -> Result<ClientConfig, UpstreamTlsError> {
        let builder = ClientConfig::builder_with_provider(Arc::clone(&self.provider))
            .with_safe_default_protocol_versions()?
            .dangerous()
            .with_custom_certificate_verifier(verifier::verifier(leg, &contents.ca, &self.provider)?);
        let mut config = match (identity, &contents.certificate, &contents.key) {
            (Some(identity), Some(certificate), Some(key)) => {
                let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(certificate).collect();
                let chain = chain.map_err(|error| UpstreamTlsError::file(&identity.certificate, error))?;
                let key = PrivateKeyDer::from_pem_slice(key)
                    .map_err(|error| UpstreamTlsError::file(&identity.key, error))?;
                builder.with_client_auth_cert(chain, key)?
            }
            _ => builder.with_no_client_auth(),
        };
        config.resumption = Resumption::disabled();
        Ok(config)
    }
}

impl Contents {
    fn read(leg: &Leg, identity: Option<&Identity>) -> Result<Self, UpstreamTlsError> {
        Ok(Self {
            ca: leg.ca.as_deref().map(content).transpose()?.unwrap_or_default(),
            certificate: identity.map(|identity| content(&identity.certificate)).transpose()?,
            key: identity.map(|identity| content(&identity.key)).transpose()?.map(Zeroizing::new),
        })
    }

    /// Of all of it; each part goes with its length, so that nothing can move from one to another.
    fn digest(&self) -> [u8; 32] {
        let mut digest = Sha256::new();
        let parts = [Some(&self.ca), self.certificate.as_ref(), self.key.as_deref()];
        for part in parts.into_iter().flatten() {
            digest.update((part.len() as u64).to_be_bytes());
            digest.update(part);
        }
        digest.finalize().into()
    }
}

/// The name that the server's certificate must bear, where it must bear one.
fn server_name(leg: &Leg, address: IpAddr) -> Result<ServerName<'static>, UpstreamTlsError> {
    match &leg.server_name {
        None => Ok(ServerName::IpAddress(address.to_canonical().into())),
        Some(name) => {
            ServerName::try_from(name.to_string()).map_err(|_| UpstreamTlsError::Name(name.clone()))
        }
    }
}

fn content(path: &Path) -> Result<Vec<u8>, UpstreamTlsError> {
    std::fs::read(path).map_err(|error| UpstreamTlsError::file(path, error))
}
