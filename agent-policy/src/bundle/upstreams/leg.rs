//! How the agent reaches an upstream: how it uses TLS, and as whom it logs in.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// The connection from the agent to an upstream.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Leg {
    /// How far TLS is required and verified.
    pub tls: TlsMode,
    /// The certificate authorities that the server's certificate is verified against: a PEM file on the host.
    pub ca: Option<PathBuf>,
    /// The name that the server's certificate must have; the server's address if none is given.
    pub server_name: Option<Box<str>>,
    /// The agent refuses TLS to the job's client, as a server without TLS does.
    pub declines_tls: bool,
    /// The login that the agent uses, by its name in the agent's configuration; `None` if the job's own
    /// password is passed on. The key in `upstreams.toml` is `credential`.
    pub login: Option<Box<str>>,
    /// Logins for members of groups. They take precedence over `login`.
    pub roles: Vec<Role>,
}

/// How far TLS is required and verified, with the names of libpq's `sslmode`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum TlsMode {
    /// No TLS.
    Disable,
    /// TLS if the server has it. The certificate is not verified.
    #[default]
    Prefer,
    /// TLS. The certificate is not verified.
    Require,
    /// TLS with a certificate that one of the configured authorities has issued.
    VerifyCa,
    /// As [`TlsMode::VerifyCa`], and the certificate has the server's name.
    VerifyFull,
}

/// The login for members of one group.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Role {
    /// The group.
    pub group: Box<str>,
    /// The login, by its name in the agent's configuration.
    #[serde(rename = "credential")]
    pub login: Box<str>,
}

impl Leg {
    /// Whether a job's own login may be relayed over it, with TLS on this leg and on the client's.
    pub(crate) fn relays_logins_over_tls(&self) -> bool {
        self.login.is_none() && self.tls != TlsMode::Disable && !self.declines_tls
    }

    /// The login for a member of `groups`: that of the first role with one of these groups, or else the
    /// upstream's own.
    pub fn login_for(&self, groups: &[impl AsRef<str>]) -> Option<&str> {
        let role = self.roles.iter().find(|role| groups.iter().any(|group| group.as_ref() == &*role.group));
        role.map(|role| &role.login).or(self.login.as_ref()).map(|name| &**name)
    }

    /// Every login that a session could need.
    pub fn logins(&self) -> impl Iterator<Item = &str> {
        self.roles.iter().map(|role| &role.login).chain(&self.login).map(|name| &**name)
    }
}

/// The keys of an `[[upstream]]` that describe its leg.
pub(super) struct LegEntry {
    pub(super) tls: Option<TlsEntry>,
    pub(super) login: Option<Box<str>>,
    pub(super) roles: Vec<Role>,
}

/// The keys of `[upstream.tls]`.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct TlsEntry {
    mode: Option<TlsMode>,
    ca: Option<PathBuf>,
    server_name: Option<Box<str>>,
    offer: Option<bool>,
}

impl LegEntry {
    /// The leg; or what is wrong with it, in words that follow the upstream's name.
    pub(super) fn check(self) -> Result<Leg, &'static str> {
        let Self { tls, login, roles } = self;
        let TlsEntry { mode, ca, server_name, offer } = tls.unwrap_or_default();
        let tls = mode.unwrap_or(if ca.is_some() { TlsMode::VerifyFull } else { TlsMode::Prefer });
        let verified = matches!(tls, TlsMode::VerifyCa | TlsMode::VerifyFull);
        match (verified, &ca) {
            (true, None) => return Err("needs a tls.ca: its tls.mode verifies certificates against that"),
            (false, Some(_)) => {
                return Err("has a tls.ca that its tls.mode does not use: verify-ca and verify-full do");
            }
            _ => {}
        }
        if ca.as_ref().is_some_and(|ca| !ca.is_absolute()) {
            return Err("has a tls.ca that is not an absolute path");
        }
        if server_name.is_some() && tls != TlsMode::VerifyFull {
            return Err("has a tls.server_name that its tls.mode does not use: verify-full does");
        }
        if server_name.as_ref().is_some_and(|name| name.is_empty()) {
            return Err("has an empty tls.server_name");
        }
        if !roles.is_empty() && login.is_none() {
            return Err("has roles, but no credential for jobs that are in none of their groups");
        }
        Ok(Leg { tls, ca, server_name, declines_tls: offer == Some(false), login, roles })
    }

    /// True if none of the keys is set.
    pub(super) fn is_empty(&self) -> bool {
        self.tls.is_none() && self.login.is_none() && self.roles.is_empty()
    }
}
