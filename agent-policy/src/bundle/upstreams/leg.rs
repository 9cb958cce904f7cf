//! How the agent reaches an upstream: how far it trusts the way there, and as whom it logs in.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// Towards an upstream.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Leg {
    /// What TLS is worth there.
    pub tls: TlsMode,
    /// The certificate authorities that vouch for the server, a PEM file on the host.
    pub ca: Option<PathBuf>,
    /// The name that the server's certificate must bear; its address unless given.
    pub server_name: Option<Box<str>>,
    /// A job's client that asks for TLS is told that there is none.
    pub declines_tls: bool,
    /// The credential that the agent logs in with, by its name in the agent's configuration; none where the job's
    /// own password is passed on.
    pub credential: Option<Box<str>>,
    /// Credentials for members of groups, before `credential`.
    pub roles: Vec<Role>,
}

/// What TLS is worth, in libpq's words (`sslmode`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum TlsMode {
    /// None.
    Disable,
    /// TLS if the server has it; whose it is does not matter.
    #[default]
    Prefer,
    /// TLS; whose it is does not matter.
    Require,
    /// TLS with a certificate of the authorities named.
    VerifyCa,
    /// The same, and the certificate bears the server's name.
    VerifyFull,
}

/// A group's own credential.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Role {
    /// The group.
    pub group: Box<str>,
    /// The credential.
    pub credential: Box<str>,
}

impl Leg {
    /// The credential for a member of `groups`: that of the first role that fits, or the upstream's own.
    pub fn credential_for(&self, groups: &[impl AsRef<str>]) -> Option<&str> {
        let role = self.roles.iter().find(|role| groups.iter().any(|group| group.as_ref() == &*role.group));
        role.map(|role| &role.credential).or(self.credential.as_ref()).map(|name| &**name)
    }

    /// Every credential that may be asked for.
    pub fn credentials(&self) -> impl Iterator<Item = &str> {
        self.roles.iter().map(|role| &role.credential).chain(&self.credential).map(|name| &**name)
    }
}

/// What an `[[upstream]]` says of how to get there.
pub(super) struct LegEntry {
    pub(super) tls: Option<TlsEntry>,
    pub(super) credential: Option<Box<str>>,
    pub(super) roles: Vec<Role>,
}

/// `[upstream.tls]`.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct TlsEntry {
    mode: Option<TlsMode>,
    ca: Option<PathBuf>,
    server_name: Option<Box<str>>,
    offer: Option<bool>,
}

impl LegEntry {
    /// What is said; or, in words that follow the upstream's name, why it can't be.
    pub(super) fn check(self) -> Result<Leg, &'static str> {
        let Self { tls, credential, roles } = self;
        let TlsEntry { mode, ca, server_name, offer } = tls.unwrap_or_default();
        let tls = mode.unwrap_or(if ca.is_some() { TlsMode::VerifyFull } else { TlsMode::Prefer });
        let verified = matches!(tls, TlsMode::VerifyCa | TlsMode::VerifyFull);
        match (verified, &ca) {
            (true, None) => return Err("verifies nothing without tls.ca"),
            (false, Some(_)) => return Err("has a tls.ca that its tls.mode does not look at"),
            _ => {}
        }
        if ca.as_ref().is_some_and(|ca| !ca.is_absolute()) {
            return Err("has a tls.ca that is no absolute path");
        }
        if server_name.is_some() && tls != TlsMode::VerifyFull {
            return Err("has a tls.server_name that its tls.mode does not look at");
        }
        if server_name.as_ref().is_some_and(|name| name.is_empty()) {
            return Err("has an empty tls.server_name");
        }
        if !roles.is_empty() && credential.is_none() {
            return Err("has roles and no credential for who is in none of their groups");
        }
        Ok(Leg { tls, ca, server_name, declines_tls: offer == Some(false), credential, roles })
    }

    /// Whether nothing is said.
    pub(super) fn is_silent(&self) -> bool {
        self.tls.is_none() && self.credential.is_none() && self.roles.is_empty()
    }
}
