//! `[[credential]]` of the configuration.

use std::path::PathBuf;

use serde::Deserialize;

/// One `[[credential]]`: at most one source of a password, and a client certificate or not; one of both must
/// be there.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LoginConfig {
    /// What `upstreams.toml` calls it; unique.
    pub name: Box<str>,
    /// The role to log in as. Default: the one that the job's client names.
    pub user: Option<Box<str>>,
    /// A file that holds the password, by its absolute path. It must not be readable by everyone.
    pub password_file: Option<PathBuf>,
    /// The name of the systemd credential that holds the password (`LoadCredential=`).
    pub systemd_credential: Option<Box<str>>,
    /// A program, by its absolute path, and its arguments. It prints the password as JSON: `password`, and,
    /// if it likes, `user` and `expires` (RFC 3339).
    pub helper: Option<Vec<String>>,
    /// A client certificate, PEM; goes with `key`.
    pub certificate: Option<PathBuf>,
    /// The certificate's key, PEM.
    pub key: Option<PathBuf>,
}
