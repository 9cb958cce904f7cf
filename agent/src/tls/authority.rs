//! The host's certificate authority. It vouches to this host's jobs that the agent is the server they meant; it is
//! made on the first start, and its key never leaves the state directory.
//!
//! What jobs are to trust lies in a public directory: `ca.pem`, the authority alone, and `trust.pem`, the system's
//! own authorities and it, for programs that can be given one file only. After a rotation the last authority stays
//! in both, so that a job that has read them goes on.

use std::{
    collections::HashMap,
    fs,
    io::ErrorKind,
    net::IpAddr,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime},
};

use prometheus::IntCounter;
use rcgen::{
    BasicConstraints, Certificate, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose,
    IsCa, Issuer, KeyPair, KeyUsagePurpose, PublicKeyData, SanType,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use serde::Deserialize;
use sha2::{Digest, Sha256};
use thiserror::Error;
use tokio_rustls::rustls::{ServerConfig, crypto::ring, server::NoServerSessionStorage};
use x509_cert::der::Decode;

use crate::files;

/// How long the authority is good for.
const AUTHORITY_AGE_MAX: Duration = Duration::from_secs(365 * DAY_S);
/// One that is good for less is replaced: a job may last that long.
const AUTHORITY_LEFT_MIN: Duration = Duration::from_secs(90 * DAY_S);
/// How long a certificate for a server's name is good for.
const LEAF_AGE_MAX: Duration = Duration::from_secs(7 * DAY_S);
/// A certificate is made anew after this.
const LEAF_RENEWAL: Duration = Duration::from_secs(DAY_S);
/// How far a job's clock may be behind.
const SKEW: Duration = Duration::from_secs(3_600);
const DAY_S: u64 = 86_400;
/// Certificates kept at once; beyond that all are made anew.
const NAMES_MAX: usize = 1_024;
/// A job may wait for the file with everything in it: of the sizes that systems ship, none comes near.
const SYSTEM_ROOTS_BYTES_MAX: u64 = 16 << 20;
/// ALPN of PostgreSQL (the IANA registry's name).
pub(super) const POSTGRES_ALPN: &[u8] = b"postgresql";

/// `[tls]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TlsConfig {
    /// Where jobs find what to trust.
    pub public_dir: PathBuf,
    /// The system's own authorities.
    pub system_roots: PathBuf,
}

impl Default for TlsConfig {
    fn default() -> Self {
        Self {
            public_dir: "/run/lineal/tls".into(),
            system_roots: "/etc/ssl/certs/ca-certificates.crt".into(),
        }
    }
}

/// Where a job finds what to trust.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trust {
    /// The authority alone.
    pub authority: PathBuf,
    /// The system's authorities and it.
    pub all: PathBuf,
}

/// Why there is no authority.
#[derive(Debug, Error)]
pub enum AuthorityError {
    /// A file can't be read or written.
    #[error("cannot {action} {path}: {source}")]
    File {
        /// What was done.
        action: &'static str,
        /// With which file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A file is not what it should be.
    #[error("{path} {reason}: restore it, or move it away to have a new authority made")]
    Unusable {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: &'static str,
    },
    /// A certificate can't be made.
    #[error("cannot make a certificate: {0}")]
    Certificate(#[from] rcgen::Error),
    /// A certificate can't be served.
    #[error("cannot serve a certificate: {0}")]
    Config(#[from] tokio_rustls::rustls::Error),
}

fn file_error<'a>(
    action: &'static str,
    path: &'a Path,
) -> impl FnOnce(std::io::Error) -> AuthorityError + 'a {
    move |source| AuthorityError::File { action, path: path.to_owned(), source }
}

/// The host's authority.
pub struct Authority {
    state_dir: PathBuf,
    config: TlsConfig,
    issuing: Mutex<Issuing>,
    /// How often [`NAMES_MAX`] was reached.
    made_anew: IntCounter,
}

/// What is in use now.
struct Issuing {
    issuer: Issuer<'static, KeyPair>,
    /// When it ends.
    ends: SystemTime,
    /// Certificates for servers, by what they are called and where they are.
    leaves: HashMap<(Option<Box<str>>, IpAddr), Leaf>,
}

struct Leaf {
    config: Arc<ServerConfig>,
    made: SystemTime,
}

impl Authority {
    /// Reads the authority from `state_dir`, or makes it there, and publishes what jobs are to trust.
    /// `made_anew` counts how often [`NAMES_MAX`] is reached.
    pub fn open(state_dir: &Path, config: &TlsConfig, made_anew: IntCounter) -> Result<Self, AuthorityError> {
        let issuing = match read(state_dir)? {
            Some(issuing) => issuing,
            None => make(state_dir)?,
        };
        let authority = Self {
            state_dir: state_dir.to_owned(),
            config: config.clone(),
            issuing: Mutex::new(issuing),
            made_anew,
        };
        authority.renew()?;
        authority.publish()?;
        Ok(authority)
    }

    /// Where jobs find what to trust.
    pub fn trust(&self) -> Trust {
        let public = &self.config.public_dir;
        Trust { authority: public.join("ca.pem"), all: public.join("trust.pem") }
    }

    /// Replaces the authority: new connections get certificates of the new one at once.
    pub fn rotate(&self) -> Result<(), AuthorityError> {
        let mut issuing = self.locked();
        let current = certificate_file(&self.state_dir);
        let last = last_file(&self.state_dir);
        fs::copy(&current, &last).map_err(file_error("keep the last authority in", &last))?;
        *issuing = make(&self.state_dir)?;
        drop(issuing);
        self.publish()
    }

    /// Replaces an authority that is about to end.
    pub fn renew(&self) -> Result<(), AuthorityError> {
        let left = self.locked().ends.duration_since(SystemTime::now()).unwrap_or_default();
        if left < AUTHORITY_LEFT_MIN { self.rotate() } else { Ok(()) }
    }

    /// What a client is served that asks `address` for `name`.
    pub fn server(&self, name: Option<&str>, address: IpAddr) -> Result<Arc<ServerConfig>, AuthorityError> {
        let now = SystemTime::now();
        let key = (name.map(Box::from), address);
        let mut issuing = self.locked();
        if let Some(leaf) = issuing.leaves.get(&key)
            && now.duration_since(leaf.made).is_ok_and(|age| age < LEAF_RENEWAL)
        {
            return Ok(Arc::clone(&leaf.config));
        }
        let config = Arc::new(leaf(&issuing.issuer, name, address, now)?);
        if issuing.leaves.len() >= NAMES_MAX {
            self.made_anew.inc();
            issuing.leaves.clear();
        }
        issuing.leaves.insert(key, Leaf { config: Arc::clone(&config), made: now });
        Ok(config)
    }

    fn publish(&self) -> Result<(), AuthorityError> {
        let public = &self.config.public_dir;
        fs::create_dir_all(public).map_err(file_error("make", public))?;
        let mut own = Vec::new();
        for file in [certificate_file(&self.state_dir), last_file(&self.state_dir)] {
            match fs::read(&file) {
                Ok(pem) => own.extend_from_slice(&pem),
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) => return Err(file_error("read", &file)(error)),
            }
        }
        let Trust { authority, all } = self.trust();
        files::replace(&authority, &own, 0o644).map_err(file_error("write", &authority))?;
        let roots = &self.config.system_roots;
        let mut system = match fs::metadata(roots) {
            Ok(metadata) if metadata.len() > SYSTEM_ROOTS_BYTES_MAX => {
                return Err(AuthorityError::Unusable { path: roots.clone(), reason: "is too large" });
            }
            // A host without any has nothing to add.
            Err(error) if error.kind() == ErrorKind::NotFound => Vec::new(),
            _ => fs::read(roots).map_err(file_error("read", roots))?,
        };
        system.extend_from_slice(&own);
        files::replace(&all, &system, 0o644).map_err(file_error("write", &all))
    }

    fn locked(&self) -> MutexGuard<'_, Issuing> {
        // What a panic may leave is at worst a certificate that is made anew.
        self.issuing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn key_file(state_dir: &Path) -> PathBuf {
    state_dir.join("authority.key")
}

fn certificate_file(state_dir: &Path) -> PathBuf {
    state_dir.join("authority.pem")
}

fn last_file(state_dir: &Path) -> PathBuf {
    state_dir.join("authority-last.pem")
}

/// The authority that lies in the state directory, if one does.
fn read(state_dir: &Path) -> Result<Option<Issuing>, AuthorityError> {
    use std::os::unix::fs::PermissionsExt;
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
    let issuer = Issuer::new(authority_params(&key), key);
    let certificate = CertificateDer::from_pem_file(&path).ok();
    let certificate = certificate.as_deref().and_then(|der| x509_cert::Certificate::from_der(der).ok());
    let certificate = certificate.filter(|certificate| {
        certificate.tbs_certificate.subject_public_key_info.subject_public_key.raw_bytes()
            == issuer.key().public_key_raw()
    });
    // A crash between writing the key and writing the certificate leaves a key alone.
    let Some(certificate) = certificate else { return Ok(None) };
    let ends = certificate.tbs_certificate.validity.not_after.to_system_time();
    Ok(Some(Issuing { issuer, ends, leaves: HashMap::new() }))
}

/// Makes an authority and lays it into the state directory.
fn make(state_dir: &Path) -> Result<Issuing, AuthorityError> {
    let key = KeyPair::generate()?;
    let now = SystemTime::now();
    let ends = now + AUTHORITY_AGE_MAX;
    let mut params = authority_params(&key);
    params.not_before = (now - SKEW).into();
    params.not_after = ends.into();
    let certificate = params.self_signed(&key)?;
    let (key_path, path) = (key_file(state_dir), certificate_file(state_dir));
    files::replace(&key_path, key.serialize_pem().as_bytes(), 0o600)
        .map_err(file_error("write", &key_path))?;
    files::replace(&path, certificate.pem().as_bytes(), 0o644).map_err(file_error("write", &path))?;
    Ok(Issuing { issuer: Issuer::new(params, key), ends, leaves: HashMap::new() })
}

/// What an authority is called follows from its key, so that two never share a name.
fn authority_params(key: &KeyPair) -> CertificateParams {
    let digest = Sha256::digest(key.subject_public_key_info());
    let short: String = digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, format!("lineal host authority {short}"));
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

/// A certificate for a server of that name at that address, ready to be served.
fn leaf(
    issuer: &Issuer<'_, KeyPair>,
    name: Option<&str>,
    address: IpAddr,
    now: SystemTime,
) -> Result<ServerConfig, AuthorityError> {
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::OrganizationName, "lineal");
    if let Some(name) = name {
        params.subject_alt_names.push(SanType::DnsName(name.try_into()?));
    }
    params.subject_alt_names.push(SanType::IpAddress(address.to_canonical()));
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.use_authority_key_identifier_extension = true;
    params.not_before = (now - SKEW).into();
    params.not_after = (now + LEAF_AGE_MAX).into();
    let certificate: Certificate = params.signed_by(&key, issuer)?;
    let provider = Arc::new(ring::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(vec![certificate.into()], key.into())?;
    config.alpn_protocols = vec![POSTGRES_ALPN.to_vec()];
    // PostgreSQL resumes no TLS sessions, and its clients ask for none.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(config)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    const ADDRESS: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 7));

    struct Place {
        dir: tempfile::TempDir,
        config: TlsConfig,
    }

    impl Place {
        fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            let roots = dir.path().join("roots.pem");
            fs::write(&roots, "the system's\n").unwrap();
            let config = TlsConfig { public_dir: dir.path().join("public"), system_roots: roots };
            Self { dir, config }
        }

        fn open(&self) -> Result<Authority, AuthorityError> {
            let made_anew = IntCounter::new("made_anew", "made anew").unwrap();
            Authority::open(self.dir.path(), &self.config, made_anew)
        }

        fn published(&self) -> String {
            fs::read_to_string(self.config.public_dir.join("ca.pem")).unwrap()
        }
    }

    #[test]
    fn the_authority_is_made_once_and_its_key_is_root_s_alone() {
        let place = Place::new();
        drop(place.open().unwrap());
        let first = place.published();
        let mode = fs::metadata(place.dir.path().join("authority.key")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        drop(place.open().unwrap());
        assert_eq!(place.published(), first);
        let all = fs::read_to_string(place.config.public_dir.join("trust.pem")).unwrap();
        assert_eq!(all, format!("the system's\n{first}"));
    }

    #[test]
    fn a_key_that_others_can_read_is_not_used() {
        let place = Place::new();
        drop(place.open().unwrap());
        let key = place.dir.path().join("authority.key");
        fs::set_permissions(&key, fs::Permissions::from_mode(0o640)).unwrap();
        assert!(place.open().err().unwrap().to_string().contains("can be read by others"));
    }

    #[test]
    fn after_a_rotation_both_are_trusted_and_the_new_one_serves() {
        let place = Place::new();
        let authority = place.open().unwrap();
        let first = place.published();
        let before = authority.server(Some("db.example"), ADDRESS).unwrap();
        assert!(Arc::ptr_eq(&before, &authority.server(Some("db.example"), ADDRESS).unwrap()));
        authority.rotate().unwrap();
        let both = place.published();
        assert!(both.ends_with(&first) && both.len() > first.len());
        assert!(!Arc::ptr_eq(&before, &authority.server(Some("db.example"), ADDRESS).unwrap()));
        drop(place.open().unwrap());
        assert_eq!(place.published(), both);
    }

    #[test]
    fn a_key_without_its_certificate_is_an_unfinished_start() {
        let place = Place::new();
        drop(place.open().unwrap());
        fs::remove_file(place.dir.path().join("authority.pem")).unwrap();
        place.open().unwrap();
        assert!(place.published().contains("BEGIN CERTIFICATE"));
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let place = Place::new();
        let authority = place.open().unwrap();
        for i in 0..NAMES_MAX + 10 {
            authority.server(Some(&format!("n{i}.example")), ADDRESS).unwrap();
        }
        assert!(authority.locked().leaves.len() <= NAMES_MAX);
        assert_eq!(authority.made_anew.get(), 1);
    }
}
