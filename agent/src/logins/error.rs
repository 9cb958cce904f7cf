//! Why there is no login. No message holds a secret, or anything that a helper printed.

use std::path::PathBuf;

use thiserror::Error;

/// Why there is no login.
#[derive(Debug, Error)]
pub enum LoginsError {
    /// A `[[credential]]` can't be used.
    #[error("the [[credential]] {name:?} {reason}")]
    Config {
        /// Its name.
        name: Box<str>,
        /// What is wrong with it, as words that follow its name.
        reason: &'static str,
    },
    /// The configuration has none of this name.
    #[error(
        "there is no credential {0:?} in the agent's configuration: add a [[credential]] of that \
         name, or correct upstreams.toml"
    )]
    Unknown(Box<str>),
    /// A password file can't be used.
    #[error("{path}: {reason}")]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// systemd has given the agent no credentials.
    #[error("the agent has no systemd credentials: add LoadCredential= to its unit")]
    NoDirectory,
    /// The helper did not print a usable password.
    #[error("the helper {program} {reason}")]
    Helper {
        /// Its path.
        program: String,
        /// What went wrong, as words that follow its path.
        reason: String,
    },
}
