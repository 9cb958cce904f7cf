//! Why there is no TLS with an upstream.

use std::{
    io,
    path::{Path, PathBuf},
};

use thiserror::Error;
use tokio_rustls::rustls::Error as TlsError;

/// Why there is no TLS with an upstream.
#[derive(Debug, Error)]
pub enum UpstreamTlsError {
    /// A file of certificates or keys can't be used.
    #[error("{path}: {reason}")]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The name that the upstream's certificate is to bear can't be one.
    #[error("{0:?} is no server name: it must be a DNS name or an IP address")]
    Name(Box<str>),
    /// The TLS library refuses the configuration.
    #[error("TLS cannot be set up: {0}")]
    Config(#[from] TlsError),
    /// The handshake failed.
    #[error("the TLS handshake failed: {0}")]
    Handshake(io::Error),
}

impl UpstreamTlsError {
    /// What is wrong with a file.
    pub(super) fn file(path: &Path, reason: impl ToString) -> Self {
        Self::File { path: path.to_owned(), reason: reason.to_string() }
    }
}
