//! Why a command is decided as it is: what [`Decider::decide`] finds out, in full.

use agent_core::{
    decision::{Decision, Effect},
    facts::Facts,
};
use serde::Serialize;

use super::{
    decider::Decider,
    judgement::{Cause, Finding},
};
use crate::{
    bundle::policies::{PolicyEffect, PolicyInfo},
    vocabulary::Moment,
};

/// A decision with all that led to it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Explanation {
    /// What happens to the command.
    pub decision: Effect,
    /// The policies that decided, as in [`Decision::policies`].
    pub policies: Vec<Box<str>>,
    /// The sentence that the client would read.
    pub reason: Box<str>,
    /// The decision is recorded and not enforced.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub observed: bool,
    /// The version of the bundle that decided.
    pub bundle: Box<str>,
    /// Each access, in the order of the facts; empty if the command is denied before any policy is asked.
    pub accesses: Vec<AccessExplanation>,
}

/// What policies say about one access.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct AccessExplanation {
    /// The action's name.
    pub action: &'static str,
    /// The resource as policies spell it.
    pub resource: String,
    /// Allow or deny.
    pub decision: Effect,
    /// The policies that determined it; empty if no policy applies, which denies.
    pub policies: Vec<PolicyExplanation>,
}

/// A policy that determined an access.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PolicyExplanation {
    /// Its name.
    pub name: Box<str>,
    /// Permit or forbid.
    pub effect: PolicyEffect,
    /// The file it stands in.
    pub file: String,
    /// The line it starts at.
    pub line: usize,
    /// Its text.
    pub text: String,
    /// Why it could not be evaluated, if that is so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

impl Decider {
    /// Decides a command as [`Decider::decide`] does, and says which policy did what on which access.
    pub fn explain(&self, facts: &Facts, now_unix: i64, approvals: &[&str]) -> Explanation {
        let (decision, findings) = self.decide_with_findings(facts, Moment { now_unix, approvals });
        let Decision { effect, policies, reason, observed } = decision;
        Explanation {
            decision: effect,
            policies,
            reason,
            observed,
            bundle: self.bundle().version().into(),
            accesses: findings.iter().map(|finding| self.explain_access(finding)).collect(),
        }
    }

    fn explain_access(&self, finding: &Finding) -> AccessExplanation {
        let explain = |policy: &PolicyInfo| PolicyExplanation {
            name: policy.name.clone(),
            effect: policy.effect,
            file: policy.file.clone(),
            line: policy.line,
            text: policy.text.clone(),
            error: finding.errors.iter().find(|(name, _)| *name == policy.name).map(|(_, e)| e.clone()),
        };
        let policies = finding.policies.iter().filter_map(|name| self.bundle().policies.get(name));
        AccessExplanation {
            action: finding.action.name(),
            resource: finding.resource.clone(),
            decision: if finding.cause == Cause::Permitted { Effect::Allow } else { Effect::Deny },
            policies: policies.map(explain).collect(),
        }
    }
}
