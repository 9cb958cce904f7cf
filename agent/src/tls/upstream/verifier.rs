//! How far an upstream's certificate must be good, in the words of libpq's `sslmode`: `require` accepts any,
//! `verify-ca` one of the given authorities, `verify-full` one that bears the server's name as well.

use std::{path::Path, sync::Arc};

use agent_policy::{Leg, TlsMode};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime, pem::PemObject};
use tokio_rustls::rustls::{
    CertificateError, DigitallySignedStruct, Error as TlsError, RootCertStore, SignatureScheme,
    client::{
        WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature},
};

use super::error::UpstreamTlsError;

/// The verifier that an upstream asks for; `ca` is the content of its file of authorities, empty if it names
/// none.
pub(super) fn verifier(
    leg: &Leg,
    ca: &[u8],
    provider: &Arc<CryptoProvider>,
) -> Result<Arc<dyn ServerCertVerifier>, UpstreamTlsError> {
    let provider = Arc::clone(provider);
    let Some(path) = &leg.ca else {
        return Ok(Arc::new(NamelessVerifier { provider, authorities: None }));
    };
    let authorities = authorities(path, ca, &provider)?;
    Ok(match leg.tls {
        TlsMode::VerifyFull => authorities,
        _ => Arc::new(NamelessVerifier { provider, authorities: Some(authorities) }),
    })
}

/// Accepts certificates that bear the server's name and were issued by the authorities in `pem`, the content
/// of `path`.
fn authorities(
    path: &Path,
    pem: &[u8],
    provider: &Arc<CryptoProvider>,
) -> Result<Arc<WebPkiServerVerifier>, UpstreamTlsError> {
    let wrong = |error: &dyn ToString| UpstreamTlsError::file(path, error.to_string());
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem) {
        let certificate = certificate.map_err(|error| wrong(&error))?;
        roots.add(certificate).map_err(|error| wrong(&error))?;
    }
    if roots.is_empty() {
        return Err(wrong(&"it holds no certificate"));
    }
    WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider))
        .build()
        .map_err(|error| wrong(&error))
}

/// Accepts a certificate whatever name it bears: any at all, or, where `authorities` are given, one of
/// theirs. Both require that the server proves to hold the certificate's key.
#[derive(Debug)]
pub(super) struct NamelessVerifier {
    pub(super) provider: Arc<CryptoProvider>,
    pub(super) authorities: Option<Arc<WebPkiServerVerifier>>,
}

impl ServerCertVerifier for NamelessVerifier {
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
            // The library checks the name last: the chain of certificates has been found good.
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
