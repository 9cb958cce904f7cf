//! As a client of the real server: how far its certificate is believed is the upstream's to say, in libpq's words.

use std::{
    collections::HashMap,
    io,
    net::IpAddr,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use agent_policy::{Leg, TlsMode};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem::PemObject};
use sha2::{Digest, Sha256, Sha384, Sha512};
use thiserror::Error;
use tokio::net::TcpStream;
use tokio_rustls::{
    TlsConnector, TlsStream,
    rustls::{
        CertificateError, ClientConfig, DigitallySignedStruct, Error as TlsError, RootCertStore,
        SignatureScheme,
        client::{
            Resumption, WebPkiServerVerifier,
            danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        },
        crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature},
    },
};
use x509_cert::der::{Decode, oid::db};

use super::{Stream, authority::POSTGRES_ALPN};

/// Why there is no TLS with an upstream.
#[derive(Debug, Error)]
pub enum UpstreamTlsError {
    /// A file is not what it should be.
    #[error("{path}: {reason}")]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The upstream's name is no name.
    #[error("{0:?} is no server name")]
    Name(Box<str>),
    /// The library refuses the configuration.
    #[error("TLS cannot be set up: {0}")]
    Config(#[from] TlsError),
    /// The handshake failed.
    #[error("the TLS handshake failed: {0}")]
    Handshake(io::Error),
}

/// A certificate that the agent shows to a server, and its key.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Identity {
    /// The chain, a PEM file.
    pub certificate: PathBuf,
    /// The key, a PEM file.
    pub key: PathBuf,
}

/// Makes connections to upstreams.
pub struct Connector {
    provider: Arc<CryptoProvider>,
    /// What was made of which files' contents. Bounded by what bundles and configuration name.
    configs: Mutex<HashMap<Shape, Made>>,
}

/// What tells one configuration from another.
#[derive(PartialEq, Eq, Hash)]
struct Shape {
    mode: TlsMode,
    ca: Option<PathBuf>,
    identity: Option<Identity>,
}

struct Made {
    /// Of the files' contents: others are read as soon as they are there.
    digest: [u8; 32],
    config: Arc<ClientConfig>,
}

impl Connector {
    /// One that has made nothing yet.
    pub fn new() -> Self {
        Self { provider: Arc::new(ring::default_provider()), configs: Mutex::default() }
    }

    /// Whether an upstream's files can be used.
    pub fn check(&self, leg: &Leg) -> Result<(), UpstreamTlsError> {
        self.config(leg, None)?;
        server_name(leg, IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED)).map(drop)
    }

    /// Negotiates TLS with the server at the other end, which speaks PostgreSQL and has agreed.
    pub async fn connect(
        &self,
        leg: &Leg,
        identity: Option<&Identity>,
        stream: TcpStream,
        address: IpAddr,
    ) -> Result<Stream, UpstreamTlsError> {
        let config = self.config(leg, identity)?;
        let name = server_name(leg, address)?;
        let stream = TlsConnector::from(config).connect(name, stream).await;
        let stream = stream.map_err(UpstreamTlsError::Handshake)?;
        Ok(Stream::Tls(Box::new(TlsStream::Client(stream))))
    }

    fn config(&self, leg: &Leg, identity: Option<&Identity>) -> Result<Arc<ClientConfig>, UpstreamTlsError> {
        let shape = Shape { mode: leg.tls, ca: leg.ca.clone(), identity: identity.cloned() };
        let ca = leg.ca.as_deref().map(contents).transpose()?.unwrap_or_default();
        let certificate = identity.map(|identity| contents(&identity.certificate)).transpose()?;
        let key = identity.map(|identity| contents(&identity.key)).transpose()?.map(zeroize::Zeroizing::new);
        let mut digest = Sha256::new();
        let parts = [Some(&ca), certificate.as_ref(), key.as_deref()];
        for part in parts.into_iter().flatten() {
            digest.update((part.len() as u64).to_be_bytes());
            digest.update(part);
        }
        let digest = digest.finalize().into();
        let mut configs = self.configs.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(made) = configs.get(&shape).filter(|made| made.digest == digest) {
            return Ok(Arc::clone(&made.config));
        }
        let builder = ClientConfig::builder_with_provider(Arc::clone(&self.provider))
            .with_safe_default_protocol_versions()?
            .dangerous()
            .with_custom_certificate_verifier(self.verifier(leg, &ca)?);
        let mut config = match (identity, certificate, key) {
            (Some(identity), Some(certificate), Some(key)) => {
                let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&certificate).collect();
                let chain = chain.map_err(|error| wrong(&identity.certificate, error))?;
                let key = PrivateKeyDer::from_pem_slice(&key).map_err(|error| wrong(&identity.key, error))?;
                builder.with_client_auth_cert(chain, key)?
            }
            _ => builder.with_no_client_auth(),
        };
        config.alpn_protocols = vec![POSTGRES_ALPN.to_vec()];
        config.resumption = Resumption::disabled();
        let config = Arc::new(config);
        configs.insert(shape, Made { digest, config: Arc::clone(&config) });
        Ok(config)
    }

    fn verifier(&self, leg: &Leg, ca: &[u8]) -> Result<Arc<dyn ServerCertVerifier>, UpstreamTlsError> {
        let provider = Arc::clone(&self.provider);
        let Some(path) = &leg.ca else {
            return Ok(Arc::new(Lenient { provider, authorities: None }));
        };
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(ca) {
            let certificate = certificate.map_err(|error| wrong(path, error))?;
            roots.add(certificate).map_err(|error| wrong(path, error))?;
        }
        if roots.is_empty() {
            return Err(wrong(path, "it holds no certificate"));
        }
        let strict = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
            .build()
            .map_err(|error| wrong(path, error))?;
        Ok(match leg.tls {
            TlsMode::VerifyFull => strict,
            _ => Arc::new(Lenient { provider, authorities: Some(strict) }),
        })
    }
}

fn server_name(leg: &Leg, address: IpAddr) -> Result<ServerName<'static>, UpstreamTlsError> {
    match &leg.server_name {
        None => Ok(ServerName::IpAddress(address.to_canonical().into())),
        Some(name) => {
            ServerName::try_from(name.to_string()).map_err(|_| UpstreamTlsError::Name(name.clone()))
        }
    }
}

fn contents(path: &Path) -> Result<Vec<u8>, UpstreamTlsError> {
    std::fs::read(path).map_err(|error| wrong(path, error))
}

fn wrong(path: &Path, reason: impl ToString) -> UpstreamTlsError {
    UpstreamTlsError::File { path: path.to_owned(), reason: reason.to_string() }
}

/// What a server's certificate gives to a proof that is bound to it: its hash, by the hash function it was signed
/// with, or SHA-256 where that is weaker or there is none (RFC 5929, section 4.1, `tls-server-end-point`).
pub fn end_point(stream: &Stream) -> Option<Vec<u8>> {
    let Stream::Tls(stream) = stream else { return None };
    let certificate = stream.get_ref().1.peer_certificates()?.first()?;
    let parsed = x509_cert::Certificate::from_der(certificate).ok()?;
    Some(match parsed.signature_algorithm.oid {
        db::rfc5912::ECDSA_WITH_SHA_384 | db::rfc5912::SHA_384_WITH_RSA_ENCRYPTION => {
            Sha384::digest(certificate).to_vec()
        }
        db::rfc5912::ECDSA_WITH_SHA_512 | db::rfc5912::SHA_512_WITH_RSA_ENCRYPTION => {
            Sha512::digest(certificate).to_vec()
        }
        db::rfc5912::ECDSA_WITH_SHA_256
        | db::rfc5912::SHA_256_WITH_RSA_ENCRYPTION
        | db::rfc5912::SHA_1_WITH_RSA_ENCRYPTION => Sha256::digest(certificate).to_vec(),
        // Others name their hash in parameters, or have none: the standard leaves those undefined.
        _ => return None,
    })
}

/// Believes whoever proves to have the certificate's key; where there are authorities, only with a certificate of
/// theirs, whatever name it bears.
#[derive(Debug)]
struct Lenient {
    provider: Arc<CryptoProvider>,
    authorities: Option<Arc<WebPkiServerVerifier>>,
}

impl ServerCertVerifier for Lenient {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, TlsError> {
        let Some(authorities) = &self.authorities else { return Ok(ServerCertVerified::assertion()) };
        let verified =
            authorities.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now);
        match verified {
            // The name is looked at last, once the chain has been found good.
            Err(TlsError::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) => Ok(ServerCertVerified::assertion()),
            verified => verified,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        verify_tls12_signature(
            message,
            certificate,
            signature,
            &self.provider.signature_verification_algorithms,
        )
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        verify_tls13_signature(
            message,
            certificate,
            signature,
            &self.provider.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
