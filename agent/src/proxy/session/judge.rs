//! Policy's decisions for one session: decide, then record, and only then may a command go on.
//!
//! A judge knows the bundle of the moment. It takes a new one in before it decides anything, and denies
//! everything once the new one would not have let the session begin. It knows no protocol: an adapter brings
//! the facts.

use std::sync::Arc;

use agent_core::{
    audit::record::StatementRef,
    facts::Facts,
    ruling::{Admission, Permit, Ruling},
    target::Scope,
};
use agent_policy::{Bundle, Decider, DecisionCache, EngineError, Judgement, ObservedDenials, Upstream};
use prometheus::IntCounter;

use super::{
    Session,
    ended::{Ended, Refusal},
};
use crate::{audit::AuditError, bounds::Bound, clock::unix_now};

/// How many accesses a command may have to be decided on the session's thread. Deciding as many takes some
/// milliseconds, under the shipped policies.
const ACCESSES_HERE_MAX: usize = 64;
/// The same of its accesses and names together: each name costs less.
const ITEMS_HERE_MAX: usize = 1_024;

/// Decides one session's commands.
pub struct Judge {
    decisions: DecisionCache,
    bundle_version: String,
    upstream: Upstream,
    scope: Scope,
    beginning: Beginning,
    /// What becomes of denials of the beginning that are only observed.
    observed: ObservedDenials,
    /// Why every command is denied, whatever policy says of it.
    barred: Option<String>,
    /// Counts decisions that the full cache dropped.
    forgotten: IntCounter,
    /// The last decision that was made on another thread.
    decided: Option<Decided>,
}

/// A decision on so many accesses that it must not be made on a session's thread.
pub struct Undecided {
    decider: Arc<Decider>,
    facts: Facts,
}

/// A decision that was made on another thread.
pub struct Decided {
    decider: Arc<Decider>,
    facts: Facts,
    judgement: Arc<Judgement>,
}

impl Undecided {
    /// Makes the decision.
    pub fn decide(self) -> Decided {
        let Self { decider, facts } = self;
        let judgement = Arc::new(decider.decide(&facts, unix_now(), &[]));
        Decided { decider, facts, judgement }
    }
}

/// What a session can't begin without: the connection, and what the client asks for as it begins.
pub struct Beginning {
    /// The facts of each part, decided by itself.
    pub parts: Vec<Facts>,
    /// The facts of all parts together: these are recorded.
    pub whole: Facts,
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
    /// Has policy decide whether a session may begin, under the bundle in force; the decision is on record
    /// when this returns. With `lends_login` the agent logs in itself: then a job that is only observed is
    /// not lent a login that policy would not lend it.
    pub fn begin(
        session: &Session,
        upstream: &Upstream,
        scope: Scope,
        beginning: Beginning,
        lends_login: bool,
    ) -> Result<(Self, Admission), Refusal> {
        let bundle = session.proxy.parts.policy.current();
        if bundle.upstream_for(session.destination) != Some(upstream) {
            let words = "the policy bundle has changed what it declares of this upstream: connect again";
            return Err(Refusal::new(Ended::UpstreamChanged, words));
        }
        let judge = Self::new(session, &bundle, upstream, scope, beginning, lends_login);
        let judge = judge.map_err(|error| {
            Refusal::new(Ended::Unrepresentable, format!("policy cannot represent this session: {error}"))
        })?;
        let judgement = judge.decide_beginning(judge.decisions.decider());
        let admission = session.begin(&judge.beginning.whole, &judgement)?;
        Ok((judge, admission))
    }

    fn new(
        session: &Session,
        bundle: &Arc<Bundle>,
        upstream: &Upstream,
        scope: Scope,
        beginning: Beginning,
        lends_login: bool,
    ) -> Result<Self, EngineError> {
        Ok(Self {
            decisions: DecisionCache::new(Decider::new(bundle, &session.subject, upstream, &scope)?),
            bundle_version: bundle.version().to_owned(),
            upstream: upstream.clone(),
            scope,
            beginning,
            observed: if lends_login { ObservedDenials::Enforced } else { ObservedDenials::Pass },
            barred: None,
            forgotten: session.proxy.parts.metrics.bound(Bound::Decisions),
            decided: None,
        })
    }

    fn decide_beginning(&self, decider: &Decider) -> Judgement {
        let Beginning { parts, whole } = &self.beginning;
        decider.decide_parts(parts, whole, unix_now(), &[], self.observed)
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
        let decider = Decider::new(&bundle, &session.subject, upstream, &self.scope)
            .map_err(|error| error.to_string())?;
        let judgement = self.decide_beginning(&decider);
        if !judgement.decision().passes() {
            let reason = &judgement.decision().reason;
            return Err(format!("policy has changed, and would not let this session begin: {reason}"));
        }
        self.decisions = DecisionCache::new(decider);
        self.bundle_version = bundle.version().to_owned();
        Ok(())
    }

    /// Takes a decision that was made on another thread, for the next call of [`Judge::decide`].
    pub fn take(&mut self, decided: Decided) {
        self.decided = Some(decided);
    }

    /// Policy's decision on some facts. It lets nothing pass by itself: [`Judge::record`] records.
    ///
    /// # Errors
    /// It must be made on another thread first, and given to [`Judge::take`].
    pub fn decide(&mut self, facts: &Facts) -> Result<Arc<Judgement>, Box<Undecided>> {
        let decided = self.decided.take();
        if let Some(reason) = &self.barred {
            return Ok(Arc::new(self.decisions.decider().denied(facts, reason)));
        }
        let weight = facts.weight();
        if weight.accesses > ACCESSES_HERE_MAX || weight.items() > ITEMS_HERE_MAX {
            let decider = self.decisions.decider();
            // By a bundle that is not in force any more it is not a decision.
            let fits = |decided: &Decided| Arc::ptr_eq(&decided.decider, decider) && decided.facts == *facts;
            return match decided.filter(fits) {
                Some(decided) => Ok(decided.judgement),
                None => Err(Box::new(Undecided { decider: Arc::clone(decider), facts: facts.clone() })),
            };
        }
        let before = self.decisions.forgotten();
        let judgement = self.decisions.decide(facts, unix_now(), &[]);
        let forgotten = self.decisions.forgotten() - before;
        if forgotten > 0 {
            self.forgotten.inc_by(forgotten);
        }
        Ok(judgement)
    }

    /// Denies a command for a reason that is no policy's, and records that.
    pub fn deny(
        &self,
        session: &Session,
        command: &Command<'_>,
        reason: &str,
    ) -> Result<Ruling<Permit>, AuditError> {
        Self::record(session, command, &self.decisions.decider().denied(command.facts, reason))
    }

    /// Records a decision that [`Judge::decide`] made on the command; where the command passes, the answer is
    /// the right to forward it.
    pub fn record(
        session: &Session,
        command: &Command<'_>,
        judgement: &Judgement,
    ) -> Result<Ruling<Permit>, AuditError> {
        let &Command { number, facts, statement } = command;
        session.rule(number, facts, statement, judgement)
    }
}
