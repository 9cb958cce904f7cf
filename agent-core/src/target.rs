//! What a session is aimed at, as policies and the audit trail see it.

/// The target of one session. It stays the same for as long as the session lasts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// The upstream's name in the policy bundle; empty for a destination that no upstream declares.
    pub upstream: Box<str>,
    /// The original destination, `address:port`.
    pub address: Box<str>,
    /// What the session has chosen within the upstream.
    pub scope: Scope,
}

/// What a session has chosen within its upstream, by protocol.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Nothing: either the protocol has no such choice, or the client has not made it yet.
    Connection,
    /// A database, as a role.
    Sql {
        /// The database's name.
        database: Box<str>,
        /// The role that the session logs in as.
        role: Box<str>,
    },
}

impl Scope {
    /// A scope of SQL.
    pub fn sql(database: &str, role: &str) -> Self {
        Self::Sql { database: database.into(), role: role.into() }
    }

    /// The database, or the empty string where there is none.
    pub fn database(&self) -> &str {
        match self {
            Self::Connection => "",
            Self::Sql { database, .. } => database,
        }
    }

    /// The user at the upstream, or the empty string where there is none.
    pub fn role(&self) -> &str {
        match self {
            Self::Connection => "",
            Self::Sql { role, .. } => role,
        }
    }
}
