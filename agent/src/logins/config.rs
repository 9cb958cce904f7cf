//! `[[credential]]` of the configuration: a login that the agent uses at servers.

use std::path::PathBuf;

use serde::Deserialize;

/// One `[[credential]]`. The password comes from at most one of `password_file`, `systemd_credential` and
/// `helper`. A client certificate may stand beside the password, or take its place.
/// [`Logins::new`](super::Logins::new) refuses a table that breaks these rules.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LoginConfig {
    /// The name by which `upstreams.toml` refers to this login; unique.
    pub name: Box<str>,
    /// The role to log in as, unless the helper prints one. Default: the role that the job's client names.
    pub user: Option<Box<str>>,
    /// A file that holds the password, by its absolute path. It must not be readable by everyone.
    pub password_file: Option<PathBuf>,
    /// The name of the systemd credential that holds the password (`LoadCredential=`).
    pub systemd_credential: Option<Box<str>>,
    /// A program, by its absolute path, and its arguments. The program prints a JSON object with `password`
    /// and, optionally, `user` (a role) and `expires` (RFC 3339).
    pub helper: Option<Vec<String>>,
    /// A file that holds the client certificate and its chain, PEM; requires `key`.
    pub certificate: Option<PathBuf>,
    /// A file that holds the certificate's key, PEM; requires `certificate`.
    pub key: Option<PathBuf>,
}
