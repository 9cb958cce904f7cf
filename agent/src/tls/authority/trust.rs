//! The public directory: the files that jobs are told to trust.
//!
//! `ca.pem` holds the authority alone; `trust.pem` holds the system's own authorities as well, for programs
//! that can be given one file only. After a rotation both keep the authority before it, so that jobs with
//! open connections, or with an older copy of the files, go on working.

use std::{
    fs,
    io::ErrorKind,
    path::{Path, PathBuf},
};

use serde::Deserialize;

use super::{
    error::{AuthorityError, file_error},
    signer::{certificate_file, last_certificate_file},
};
use crate::files;

/// The largest file of system authorities that is read. Those that systems ship have well under 1 MiB.
const SYSTEM_ROOTS_BYTES_MAX: u64 = 16 << 20;

/// `[tls]` of the configuration.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TlsConfig {
    /// The directory where jobs find what to trust. It is made if it is missing. Default: `/run/lineal/tls`.
    pub public_dir: PathBuf,
    /// The system's own certificate authorities, a PEM file of at most 16 MiB; it may be missing. Default:
    /// `/etc/ssl/certs/ca-certificates.crt`.
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

/// The files that jobs are told to trust.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trust {
    /// The host's authority alone, PEM.
    pub authority: PathBuf,
    /// The system's authorities and the host's, PEM.
    pub all: PathBuf,
}

impl Trust {
    /// Where the files are, published or not.
    pub(super) fn of(config: &TlsConfig) -> Self {
        Self { authority: config.public_dir.join("ca.pem"), all: config.public_dir.join("trust.pem") }
    }

    /// Writes the files from the certificates in the state directory and the system's authorities.
    pub(super) fn publish(config: &TlsConfig, state_dir: &Path) -> Result<(), AuthorityError> {
        fs::create_dir_all(&config.public_dir).map_err(file_error("make", &config.public_dir))?;
        let mut own = Vec::new();
        for file in [certificate_file(state_dir), last_certificate_file(state_dir)] {
            match fs::read(&file) {
                Ok(pem) => own.extend_from_slice(&pem),
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) => return Err(file_error("read", &file)(error)),
            }
        }
        let Self { authority, all } = Self::of(config);
        files::replace(&authority, &own, 0o644).map_err(file_error("write", &authority))?;
        let mut system = system_roots(&config.system_roots)?;
        system.extend_from_slice(&own);
        files::replace(&all, &system, 0o644).map_err(file_error("write", &all))
    }
}

/// The system's authorities, PEM; empty on a host that has none.
fn system_roots(path: &Path) -> Result<Vec<u8>, AuthorityError> {
    match fs::metadata(path) {
        Ok(metadata) if metadata.len() > SYSTEM_ROOTS_BYTES_MAX => {
            Err(AuthorityError::SystemRoots { path: path.to_owned(), bytes_max: SYSTEM_ROOTS_BYTES_MAX })
        }
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(Vec::new()),
        _ => fs::read(path).map_err(file_error("read", path)),
    }
}
