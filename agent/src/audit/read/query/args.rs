//! The arguments of `lineal audit query`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

/// Searches the audit trail.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct QueryArgs {
    /// The trail's directory, or a copy of it [default: the running agent's trail]
    #[arg(long, value_name = "DIR")]
    pub(crate) dir: Option<PathBuf>,
    /// One JSON object a line
    #[arg(long)]
    pub(crate) json: bool,
    /// Only this job, by id or name
    #[arg(long, value_name = "JOB")]
    pub(crate) job: Option<String>,
    /// Only jobs of this credential's subject
    #[arg(long, value_name = "SUBJECT")]
    pub(crate) subject: Option<String>,
    /// Only this session
    #[arg(long, value_name = "ID")]
    pub(crate) session: Option<String>,
    /// Only commands with this decision
    #[arg(long, value_name = "DECISION")]
    pub(crate) decision: Option<DecisionFilter>,
    /// Only commands that policy would deny and that passed because it only observes
    #[arg(long)]
    pub(crate) would_deny: bool,
    /// Count decisions that are alike, the most frequent first, instead of printing each
    #[arg(long, conflicts_with_all = ["kind", "limit"])]
    pub(crate) summary: bool,
    /// Print records of this kind, as they were written, instead of decisions; may be repeated
    #[arg(long, value_name = "KIND")]
    pub(crate) kind: Vec<Kind>,
    /// Not before: RFC 3339 (2026-01-31T12:00:00Z), a date, or an age (90s, 15m, 2h, 7d)
    #[arg(long, value_name = "TIME")]
    pub(crate) since: Option<String>,
    /// Before: in the same forms
    #[arg(long, value_name = "TIME")]
    pub(crate) until: Option<String>,
    /// Only commands whose text contains this, ignoring case
    #[arg(long, value_name = "TEXT")]
    pub(crate) text: Option<String>,
    /// Stop after the first N
    #[arg(long, value_name = "N")]
    pub(crate) limit: Option<u64>,
}

/// What can be decided about a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum DecisionFilter {
    /// Allowed.
    Allow,
    /// Denied.
    Deny,
    /// Held.
    Hold,
}

impl DecisionFilter {
    /// As the trail spells it.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Deny => "deny",
            Self::Hold => "hold",
        }
    }
}

/// The kinds of records.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Kind {
    Job,
    Process,
    Session,
    Decision,
    Outcome,
    Approval,
    Revocation,
    Bundle,
    Agent,
    Checkpoint,
}

impl Kind {
    /// Whether a record's `kind` is this one.
    pub(super) fn is(self, kind: &str) -> bool {
        self.to_possible_value().is_some_and(|value| value.get_name() == kind)
    }
}
