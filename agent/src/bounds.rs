//! The bounds that the agent itself keeps and that no other metric tells of, as `lineal_bounds_total` names them.
//! `docs/operations.md` says how large each is and what happens at it.

/// A bound of the agent's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bound {
    /// Connections accepted and not yet taken by a session's thread.
    AcceptedConnections,
    /// Certificates kept for names that clients ask for.
    Certificates,
    /// Idle sessions that are closed at their servers at once.
    Closings,
    /// Control connections, of all users and of one.
    ControlConnections,
    /// Decisions that a session's cache keeps.
    Decisions,
    /// Live jobs.
    Jobs,
    /// Length of a statement.
    MessageBytes,
    /// Statements and portals that a session names.
    Names,
    /// Network namespaces with jobs.
    Namespaces,
    /// Prepared statements of a session, and their bytes.
    PreparedStatements,
    /// Processes followed, where one that runs already would be one too many.
    Processes,
    /// Readings of statements that a session keeps.
    Readings,
    /// Kept revocations.
    Revocations,
    /// Scrapes of the metrics at once.
    Scrapes,
    /// Used tokens that are remembered.
    UsedTokens,
}

impl Bound {
    /// Each of them.
    pub const ALL: [Self; 15] = [
        Self::AcceptedConnections,
        Self::Certificates,
        Self::Closings,
        Self::ControlConnections,
        Self::Decisions,
        Self::Jobs,
        Self::MessageBytes,
        Self::Names,
        Self::Namespaces,
        Self::PreparedStatements,
        Self::Processes,
        Self::Readings,
        Self::Revocations,
        Self::Scrapes,
        Self::UsedTokens,
    ];

    /// Its `bound` label.
    pub const fn label(self) -> &'static str {
        match self {
            Self::AcceptedConnections => "accepted_connections",
            Self::Certificates => "certificates",
            Self::Closings => "closings",
            Self::ControlConnections => "control_connections",
            Self::Decisions => "decisions",
            Self::Jobs => "jobs",
            Self::MessageBytes => "message_bytes",
            Self::Names => "names",
            Self::Namespaces => "namespaces",
            Self::PreparedStatements => "prepared_statements",
            Self::Processes => "processes",
            Self::Readings => "readings",
            Self::Revocations => "revocations",
            Self::Scrapes => "scrapes",
            Self::UsedTokens => "used_tokens",
        }
    }
}

/// What a refusal owes to a bound.
pub trait Bounded: std::error::Error {
    /// The bound that was reached, if one was.
    fn bound(&self) -> Option<Bound>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_operations_guide_names_every_bound() {
        let guide = include_str!("../../docs/operations.md");
        for bound in Bound::ALL {
            let label = bound.label();
            assert!(
                guide.contains(&format!("`lineal_bounds_total{{bound=\"{label}\"}}`")),
                "docs/operations.md does not tell of {label}"
            );
        }
    }
}
