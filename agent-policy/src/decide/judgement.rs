//! What deciding results in, for a command and for each of its accesses.

use std::collections::BTreeSet;

use agent_core::{
    decision::{Decision, Effect},
    facts::Action,
};

/// A decision, and the resources it was made on. The audit trail has both.
///
/// Only policy makes one; whoever records and forwards can't decide by itself:
///
/// ```compile_fail,E0451
/// # use agent_core::decision::Decision;
/// # use agent_policy::Judgement;
/// fn judge(decision: Decision) -> Judgement {
///     Judgement { decision, resources: Vec::new() }
/// }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Judgement {
    /// The decision.
    pub(crate) decision: Decision,
    /// The resources as policies spell them, one for each access of the facts and in their order.
    pub(crate) resources: Vec<String>,
}

impl Judgement {
    /// A denial that no policy had a say in.
    pub fn denied(reason: impl Into<Box<str>>, resources: Vec<String>) -> Self {
        Self { decision: Decision::denied(reason), resources }
    }

    /// The decision.
    pub fn decision(&self) -> &Decision {
        &self.decision
    }

    /// The same judgement; if it is a denial, its reason is `why`, which says more than policies can.
    #[must_use]
    pub fn because(&self, why: &str) -> Self {
        let mut judgement = self.clone();
        if judgement.decision.effect != Effect::Allow {
            judgement.decision.reason = why.into();
        }
        judgement
    }

    /// The resources as policies spell them, one for each access of the facts and in their order.
    pub fn resources(&self) -> &[String] {
        &self.resources
    }
}

/// What policies say about one access.
pub(super) struct Finding {
    pub(super) action: Action,
    /// The resource as policies spell it.
    pub(super) resource: String,
    pub(super) cause: Cause,
    /// The policies that determined it: permits that allow, forbids that deny, policies that failed.
    pub(super) policies: BTreeSet<Box<str>>,
    /// Which policies failed, and how.
    pub(super) errors: Vec<(Box<str>, String)>,
}

/// Why an access is allowed or denied. A command is denied for the greatest of its causes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Cause {
    Permitted,
    /// No policy applies.
    NoPolicy,
    /// A policy could not be evaluated. Cedar alone would ignore it; if it forbids, that would allow.
    Failed,
    Forbidden,
}

/// Why a command is denied without any policy's word.
pub(super) enum Refusal {
    /// By a rule that observe mode does not lift: otherwise the agent would lose track of the session, or act
    /// on nobody's authority.
    Always(String),
    /// Because policies could not be asked. Observe mode lets the command pass.
    Failed(String),
}
