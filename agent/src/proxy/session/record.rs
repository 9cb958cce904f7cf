//! Writes a session's records to the audit trail: its opening, and the decision on its beginning and on each
//! command. Only a written decision makes an [`Admission`] or a [`Permit`]. A session's end is recorded where
//! it is dropped.

use agent_core::{
    audit::record::{Record, SessionRecord, StatementRef, UpstreamRef},
    decision::{Decision, Effect},
    facts::Facts,
    ruling::{Admission, Case, Permit, Ruling},
    target::Target,
};
use agent_policy::Judgement;

use super::{
    Session,
    ended::{Ended, Refusal},
};
use crate::audit::AuditError;

impl Session {
    /// Records that the session was opened, with its target. To be called once, before [`Self::begin`]; from
    /// then on the session's end is recorded, too.
    ///
    /// # Errors
    /// The record was not written: [`Ended::Unrecorded`].
    pub fn record_open(&mut self, target: &Target) -> Result<(), Refusal> {
        let job = self.job.id.to_string();
        let record = Record::Session(SessionRecord::Opened {
            session: &self.id,
            job: &job,
            process: self.node,
            protocol: self.protocol.name(),
            upstream: UpstreamRef::from(target),
        });
        self.proxy.parts.trail.append(&record).map_err(unrecorded)?;
        self.opened = true;
        self.proxy.parts.metrics.sessions_opened.with_label_values(&[self.protocol.name()]).inc();
        Ok(())
    }

    /// Records whether the session may begin, and returns the right to dial its upstream. `decision` is
    /// policy's; if the job's standing forbids the session, a denial by that is recorded in its place.
    ///
    /// The standing is read here, after policy has decided and before the record is written. A revocation
    /// that comes later is not missed: the session has been subscribed to its job's standing since it was
    /// opened.
    ///
    /// # Errors
    /// The session may not begin, by the job's standing or by policy, or the record was not written.
    pub fn begin(&self, facts: &Facts, judgement: &Judgement) -> Result<Admission, Refusal> {
        let objection = self.objection();
        let decision = match &objection {
            Some(objection) => Decision::denied(objection.words.as_str()),
            None => judgement.decision().clone(),
        };
        let trail = &*self.proxy.parts.trail;
        let ruling =
            self.case(facts, judgement.resources(), None).admit(&decision, trail).map_err(unrecorded)?;
        self.count(&decision);
        match (ruling, objection) {
            (_, Some(objection)) => Err(objection),
            (Ruling::Allow(admission), None) => Ok(admission),
            (Ruling::Deny(denied), None) => Err(Refusal::new(Ended::Denied, denied.words())),
        }
    }

    /// Records the decision on one command. If the decision lets the command pass, the ruling holds the right
    /// to forward that command.
    ///
    /// # Errors
    /// The record was not written: the command must not be forwarded.
    pub fn rule(
        &self,
        command: u64,
        facts: &Facts,
        statement: Option<StatementRef<'_>>,
        judgement: &Judgement,
    ) -> Result<Ruling<Permit>, AuditError> {
        let case = self.case(facts, judgement.resources(), statement);
        let ruling = case.rule(command, judgement.decision(), &*self.proxy.parts.trail)?;
        self.count(judgement.decision());
        Ok(ruling)
    }

    fn case<'a>(
        &'a self,
        facts: &'a Facts,
        resources: &'a [String],
        statement: Option<StatementRef<'a>>,
    ) -> Case<'a> {
        Case { session: &self.id, protocol: self.protocol.name(), facts, resources, statement }
    }

    fn count(&self, decision: &Decision) {
        let effect = match decision.effect {
            Effect::Deny | Effect::Hold if decision.observed => "would_deny",
            effect => effect.name(),
        };
        let decisions = &self.proxy.parts.metrics.decisions;
        decisions.with_label_values(&[self.protocol.name(), effect]).inc();
    }
}

/// Logs why a record was not written, and refuses the session.
fn unrecorded(error: AuditError) -> Refusal {
    tracing::error!(%error, "a session could not be recorded, so it is refused");
    Refusal::new(Ended::Unrecorded, format!("the session cannot be recorded: {error}"))
}
