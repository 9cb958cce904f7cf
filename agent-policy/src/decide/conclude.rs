//! One decision of many: of the accesses of a command, of enforced and observed policies, of the parts of a
//! command.

use std::{collections::BTreeSet, fmt::Write as _};

use agent_core::{
    decision::{Decision, Effect},
    facts::Action,
};

use super::{
    judgement::{Cause, Finding, Refusal},
    question::Selection,
};
use crate::bundle::Bundle;

/// Decides by what `ask` finds out: the enforced policies first; if they allow, and observed policies can
/// apply to one of the actions, all policies. A denial by these is observed only.
pub(super) fn decide_by(
    bundle: &Bundle,
    actions: impl IntoIterator<Item = Action>,
    ask: impl Fn(Selection) -> Result<Vec<Finding>, Refusal>,
) -> (Decision, Vec<Finding>) {
    let settle = |selection| match ask(selection) {
        Ok(findings) => (bundle.observed(conclude(&findings)), findings),
        Err(Refusal::Failed(reason)) => (bundle.observed(Decision::denied(reason)), Vec::new()),
        Err(Refusal::Always(reason)) => (Decision::denied(reason), Vec::new()),
    };
    let enforced = settle(Selection::Enforced);
    let observes = |action| bundle.policies.for_action(action).is_some_and(|policies| policies.observes);
    if enforced.0.effect != Effect::Allow || !actions.into_iter().any(observes) {
        return enforced;
    }
    // Observed policies can only forbid: if all policies together allow, the enforced ones do.
    let mut all = settle(Selection::All);
    if all.0.effect == Effect::Allow {
        return enforced;
    }
    all.0.observed = true;
    all
}

/// The decision on a command, from what policies say about each of its accesses.
pub(super) fn conclude(findings: &[Finding]) -> Decision {
    let denied = |finding: &&Finding| finding.cause != Cause::Permitted;
    // Of equal causes the first: `max_by_key` would give the last, which reads less naturally.
    let worst = findings.iter().filter(denied).reduce(|a, b| if b.cause > a.cause { b } else { a });
    let Some(worst) = worst else { return permitted(findings) };
    let policies: BTreeSet<_> =
        findings.iter().filter(denied).flat_map(|f| f.policies.iter().cloned()).collect();
    Decision { policies: policies.into_iter().collect(), ..Decision::denied(why_denied(worst)) }
}

/// The decision when every access is permitted.
fn permitted(findings: &[Finding]) -> Decision {
    if findings.is_empty() {
        return Decision::denied("nothing is known of what the command does");
    }
    let policies: BTreeSet<_> =
        findings.iter().flat_map(|finding| finding.policies.iter().cloned()).collect();
    let reason = format!("allowed by {}", list(&policies));
    Decision {
        effect: Effect::Allow,
        policies: policies.into_iter().collect(),
        reason: reason.into(),
        observed: false,
    }
}

fn why_denied(Finding { action, resource, cause, policies, errors }: &Finding) -> String {
    let access = format!("{} on {resource}", action.name());
    match cause {
        Cause::Forbidden => {
            let verb = if policies.len() == 1 { "forbids" } else { "forbid" };
            format!("{} {verb} {access}", list(policies))
        }
        Cause::Failed => {
            let mut reason = format!("{} could not be evaluated for {access}", list(policies));
            if let Some((_, error)) = errors.first() {
                // Writing to a String cannot fail.
                let _ = write!(reason, ": {error}");
            }
            reason
        }
        Cause::NoPolicy | Cause::Permitted => format!("no policy allows {access}"),
    }
}

/// `policy a`, `policies a and b`, `policies a, b and c`.
fn list(names: &BTreeSet<Box<str>>) -> String {
    let names: Vec<&str> = names.iter().map(|name| &**name).collect();
    match names.split_last() {
        None => "no policy".to_owned(),
        Some((last, [])) => format!("policy {last}"),
        Some((last, others)) => format!("policies {} and {last}", others.join(", ")),
    }
}

/// What becomes of a part of a command whose denial is only observed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ObservedDenials {
    /// It passes, as the mode of the bundle or of the policy says.
    Pass,
    /// It is denied, whatever the mode: passing would give the job what policies do not.
    Enforced,
}

/// The decision on a command that was decided in parts: the first one that does not pass; otherwise the first
/// denial that is only observed, since the trail must show it; otherwise an allowance by the policies of all
/// parts.
pub(super) fn merge(parts: impl IntoIterator<Item = Decision>, observed: ObservedDenials) -> Decision {
    let mut merged: Option<Decision> = None;
    for part in parts {
        let part = Decision { observed: part.observed && observed == ObservedDenials::Pass, ..part };
        if !part.passes() {
            return part;
        }
        merged = Some(match merged {
            Some(before) if before.observed => before,
            Some(before) if !part.observed => {
                Decision { policies: [before.policies, part.policies].concat(), ..part }
            }
            _ => part,
        });
    }
    merged.unwrap_or_else(|| Decision::denied("nothing is known of the session"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allowed(policy: &str) -> Decision {
        Decision {
            effect: Effect::Allow,
            policies: vec![policy.into()],
            reason: format!("allowed by policy {policy}").into(),
            observed: false,
        }
    }

    fn denied(policy: &str, observed: bool) -> Decision {
        let reason = format!("policy {policy} forbids");
        Decision { policies: vec![policy.into()], observed, ..Decision::denied(reason) }
    }

    #[test]
    fn parts_that_all_pass_name_the_policies_of_all() {
        let merged = merge([allowed("a"), allowed("b")], ObservedDenials::Pass);
        let expect = Decision { policies: vec!["a".into(), "b".into()], ..allowed("b") };
        assert_eq!(merged, expect);
    }

    #[test]
    fn the_first_part_that_does_not_pass_decides() {
        let parts = [allowed("a"), denied("b", true), denied("c", false), denied("d", false)];
        assert_eq!(merge(parts, ObservedDenials::Pass), denied("c", false));
    }

    #[test]
    fn the_first_observed_denial_is_what_is_shown() {
        let parts = [allowed("a"), denied("b", true), allowed("c"), denied("d", true)];
        assert_eq!(merge(parts, ObservedDenials::Pass), denied("b", true));
    }

    #[test]
    fn an_observed_denial_can_be_enforced() {
        let parts = [allowed("a"), denied("b", true)];
        assert_eq!(merge(parts, ObservedDenials::Enforced), denied("b", false));
    }

    #[test]
    fn no_parts_are_a_denial() {
        assert!(!merge([], ObservedDenials::Pass).passes());
    }
}
