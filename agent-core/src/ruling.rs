//! A command goes on only with a value that a written decision record makes.
//!
//! [`Case::rule`] writes policy's decision on one command to the trail and answers a [`Ruling`]. Where the
//! decision lets the command pass, the ruling holds a [`Permit`]: the only thing that a protocol session
//! forwards a command for. Nothing else makes one, so the order *decide, record, only then forward* is not a
//! rule that callers keep but the only program that compiles. [`Case::admit`] does the same for a session's
//! beginning and answers an [`Admission`], without which nothing is sent to an upstream: a connection that
//! was made ahead of it is a [`Reached`], which only an admission opens.
//!
//! # What stays outside the types
//!
//! - A [`Ledger`] must not claim a write that has not happened. The agent has one, its audit trail.
//! - A Parse without a name runs nothing and is recorded with its Execute: see [`Preparation`].
//!
//! # What does not compile
//!
//! All of these start from a case, a decision and a ledger, as here, where everything is in order:
//!
//! ```
//! # use agent_core::{audit::Record, decision::Decision, facts::Facts, postgres, ruling::*};
//! fn forward(session: &mut postgres::Session, case: &Case<'_>, decision: &Decision, trail: &impl Ledger) {
//!     if let Ok(Ruling::Allow(permit)) = case.rule(1, decision, trail) {
//!         let _ = session.allow(permit);
//!     }
//! }
//! ```
//!
//! A decision alone lets nothing pass:
//!
//! ```compile_fail,E0308
//! # use agent_core::{decision::Decision, postgres, ruling::*};
//! fn forward(session: &mut postgres::Session, decision: Decision) {
//!     let _ = session.allow(decision);
//! }
//! ```
//!
//! A permit can't be made by hand,
//!
//! ```compile_fail,E0451
//! # use agent_core::{postgres, ruling::*};
//! fn forward(session: &mut postgres::Session) {
//!     let _ = session.allow(Permit { command: 1 });
//! }
//! ```
//!
//! nor an admission, or the right to prepare:
//!
//! ```compile_fail,E0451
//! # use agent_core::ruling::*;
//! fn dial() -> Admission {
//!     Admission { _private: () }
//! }
//! ```
//!
//! ```compile_fail,E0451
//! # use agent_core::ruling::*;
//! fn prepare() -> Preparation {
//!     Preparation { command: 1 }
//! }
//! ```
//!
//! A connection that was reached ahead of the session's admission can't be used without one:
//!
//! ```compile_fail,E0616
//! # use agent_core::ruling::*;
//! fn write(reached: Reached<std::net::TcpStream>) {
//!     let _ = std::io::Write::write(&mut reached.connection, b"early");
//! }
//! ```
//!
//! The right to prepare runs nothing:
//!
//! ```compile_fail,E0308
//! # use agent_core::{postgres, ruling::*};
//! fn forward(session: &mut postgres::Session, preparation: Preparation) {
//!     let _ = session.allow(preparation);
//! }
//! ```
//!
//! A record that was written deferred, or not at all, makes none; [`Case::rule`]'s error must be handled
//! first:
//!
//! ```compile_fail,E0308
//! # use agent_core::{decision::Decision, postgres, ruling::*};
//! fn forward(session: &mut postgres::Session, case: &Case<'_>, decision: &Decision, trail: &impl Ledger) {
//!     let _ = session.allow(case.rule(1, decision, trail));
//! }
//! ```
//!
//! A ruling that denies has no permit to take out:
//!
//! ```compile_fail,E0005
//! # use agent_core::{postgres, ruling::*};
//! fn forward(session: &mut postgres::Session, ruling: Ruling<Permit>) {
//!     let Ruling::Allow(permit) = ruling;
//!     let _ = session.allow(permit);
//! }
//! ```
//!
//! One record lets one command pass: a permit is used up,
//!
//! ```compile_fail,E0382
//! # use agent_core::{postgres, ruling::*};
//! fn forward(session: &mut postgres::Session, permit: Permit) {
//!     let _ = session.allow(permit);
//!     let _ = session.allow(permit);
//! }
//! ```
//!
//! and has no copies:
//!
//! ```compile_fail,E0308
//! # use agent_core::{postgres, ruling::*};
//! fn forward(session: &mut postgres::Session, permit: &Permit) {
//!     let _ = session.allow(permit.clone());
//! }
//! ```
//!
//! Nor is the admission of a session a permit for a command in it:
//!
//! ```compile_fail,E0308
//! # use agent_core::{postgres, ruling::*};
//! fn forward(session: &mut postgres::Session, admission: Admission) {
//!     let _ = session.allow(admission);
//! }
//! ```

use crate::{
    audit::{
        Record,
        record::{DecisionRecord, StatementRef, Texts},
    },
    decision::Decision,
    facts::{Action, Facts},
};

/// The number under which the trail holds the decision on a session's beginning; commands count from 1.
const BEGINNING: u64 = 0;

/// Where decisions are recorded.
pub trait Ledger {
    /// Why a record was not written.
    type Error;

    /// Writes one record. `Ok` only once `write(2)` of all of it has returned: what has not been written must
    /// never be claimed, for the answer is what lets the command pass.
    ///
    /// # Errors
    /// The record is not in the trail.
    fn write(&self, record: &Record<'_>) -> Result<(), Self::Error>;
}

/// What is decided, as the trail shows it.
#[derive(Clone, Copy)]
pub struct Case<'a> {
    /// The session's id.
    pub session: &'a str,
    /// The protocol's name.
    pub protocol: &'a str,
    /// What the command does.
    pub facts: &'a Facts,
    /// To what, one for each of the facts' accesses, as policies spell it.
    pub resources: &'a [String],
    /// The command's text; `None` for what has none, as the beginning of a session.
    pub statement: Option<StatementRef<'a>>,
}

impl Case<'_> {
    /// Records the decision on the session's command of this number, then returns what follows from it.
    ///
    /// # Errors
    /// The record was not written: the command must not be forwarded, and there is no permit to do so.
    pub fn rule<L: Ledger>(
        &self,
        command: u64,
        decision: &Decision,
        ledger: &L,
    ) -> Result<Ruling<Permit>, L::Error> {
        self.record(command, decision, ledger)?;
        Ok(Ruling::of(decision, Permit { command }))
    }

    /// Records the decision on the session's beginning, then returns what follows from it.
    ///
    /// # Errors
    /// The record was not written: nothing may be dialled.
    pub fn admit<L: Ledger>(&self, decision: &Decision, ledger: &L) -> Result<Ruling<Admission>, L::Error> {
        self.record(BEGINNING, decision, ledger)?;
        Ok(Ruling::of(decision, Admission { _private: () }))
    }

    fn record<L: Ledger>(&self, command: u64, decision: &Decision, ledger: &L) -> Result<(), L::Error> {
        let actions: Vec<Action> = self.facts.accesses.iter().map(|access| access.action).collect();
        ledger.write(&Record::Decision(DecisionRecord {
            session: self.session,
            command,
            protocol: self.protocol,
            actions: &actions,
            resources: Texts::Strings(self.resources),
            statement: self.statement,
            decision: decision.effect,
            policies: Texts::Boxed(&decision.policies),
            reason: &decision.reason,
            masked: Texts::Strs(&[]),
            observed: decision.observed,
        }))
    }
}

/// A decision that the trail holds; `P` is what it grants if it lets the command or the session pass.
#[derive(Debug, PartialEq, Eq)]
pub enum Ruling<P> {
    /// It passes: policy allows it, or policy's denial is only observed.
    Allow(P),
    /// It is refused.
    Deny(Denied),
}

impl<P> Ruling<P> {
    fn of(decision: &Decision, grant: P) -> Self {
        if decision.passes() { Self::Allow(grant) } else { Self::Deny(Denied::of(decision)) }
    }
}

/// Why a command is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Denied {
    /// One sentence for the client.
    words: Box<str>,
}

impl Denied {
    /// A refusal that is no policy's, in these words.
    pub fn new(words: impl Into<Box<str>>) -> Self {
        Self { words: words.into() }
    }

    fn of(decision: &Decision) -> Self {
        let reason = &decision.reason;
        let words = if decision.policies.is_empty() {
            format!("denied: {reason}")
        } else {
            format!("denied by policy {}: {reason}", decision.policies.join(", "))
        };
        Self::new(words)
    }

    /// What the client is told: of a decision `denied by policy NAME: REASON`, or `denied: REASON` where no
    /// policy decided.
    pub fn words(&self) -> &str {
        &self.words
    }
}

/// The right to forward one command: its number is in the trail, with a decision that lets it pass.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "a command that was allowed and is not forwarded leaves the trail wrong"]
pub struct Permit {
    command: u64,
}

impl Permit {
    /// The command that may pass.
    pub fn command(&self) -> u64 {
        self.command
    }
}

/// The right to begin a session: its upstream may be dialled. It lasts as long as the session, so it can be
/// copied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Admission {
    _private: (),
}

/// A connection to an upstream that was reached before the session was decided, so that the client's
/// `connect` fails if nobody can be reached. It can't be written to or read from without the session's
/// admission; it can only be closed.
#[derive(Debug)]
pub struct Reached<T> {
    connection: T,
}

impl<T> Reached<T> {
    /// A connection over which nothing was sent.
    pub fn new(connection: T) -> Self {
        Self { connection }
    }

    /// The connection, for a session that may begin.
    pub fn admit(self, _: &Admission) -> T {
        self.connection
    }
}

/// The right to hand the upstream a statement to prepare, under no name, that policy allows and nobody has
/// recorded yet. It runs only by an Execute, which needs a [`Permit`] of its own. A session takes it for
/// nothing else.
#[derive(Debug, PartialEq, Eq)]
pub struct Preparation {
    command: u64,
}

impl Preparation {
    /// The right to prepare what the session's command of this number brings, where the decision lets it
    /// pass.
    pub fn of(command: u64, decision: &Decision) -> Option<Self> {
        decision.passes().then_some(Self { command })
    }

    /// The command that may pass.
    pub fn command(&self) -> u64 {
        self.command
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::cell::RefCell;

    use super::*;
    use crate::decision::Effect;

    /// A ledger in memory, of decisions only: command numbers. It fails from `full` records on.
    pub(crate) struct Paper {
        commands: RefCell<Vec<u64>>,
        full: usize,
    }

    impl Ledger for Paper {
        type Error = &'static str;

        fn write(&self, record: &Record<'_>) -> Result<(), &'static str> {
            let Record::Decision(decision) = record else { return Err("no decision") };
            if self.commands.borrow().len() == self.full {
                return Err("full");
            }
            self.commands.borrow_mut().push(decision.command);
            Ok(())
        }
    }

    fn paper(full: usize) -> Paper {
        Paper { commands: RefCell::default(), full }
    }

    fn decision(effect: Effect, observed: bool, policies: &[&str]) -> Decision {
        let policies = policies.iter().map(|name| (*name).into()).collect();
        Decision { effect, policies, reason: "because".into(), observed }
    }

    fn rule(command: u64, decision: &Decision, paper: &Paper) -> Result<Ruling<Permit>, &'static str> {
        let facts = Facts::connect();
        let case = Case { session: "s", protocol: "tcp", facts: &facts, resources: &[], statement: None };
        case.rule(command, decision, paper)
    }

    /// A permit for a session under test, got as everybody gets one.
    pub(crate) fn permit(command: u64) -> Permit {
        match rule(command, &decision(Effect::Allow, false, &[]), &paper(1)) {
            Ok(Ruling::Allow(permit)) => permit,
            other => panic!("{other:?}"),
        }
    }

    /// An admission for a session under test, got as everybody gets one.
    pub(crate) fn admission() -> Admission {
        let facts = Facts::connect();
        let case = Case { session: "s", protocol: "tcp", facts: &facts, resources: &[], statement: None };
        match case.admit(&decision(Effect::Allow, false, &[]), &paper(1)) {
            Ok(Ruling::Allow(admission)) => admission,
            other => panic!("{other:?}"),
        }
    }

    /// A preparation for a session under test, got as everybody gets one.
    pub(crate) fn preparation(command: u64) -> Preparation {
        Preparation::of(command, &decision(Effect::Allow, false, &[])).unwrap()
    }

    #[test]
    fn only_a_recorded_decision_that_lets_pass_makes_a_permit() {
        let check = |effect, observed, expect: bool| {
            let paper = paper(1);
            let ruling = rule(7, &decision(effect, observed, &["p"]), &paper).unwrap();
            assert_eq!(
                matches!(ruling, Ruling::Allow(Permit { command: 7 })),
                expect,
                "{effect:?} {observed}"
            );
            assert_eq!(*paper.commands.borrow(), [7], "denials are recorded too");
        };
        check(Effect::Allow, false, true);
        check(Effect::Deny, true, true);
        check(Effect::Deny, false, false);
        check(Effect::Hold, false, false);
    }

    #[test]
    fn a_decision_that_cannot_be_recorded_makes_none() {
        assert_eq!(rule(1, &decision(Effect::Allow, false, &[]), &paper(0)), Err("full"));
    }

    #[test]
    fn a_preparation_needs_a_decision_that_lets_pass() {
        assert_eq!(preparation(3).command(), 3);
        assert_eq!(Preparation::of(3, &decision(Effect::Deny, false, &[])), None);
        assert!(Preparation::of(3, &decision(Effect::Deny, true, &[])).is_some());
    }

    #[test]
    fn a_client_is_told_which_policies_denied() {
        let check = |policies: &[&str], expect| {
            assert_eq!(Denied::of(&decision(Effect::Deny, false, policies)).words(), expect);
        };
        check(&[], "denied: because");
        check(&["a"], "denied by policy a: because");
        check(&["a", "b"], "denied by policy a, b: because");
    }
}
