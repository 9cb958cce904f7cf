//! Policy's decisions for one session: decide, then record, and only then may a command go on.
//!
//! A judge knows the bundle of the moment. It takes a new one in before it decides anything, and denies
//! everything once the new one would not have let the session begin. It knows no protocol: an adapter brings
//! the facts.

use std::sync::Arc;

use agent_core::{
    audit::record::StatementRef,
    decision::Decision,
    facts::Facts,
    ruling::{Admission, Permit, Ruling},
};
use agent_policy::{Bundle, Decided, DecisionCache, EngineError, Upstream};
use prometheus::IntCounter;

use super::{Session, ended::Refusal};
use crate::{audit::AuditError, bounds::Bound, clock::unix_now};

/// Decides one session's commands.
pub struct Judge {
    decisions: DecisionCache,
    bundle_version: String,
    upstream: Upstream,
    database: String,
    user: String,
    /// What the session can't begin without: the connection, and what the client asks for as it begins.
    beginning: Vec<Facts>,
    /// The agent logs in itself: what lets the session begin is then enforced in every mode, for a job that
    /// is only observed is not lent a login that policy would not lend it.
    lends_login: bool,
    /// Why every command is denied, whatever policy says of it.
    barred: Option<String>,
    /// Counts decisions that the full cache dropped.
    forgotten: IntCounter,
}

/// A command as it is decided and recorded.
#[derive(Clone, Copy)]
pub struct Command<'a> {
    /// Its number in the session, from 1.
    pub number: u64,
    /// All that it does.
    pub facts: &'a Facts,
    /// What the trail shows of it.
    pub statement: Option<StatementRef<'a>>,
}

impl Judge {
    /// The judge of one session under one bundle.
    pub fn new(
        session: &Session,
        bundle: &Arc<Bundle>,
        upstream: &Upstream,
        database: &str,
        user: &str,
        lends_login: bool,
    ) -> Result<Self, EngineError> {
        Ok(Self {
            decisions: DecisionCache::new(bundle.session(&session.subject, upstream, database, user)?),
            bundle_version: bundle.version().to_owned(),
            upstream: upstream.clone(),
            database: database.to_owned(),
            user: user.to_owned(),
            beginning: Vec::new(),
            lends_login,
            barred: None,
            forgotten: session.proxy.parts.metrics.bound(Bound::Decisions),
        })
    }

    /// Decides whether the session may begin: each of these facts must be allowed, and the decision is on
    /// record when this returns.
    pub fn admit(&mut self, session: &Session, beginning: Vec<Facts>) -> Result<Admission, Refusal> {
        self.beginning = beginning;
        let (facts, Decided { decision, resources }) = self.begin();
        session.begin(&facts, &resources, decision)
    }

    fn begin(&mut self) -> (Facts, Decided) {
        let beginning = self.beginning.clone();
        let mut facts = Facts::connect();
        beginning.iter().for_each(|part| facts.join(part));
        let mut all: Option<Decision> = None;
        for part in &beginning {
            let decision = self.decide(part).decision.clone();
            let decision = self.of_beginning(decision);
            if !decision.passes() {
                all = Some(decision);
                break;
            }
            all = Some(match all {
                // One that would be denied is what the trail is to show.
                Some(before) if before.observed => before,
                Some(before) if !decision.observed => {
                    Decision { policies: [before.policies, decision.policies].concat(), ..decision }
                }
                _ => decision,
            });
        }
        let decision = all.unwrap_or_else(|| Decision::denied("nothing is known of the session"));
        let resources = self.decisions.session().resources(&facts);
        (facts, Decided { decision, resources })
    }

    /// Reads the job's standing and the bundle in force, on which all decisions rest until the next call: to
    /// be called before each command is decided.
    pub fn look(&mut self, session: &Session) {
        self.barred = match session.objection() {
            Some(objection) => Some(objection.words),
            None => self.refresh(session).err(),
        };
    }

    /// Takes a new bundle in, if there is one. The error is why the new one allows this session nothing: it
    /// can't represent the session, or would not have let it begin. The old one has no say any more.
    fn refresh(&mut self, session: &Session) -> Result<(), String> {
        let bundle = session.proxy.parts.policy.current();
        if bundle.version() == self.bundle_version {
            return Ok(());
        }
        let upstream = bundle
            .upstream_for(session.destination)
            .filter(|upstream| **upstream == self.upstream)
            .ok_or("the policy bundle no longer declares this upstream")?;
        let policy = bundle
            .session(&session.subject, upstream, &self.database, &self.user)
            .map_err(|error| error.to_string())?;
        let now_unix = unix_now();
        for facts in &self.beginning {
            let decision = self.of_beginning(policy.decide(facts, now_unix, &[]));
            if !decision.passes() {
                let reason = decision.reason;
                return Err(format!("policy has changed, and would not let this session begin: {reason}"));
            }
        }
        self.decisions = DecisionCache::new(policy);
        self.bundle_version = bundle.version().to_owned();
        Ok(())
    }

    fn of_beginning(&self, decision: Decision) -> Decision {
        Decision { observed: decision.observed && !self.lends_login, ..decision }
    }

    /// Policy's decision on some facts. It lets nothing pass by itself: [`Judge::rule`] records.
    pub fn decide(&mut self, facts: &Facts) -> Arc<Decided> {
        if let Some(reason) = &self.barred {
            return Arc::new(self.denied(facts, reason));
        }
        let before = self.decisions.forgotten();
        let decided = self.decisions.decide(facts, unix_now(), &[]);
        self.forgotten.inc_by(self.decisions.forgotten() - before);
        decided
    }

    /// Decides a command and records the decision; where it passes, the answer is the right to forward it.
    pub fn rule(&mut self, session: &Session, command: &Command<'_>) -> Result<Ruling<Permit>, AuditError> {
        let decided = self.decide(command.facts);
        Self::record(session, command, &decided)
    }

    /// Denies a command for a reason that is no policy's, and records that.
    pub fn deny(
        &self,
        session: &Session,
        command: &Command<'_>,
        reason: &str,
    ) -> Result<Ruling<Permit>, AuditError> {
        Self::record(session, command, &self.denied(command.facts, reason))
    }

    /// Records a decision that [`Judge::decide`] made on the command.
    pub fn record(
        session: &Session,
        command: &Command<'_>,
        decided: &Decided,
    ) -> Result<Ruling<Permit>, AuditError> {
        let &Command { number, facts, statement } = command;
        session.rule(number, facts, &decided.resources, statement, &decided.decision)
    }

    fn denied(&self, facts: &Facts, reason: &str) -> Decided {
        let resources = self.decisions.session().resources(facts);
        Decided { decision: Decision::denied(reason), resources }
    }
}
