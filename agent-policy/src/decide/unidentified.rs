//! What a job without a credential may do: nothing but open a connection, and that only by a permit whose
//! scope names the group of such jobs. No policy can grant more by being too broad.

use agent_core::facts::Action;

use super::judgement::{Cause, Finding};
use crate::bundle::Bundle;

/// The reason of the denial.
pub(super) const NOT_GRANTED: &str =
    "the job has no verified credential, and is granted nothing until it has one";

/// Whether a job without a credential may make this access.
pub(super) fn is_granted(bundle: &Bundle, finding: &Finding) -> bool {
    let names_unidentified =
        |name: &str| bundle.policies.get(name).is_some_and(|policy| policy.names_unidentified);
    finding.cause == Cause::Permitted
        && finding.action == Action::Connect
        && finding.policies.iter().any(|name| names_unidentified(name))
}
