//! The authority's key and certificate, and the files in the state directory that keep them.
//!
//! The key never leaves the state directory, and one that other users could have read is never used.

use std::{
    fs,
    io::ErrorKind,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    PublicKeyData,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use sha2::{Digest, Sha256};
use x509_cert::der::Decode;

use super::error::{AuthorityError, file_error};
use crate::files;

/// Certificates are valid from this long before they are made: a job's clock may be behind.
pub(super) const CLOCK_SKEW: Duration = Duration::from_secs(3_600);
/// How long a new authority is good for.
const AGE_MAX: Duration = Duration::from_secs(365 * 86_400);

/// What certificates are signed with.
pub(super) struct Signer {
    pub(super) issuer: Issuer<'static, KeyPair>,
    /// When the authority's own certificate expires.
    pub(super) expires: SystemTime,
}

fn key_file(state_dir: &Path) -> PathBuf {
    state_dir.join("authority.key")
}

/// The authority's certificate, PEM.
pub(super) fn certificate_file(state_dir: &Path) -> PathBuf {
    state_dir.join("authority.pem")
}

/// The certificate of the authority before the last rotation, PEM; absent until the first rotation.
pub(super) fn last_certificate_file(state_dir: &Path) -> PathBuf {
    state_dir.join("authority-last.pem")
}

impl Signer {
    /// The authority kept in the state directory; none on a first start, and where a crash left a key without
    /// its certificate.
    pub(super) fn read(state_dir: &Path) -> Result<Option<Self>, AuthorityError> {
        let (key_path, path) = (key_file(state_dir), certificate_file(state_dir));
        let metadata = match fs::metadata(&key_path) {
            Ok(metadata) => metadata,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(file_error("read", &key_path)(error)),
        };
        if metadata.permissions().mode() & 0o077 != 0 {
            let reason = "can be read by others, and has to count as known";
            return Err(AuthorityError::Unusable { path: key_path, reason });
        }
        let key = PrivateKeyDer::from_pem_file(&key_path)
            .ok()
            .and_then(|key| KeyPair::try_from(&key).ok())
            .ok_or(AuthorityError::Unusable { path: key_path, reason: "holds no private key" })?;
        let issuer = Issuer::new(params(&key), key);
        let certificate = CertificateDer::from_pem_file(&path).ok();
        let certificate = certificate.as_deref().and_then(|der| x509_cert::Certificate::from_der(der).ok());
        let certificate = certificate.filter(|certificate| {
            certificate.tbs_certificate.subject_public_key_info.subject_public_key.raw_bytes()
                == issuer.key().public_key_raw()
        });
        // The key is written first: a crash before the certificate was written leaves the key alone.
        let Some(certificate) = certificate else { return Ok(None) };
        let expires = certificate.tbs_certificate.validity.not_after.to_system_time();
        Ok(Some(Self { issuer, expires }))
    }

    /// Makes a new authority and writes it to the state directory, in place of the one there.
    pub(super) fn make(state_dir: &Path) -> Result<Self, AuthorityError> {
        let key = KeyPair::generate()?;
        let now = SystemTime::now();
        let expires = now + AGE_MAX;
        let mut params = params(&key);
        params.not_before = (now - CLOCK_SKEW).into();
        params.not_after = expires.into();
        let certificate = params.self_signed(&key)?;
        let (key_path, path) = (key_file(state_dir), certificate_file(state_dir));
        files::replace(&key_path, key.serialize_pem().as_bytes(), 0o600)
            .map_err(file_error("write", &key_path))?;
        files::replace(&path, certificate.pem().as_bytes(), 0o644).map_err(file_error("write", &path))?;
        Ok(Self { issuer: Issuer::new(params, key), expires })
    }
}

/// The fields of an authority's certificate. Its name is derived from its key, so that no two authorities
/// share one.
fn params(key: &KeyPair) -> CertificateParams {
    let digest = Sha256::digest(key.subject_public_key_info());
    let short: String = digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, format!("lineal host authority {short}"));
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}
