//! Where a session leads, as policies and the audit trail see it.

/// The target of one session. It is made when the client has said all that belongs to it, and never changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// The upstream's name in the policy bundle; empty for a destination that no upstream declares.
    pub upstream: Box<str>,
    /// The destination that the job's process connected to, as `address:port` or `[address]:port`.
    pub address: Box<str>,
    /// What the client has chosen within the upstream.
    pub scope: Scope,
}

/// What a client has chosen within its upstream, by protocol.
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
    /// The [`Scope::Sql`] of this database and role.
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

    /// The role, or the empty string where there is none.
    pub fn role(&self) -> &str {
        match self {
            Self::Connection => "",
            Self::Sql { role, .. } => role,
        }
    }
}
