//! Names of the agent's own bounds, for the metric `lineal_bounds_total`. Bounds that have a metric of their
//! own are not here. `docs/operations.md` says how large each bound is and what happens when it is reached.

/// A bound of the agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bound {
    /// Accepted connections that no session thread has taken yet.
    AcceptedConnections,
    /// Kept certificates, one for each name that clients ask for.
    Certificates,
    /// Idle sessions whose upstream connections are being closed at the same time.
    Closings,
    /// Cgroups of jobs in which packets are seen.
    CoveredCgroups,
    /// Control connections: of all users together, and of one user.
    ControlConnections,
    /// Cached decisions of a session.
    Decisions,
    /// Live jobs.
    Jobs,
    /// Length of a message that holds a statement.
    MessageBytes,
    /// Named statements and portals of a session.
    Names,
    /// Network namespaces with jobs in them.
    Namespaces,
    /// Prepared statements of a session, and their bytes.
    PreparedStatements,
    /// Followed processes, when a process that runs already is to be enrolled. (The kernel side counts
    /// forks.)
    Processes,
    /// Cached readings of statements (their text turned into facts) of a session.
    Readings,
    /// Kept revocations.
    Revocations,
    /// Simultaneous scrapes of the metrics.
    Scrapes,
    /// Remembered uses of tokens.
    UsedTokens,
}

impl Bound {
    /// Every bound.
    pub const ALL: [Self; 16] = [
        Self::AcceptedConnections,
        Self::Certificates,
        Self::Closings,
        Self::CoveredCgroups,
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

    /// The bound's `bound` label.
    pub const fn label(self) -> &'static str {
        match self {
            Self::AcceptedConnections => "accepted_connections",
            Self::Certificates => "certificates",
            Self::Closings => "closings",
            Self::CoveredCgroups => "covered_cgroups",
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

/// An error that may be due to a bound.
pub trait Bounded: std::error::Error {
    /// The bound that was reached, if that is the reason.
    fn bound(&self) -> Option<Bound>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_operations_guide_lists_every_bound() {
        let guide = include_str!("../../docs/operations.md");
        for bound in Bound::ALL {
            let label = bound.label();
            assert!(
                guide.contains(&format!("`lineal_bounds_total{{bound=\"{label}\"}}`")),
                "docs/operations.md does not mention {label}"
            );
        }
    }
}
