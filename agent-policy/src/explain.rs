//! Why a command is decided as it is: the same judgements as [`Session::decide`], told in full.

use agent_core::decision::{Decision, Verdict};
use agent_core::facts::Facts;
use serde::Serialize;

use crate::policies::{Effect, PolicyInfo};
use crate::session::{Cause, Judgement, Session};

/// A decision with all that led to it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Explanation {
    /// What happens to the command.
    pub decision: Verdict,
    /// The policies that decided, as in [`Decision::policies`].
    pub policies: Vec<Box<str>>,
    /// The sentence that the client would read.
    pub reason: Box<str>,
    /// It is recorded and not enforced.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub observed: bool,
    /// The version of the bundle that decided.
    pub bundle: Box<str>,
    /// Each access, in the order of the facts; empty when the command is denied before any policy is asked.
    pub accesses: Vec<AccessExplanation>,
}

/// How one access was judged.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct AccessExplanation {
    /// The action's name.
    pub action: &'static str,
    /// The resource as policies spell it.
    pub resource: String,
    /// Allow or deny.
    pub decision: Verdict,
    /// The policies that determined it: none means that none allows it.
    pub policies: Vec<PolicyExplanation>,
}

/// A policy that determined an access.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PolicyExplanation {
    /// Its name.
    pub name: Box<str>,
    /// Permit or forbid.
    pub effect: Effect,
    /// The file it stands in.
    pub file: String,
    /// The line it starts at.
    pub line: usize,
    /// Its text.
    pub text: String,
    /// Why it could not be evaluated, if so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

impl Session {
    /// Decides a command as [`Session::decide`] does, and says which policy did what on which access.
    pub fn explain(&self, facts: &Facts, now_unix: i64, approvals: &[&str]) -> Explanation {
        let (decision, judgements) = self.decide_by(facts, now_unix, approvals);
        let Decision { verdict, policies, reason, observed } = decision;
        Explanation {
            decision: verdict,
            policies,
            reason,
            observed,
            bundle: self.bundle().version().into(),
            accesses: judgements.iter().map(|judgement| self.tell(judgement)).collect(),
        }
    }

    fn tell(&self, judgement: &Judgement) -> AccessExplanation {
        let told = |policy: &PolicyInfo| PolicyExplanation {
            name: policy.name.clone(),
            effect: policy.effect,
            file: policy.file.clone(),
            line: policy.line,
            text: policy.text.clone(),
            error: judgement.errors.iter().find(|(name, _)| *name == policy.name).map(|(_, e)| e.clone()),
        };
        AccessExplanation {
            action: judgement.action.name(),
            resource: judgement.resource.clone(),
            decision: if judgement.cause == Cause::Permitted { Verdict::Allow } else { Verdict::Deny },
            policies: judgement
                .policies
                .iter()
                .filter_map(|name| self.bundle().policies.get(name))
                .map(told)
                .collect(),
        }
    }
}
