//! Asks Cedar about one access.

use std::collections::BTreeSet;

use agent_core::facts::Action;
use cedar_policy::{AuthorizationError, Authorizer, Context, Entities, EntityUid, Request};

use super::judgement::{Cause, Finding};
use crate::{bundle::Bundle, subject::Subject, vocabulary::value::EngineError};

/// How many bytes of Cedar's own words about an error a reason carries.
const ERROR_BYTES_MAX: usize = 200;

/// Which policies are asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Selection {
    /// Those whose denials are enforced.
    Enforced,
    /// These and the observed ones.
    All,
}

/// What is the same for all accesses of a command.
pub(super) struct Question<'a> {
    pub(super) bundle: &'a Bundle,
    pub(super) subject: &'a Subject,
    pub(super) entities: &'a Entities,
    pub(super) selection: Selection,
}

impl Question<'_> {
    /// Asks whether the subject may do `action` on `resource`, which policies spell `spelled`.
    pub(super) fn ask(
        &self,
        action: Action,
        resource: EntityUid,
        spelled: String,
        context: Context,
    ) -> Result<Finding, EngineError> {
        let policies = self.bundle.policies.for_action(action);
        let policies = policies.ok_or_else(|| EngineError::new("an action", action.name()))?;
        let action_uid = self.bundle.vocabulary.action(action)?.uid();
        #[cfg(not(test))]
        let schema = None;
        // The hot path trusts `vocabulary` to follow the schema; tests check that it does.
        #[cfg(test)]
        let schema = Some(&self.bundle.schema);
        let request = Request::new(self.subject.job.clone(), action_uid, resource, context, schema)
            .map_err(|error| EngineError::new("the request", error))?;
        let set = if self.selection == Selection::All { &policies.all } else { &policies.enforced };
        let response = Authorizer::new().is_authorized(&request, set, self.entities);
        let mut determining: BTreeSet<Box<str>> =
            response.diagnostics().reason().map(|id| AsRef::<str>::as_ref(id).into()).collect();
        let errors: Vec<_> = response.diagnostics().errors().map(failure).collect();
        let allowed = response.decision() == cedar_policy::Decision::Allow;
        let cause = match (allowed, errors.is_empty(), determining.is_empty()) {
            (false, _, false) => Cause::Forbidden,
            (_, false, _) => Cause::Failed,
            (true, true, _) => Cause::Permitted,
            (false, true, true) => Cause::NoPolicy,
        };
        if cause == Cause::Failed {
            // The permits among them did not decide.
            determining.clear();
        }
        determining.extend(errors.iter().map(|(name, _)| name.clone()));
        Ok(Finding { action, resource: spelled, cause, policies: determining, errors })
    }
}

/// The policy that could not be evaluated, and why, on one line.
fn failure(error: &AuthorizationError) -> (Box<str>, String) {
    let AuthorizationError::PolicyEvaluationError(error) = error;
    let name: &str = error.policy_id().as_ref();
    let mut reason = error.inner().to_string().split_whitespace().collect::<Vec<_>>().join(" ");
    if reason.len() > ERROR_BYTES_MAX {
        let end = (0..=ERROR_BYTES_MAX).rev().find(|end| reason.is_char_boundary(*end)).unwrap_or(0);
        reason.truncate(end);
        reason.push('…');
    }
    (name.into(), reason)
}
