//! Why there is no authority, or no certificate of it.

use std::path::{Path, PathBuf};

use thiserror::Error;

/// Why there is no authority, or no certificate of it.
#[derive(Debug, Error)]
pub enum AuthorityError {
    /// A file can't be read or written.
    #[error("cannot {action} {path}: {source}")]
    File {
        /// What was tried, as words that go before the path.
        action: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A file of the authority has the wrong content or permissions.
    #[error("{path} {reason}: restore it, or move it away to have a new authority made")]
    Unusable {
        /// The file.
        path: PathBuf,
        /// What is wrong, as words that follow the path.
        reason: &'static str,
    },
    /// The file of the system's authorities is too large to be published.
    #[error(
        "{path} has more than {bytes_max} bytes: set tls.system_roots to the file of the system's authorities"
    )]
    SystemRoots {
        /// The file.
        path: PathBuf,
        /// The most it may have.
        bytes_max: u64,
    },
    /// A certificate can't be made.
    #[error("cannot make a certificate: {0}")]
    Certificate(#[from] rcgen::Error),
    /// A certificate can't be served.
    #[error("cannot serve a certificate: {0}")]
    Config(#[from] tokio_rustls::rustls::Error),
}

/// For `map_err` around what was tried with a file.
pub(super) fn file_error<'a>(
    action: &'static str,
    path: &'a Path,
) -> impl FnOnce(std::io::Error) -> AuthorityError + 'a {
    move |source| AuthorityError::File { action, path: path.to_owned(), source }
}
