//! The protocols that an upstream can speak: the names that `upstreams.toml` and policies use.

use serde::{Deserialize, Serialize};

/// The protocol that an upstream speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// PostgreSQL: each statement is decided.
    Postgres,
    /// Any other: only the connection is decided, and its content is not read.
    Tcp,
}

impl Protocol {
    /// Its name in `upstreams.toml` and in policies.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Postgres => "postgres",
            Self::Tcp => "tcp",
        }
    }

    /// Why an upstream that speaks it can have neither TLS nor a login of the agent's; `None` where it can.
    pub(super) const fn without_leg(self) -> Option<&'static str> {
        match self {
            Self::Postgres => None,
            Self::Tcp => {
                Some("speaks tcp, of which the agent reads nothing: it can have no tls, credential or role")
            }
        }
    }
}
