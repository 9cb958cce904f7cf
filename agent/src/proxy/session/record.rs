//! What the trail holds of a session: its opening, and the decision on each command. The decisions' records
//! are what permits are made of.

use agent_core::{
    audit::record::{Record, SessionRecord, StatementRef, UpstreamRef},
    decision::{Decision, Effect},
    facts::Facts,
    ruling::{Admission, Case, Permit, Ruling},
    target::Target,
};

use super::{
    Session,
    ended::{Ended, Refusal},
};
use crate::audit::AuditError;

impl Session {
    /// Records the session's opening: what it is aimed at.
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

    /// Records the decision on the session's beginning; where the session may begin, the answer is the right
    /// to dial.
    ///
    /// The job's standing is asked here, after policy and before the record: no revocation falls between, for
    /// the session has followed what its standing rests on since it was opened.
    pub fn begin(
        &self,
        facts: &Facts,
        resources: &[String],
        decision: Decision,
    ) -> Result<Admission, Refusal> {
        let objection = self.objection();
        let decision = match &objection {
            Some(objection) => Decision::denied(objection.words.as_str()),
            None => decision,
        };
        let trail = &*self.proxy.parts.trail;
        let ruling = self.case(facts, resources, None).admit(&decision, trail).map_err(unrecorded)?;
        self.count(&decision);
        match (ruling, objection) {
            (_, Some(objection)) => Err(objection),
            (Ruling::Allow(admission), None) => Ok(admission),
            (Ruling::Deny(denied), None) => Err(Refusal::new(Ended::Denied, denied.words())),
        }
    }

    /// Records the decision on one command; where it lets pass, the answer is the right to forward that
    /// command.
    pub fn rule(
        &self,
        command: u64,
        facts: &Facts,
        resources: &[String],
        statement: Option<StatementRef<'_>>,
        decision: &Decision,
    ) -> Result<Ruling<Permit>, AuditError> {
        let case = self.case(facts, resources, statement);
        let ruling = case.rule(command, decision, &*self.proxy.parts.trail)?;
        self.count(decision);
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

fn unrecorded(error: AuditError) -> Refusal {
    tracing::error!(%error, "a session could not be recorded, so it is refused");
    Refusal::new(Ended::Unrecorded, format!("the session cannot be recorded: {error}"))
}
