//! From a statement to a ruling: facts by the SQL grammar, a decision by policy, a record in the trail.
//!
//! The judge decides and records ([`Judge::rule`]); this file says what there is to decide: which statements
//! a message, a name or a portal can stand for, and what the trail shows of them.

use std::{borrow::Cow, sync::Arc};

use agent_core::{
    audit::record::StatementRef,
    facts::{Action, Facts},
    postgres::{Candidates, Excess, Meanings, Parameters, Question, Statement, Unsettled},
    ruling::{Denied, Permit, Preparation, Ruling},
};

use super::{
    changes,
    executed::{Executed, Whole},
    names::{Names, joined},
    reading::{Reader, Reading},
    schemas::Schemas,
};
use crate::{
    audit::{AuditError, Literals},
    bounds::Bound,
    proxy::session::{
        Session,
        judge::{Command, Judge},
    },
};

/// Why a command may not follow another that may change how the server reads text.
const BEHIND_SETTINGS: &str =
    "which setting a command before it changes can't be told: send Sync, and then this one";

/// Rules on one session's statements.
pub struct Statements {
    judge: Judge,
    literals: Literals,
    reader: Reader,
    /// What SQL's `PREPARE` named.
    prepared: Names,
    /// Where relations may be.
    schemas: Schemas,
    /// A command before this one may change how the server reads text, and the server has not reported yet.
    settings_awaited: bool,
}

/// A command as the trail shows it.
struct Shown<'a> {
    /// Its number in the session.
    number: u64,
    /// All that it does.
    facts: &'a Facts,
    /// Where they were read from.
    reading: &'a Reading,
    /// Its text.
    text: &'a str,
    /// Its parameters.
    parameters: &'a [Option<Cow<'a, str>>],
}

impl Shown<'_> {
    fn command(&self) -> Command<'_> {
        let &Self { number, facts, reading, text, parameters } = self;
        let statement = StatementRef { text, fingerprint: &reading.fingerprint, parameters };
        Command { number, facts, statement: Some(statement) }
    }
}

/// What lets a message pass.
pub enum Grant {
    /// A recorded decision.
    Run(Permit),
    /// A decision: a Parse without a name, which runs nothing yet.
    Prepare(Preparation),
}

/// The ruling on what one question asks.
pub struct Ruled {
    /// Whether the message goes on.
    pub ruling: Ruling<Grant>,
    /// The trail holds a decision of this number, so an outcome must follow it there.
    pub recorded: bool,
    /// Names that the text gives a meaning by SQL's `PREPARE`; `None` for any name.
    pub prepares: Vec<Option<Box<str>>>,
    /// The text may make cursors.
    pub declares: bool,
    /// The names that the text deallocates, in its order.
    pub deallocates: Vec<Box<str>>,
    /// Nothing may follow the command before the server has reported its settings.
    pub awaits_settings: bool,
    /// What the client can do about a denial.
    pub hint: Option<&'static str>,
}

impl Ruled {
    fn of(ruling: Ruling<Grant>, recorded: bool) -> Self {
        let (prepares, deallocates) = (Vec::new(), Vec::new());
        Self { ruling, recorded, prepares, declares: false, deallocates, awaits_settings: false, hint: None }
    }

    /// Denied without a record.
    fn denied(words: impl Into<Box<str>>) -> Self {
        Self::of(Ruling::Deny(Denied::new(words)), false)
    }

    fn recorded(ruled: Result<Ruling<Permit>, AuditError>) -> Self {
        match ruled {
            Ok(Ruling::Allow(permit)) => Self::of(Ruling::Allow(Grant::Run(permit)), true),
            Ok(Ruling::Deny(denied)) => Self::of(Ruling::Deny(denied), true),
            Err(error) => {
                tracing::error!(%error, "a command could not be recorded, so it is denied");
                Self::denied(format!("the command cannot be recorded, so it is not sent: {error}"))
            }
        }
    }

    fn passes(&self) -> bool {
        matches!(self.ruling, Ruling::Allow(_))
    }

    /// Says what the client can do, if this denies a command with these facts.
    fn hinting(self, facts: &Facts) -> Self {
        let hint = if self.passes() { None } else { changes::hint(facts) };
        Self { hint, ..self }
    }

    /// Takes note of what a text, with all that it runs, does to names.
    fn with_names_of(mut self, reading: &Reading, prepares: bool, declares: bool) -> Self {
        let calls = reading.analysis.facts.accesses.iter().any(|access| access.action == Action::SqlCall);
        self.prepares = reading.analysis.prepares.iter().map(|(name, _)| Some(name.clone())).collect();
        if calls || prepares {
            self.prepares.push(None);
        }
        self.declares = calls || declares || reading.declares;
        self.deallocates.clone_from(&reading.analysis.deallocates);
        self
    }
}

impl Statements {
    /// A session that has sent no statement yet; its judge has admitted it. `schemas` are those of its
    /// startup message.
    pub fn new(session: &Session, judge: Judge, schemas: Schemas) -> Self {
        let parts = &session.proxy.parts;
        let overflows = parts.metrics.bound(Bound::Names);
        Self {
            judge,
            literals: parts.literals,
            reader: Reader::new(parts.literals, parts.metrics.bound(Bound::Readings)),
            prepared: Names::new(overflows),
            schemas,
            settings_awaited: false,
        }
    }

    /// Rules on what the machine asks. Where this lets something run, the trail holds the decision.
    /// `settings_awaited` says that it may not let anything pass.
    ///
    /// # Errors
    /// It can't be told yet what would run.
    pub fn rule(
        &mut self,
        session: &Session,
        number: u64,
        question: &Question<'_>,
        meanings: &Meanings<'_>,
        settings_awaited: bool,
    ) -> Result<Ruled, Unsettled> {
        self.judge.look(session);
        self.settings_awaited = settings_awaited;
        Ok(match question {
            Question::Startup(_) => Ruled::denied("a session begins once only"),
            Question::Simple { text } => {
                let reading = self.reader.read(text, meanings.encoding());
                let Whole { facts, prepares, declares } = self.whole(number, &reading, meanings)?;
                let text = &reading.shown(text);
                let shown = Shown { number, facts: &facts, reading: &reading, text, parameters: &[] };
                self.settle_run(session, &shown).with_names_of(&reading, prepares, declares)
            }
            Question::Prepare { name, statement } => {
                self.prepare(session, number, name, statement, meanings)?
            }
            Question::Bind { candidates, parameters, .. } => {
                self.run(session, number, *candidates, *parameters, meanings, Self::settle)?
            }
            Question::Execute { candidates, parameters, .. } => {
                self.run(session, number, *candidates, *parameters, meanings, Self::settle_run)?
            }
            Question::Function { oid } => {
                let reading = Reading::of(changes::function_call(*oid));
                let text = format!("(FunctionCall of function {oid})");
                let facts = &reading.analysis.facts;
                let shown = Shown { number, facts, reading: &reading, text: &text, parameters: &[] };
                self.settle_run(session, &shown).with_names_of(&reading, false, false)
            }
            Question::Excess { excess, bytes } => {
                let bound = match excess {
                    Excess::Query | Excess::Parse | Excess::FunctionCall => Bound::MessageBytes,
                    Excess::Statements | Excess::KeptBytes => Bound::PreparedStatements,
                };
                session.proxy.parts.metrics.bound(bound).inc();
                let reading = Reading::of(Facts::of_sql(Action::SqlUnparsed));
                let text = format!("(a message of {bytes} bytes)");
                let facts = &reading.analysis.facts;
                let shown = Shown { number, facts, reading: &reading, text: &text, parameters: &[] };
                Ruled::recorded(self.judge.deny(session, &shown.command(), excess.reason()))
            }
        })
    }

    /// Decides a Parse. One that gives the statement a name is recorded, as `PREPARE` is: SQL can run it by
    /// that name. One without a name is recorded when it is denied; else its execution is what the trail
    /// shows.
    fn prepare(
        &mut self,
        session: &Session,
        number: u64,
        name: &[u8],
        statement: &Statement,
        meanings: &Meanings<'_>,
    ) -> Result<Ruled, Unsettled> {
        let reading = self.reader.read_statement(statement, meanings.encoding());
        // Planning calls no function that changes settings: those that parameters decide are decided with
        // the values. SQL's EXECUTE brings none that are read.
        let facts = match &reading.analysis.parameters {
            Some(by_parameters) => self.schemas.locate(Cow::Borrowed(by_parameters.prepared())),
            None => self.whole(number, &reading, meanings)?.facts,
        };
        let text = &reading.shown(statement.text());
        let shown = Shown { number, facts: &facts, reading: &reading, text, parameters: &[] };
        if self.settings_awaited {
            return Ok(self.settle(session, &shown));
        }
        let judgement = self.judge.decide(&facts);
        if name.is_empty()
            && let Some(preparation) = Preparation::of(number, judgement.decision())
        {
            return Ok(Ruled::of(Ruling::Allow(Grant::Prepare(preparation)), false));
        }
        let ruled = Ruled::recorded(Judge::record(session, &shown.command(), &judgement));
        Ok(ruled.hinting(&facts))
    }

    /// Decides what a portal can stand for: an Execute of it, or the Bind that gives it a name, by which SQL
    /// `FETCH` can run it. The server runs one of the candidates: each must be allowed. `settle` decides.
    fn run(
        &mut self,
        session: &Session,
        number: u64,
        candidates: Candidates<'_>,
        values: Option<&Parameters>,
        meanings: &Meanings<'_>,
        settle: fn(&mut Self, &Session, &Shown<'_>) -> Ruled,
    ) -> Result<Ruled, Unsettled> {
        let parameters = values.map(|values| self.parameters(values)).unwrap_or_default();
        let encoding = meanings.encoding();
        let parsed = match candidates.parsed {
            Some(statement) => Some((self.reader.read_statement(statement, encoding), statement)),
            None => None,
        };
        let whole = match &parsed {
            Some((reading, statement)) => Some(match &reading.analysis.parameters {
                Some(by_parameters) => {
                    let facts = Cow::Owned(changes::bound(by_parameters, statement, values));
                    Whole { facts: self.schemas.locate(facts), prepares: false, declares: false }
                }
                None => self.whole(number, reading, meanings)?,
            }),
            None => None,
        };
        let (prepares, declares) =
            whole.as_ref().map_or((false, false), |whole| (whole.prepares, whole.declares));
        let others = self.unparsed_candidates(candidates);
        let (facts, text, reading): (Cow<'_, Facts>, Cow<'_, str>, _) = match (&parsed, whole, &*others) {
            (Some((reading, statement)), Some(whole), []) => {
                (whole.facts, reading.shown(statement.text()), Arc::clone(reading))
            }
            // Only one of them runs, but it can't be told which.
            (parsed, whole, others) => {
                let mut facts: Vec<Facts> = others.iter().map(|(facts, _)| facts.clone()).collect();
                let mut texts: Vec<Cow<'_, str>> = others.iter().map(|(_, text)| (&**text).into()).collect();
                let mut reading = None;
                if let (Some((parsed, statement)), Some(whole)) = (parsed, whole) {
                    facts.push(whole.facts.into_owned());
                    texts.insert(0, parsed.shown(statement.text()));
                    reading = Some(Arc::clone(parsed));
                }
                let facts = self.schemas.locate(Cow::Owned(joined(&facts))).into_owned();
                let reading = reading.unwrap_or_else(|| Arc::new(Reading::of(facts.clone())));
                (Cow::Owned(facts), texts.join(" or ").into(), reading)
            }
        };
        let shown = Shown { number, facts: &facts, reading: &reading, text: &text, parameters: &parameters };
        Ok(settle(self, session, &shown).with_names_of(&reading, prepares, declares))
    }

    /// What a portal can stand for that Parse didn't make: facts, and words for the trail.
    fn unparsed_candidates(&self, candidates: Candidates<'_>) -> Vec<(Facts, String)> {
        let Candidates { parsed, sql_prepared, sql_cursor } = candidates;
        let mut others = Vec::new();
        if let Some(name) = sql_prepared {
            // SQL gives no other name than one in UTF-8, of at most 63 bytes.
            let known = str::from_utf8(name).ok().and_then(|name| self.prepared.of(name));
            let known = known.filter(|meanings| meanings.len() > 0);
            let facts = known.map_or_else(|| Facts::of_sql(Action::SqlOther), joined);
            let name = String::from_utf8_lossy(name);
            others.push((facts, format!("(the statement that PREPARE named {name})")));
        }
        if sql_cursor.is_some() {
            // Its query was decided when it was declared; this reads on in it.
            others.push((Facts::of_sql(Action::SqlFetch), "(a cursor that DECLARE made)".to_owned()));
        }
        if parsed.is_none() && others.is_empty() {
            let text = "(a portal that this session never saw made)".to_owned();
            others.push((Facts::of_sql(Action::SqlOther), text));
        }
        others
    }

    /// The text of this command with all that it runs by name.
    fn whole<'r>(
        &mut self,
        command: u64,
        reading: &'r Arc<Reading>,
        meanings: &Meanings<'_>,
    ) -> Result<Whole<'r>, Unsettled> {
        let Self { reader, prepared, schemas, .. } = self;
        let whole = Executed { reader, prepared, meanings: *meanings, command }.whole(reading)?;
        Ok(Whole { facts: schemas.locate(whole.facts), ..whole })
    }

    /// The upstream confirmed that a command dropped the prepared statement of this name, or all of them.
    pub fn deallocated(&mut self, command: u64, name: Option<&[u8]>) {
        self.prepared.drop(command, name);
    }

    /// The upstream is idle: portals have ended with their transaction.
    pub fn idle(&mut self) {
        self.prepared.idle();
    }

    /// Decides and records.
    fn settle(&mut self, session: &Session, shown: &Shown<'_>) -> Ruled {
        let command = &shown.command();
        let ruling = if self.settings_awaited {
            self.judge.deny(session, command, BEHIND_SETTINGS)
        } else {
            self.judge.rule(session, command)
        };
        Ruled::recorded(ruling).hinting(shown.facts)
    }

    /// Decides and records a command that runs if it passes.
    fn settle_run(&mut self, session: &Session, shown: &Shown<'_>) -> Ruled {
        let mut ruled = self.settle(session, shown);
        if ruled.passes() {
            self.schemas.add(shown.facts);
            ruled.awaits_settings = shown.facts.sql().is_some_and(|sql| sql.awaits_settings);
        }
        ruled
    }

    /// A portal's parameters, as the trail keeps them.
    fn parameters<'a>(&self, parameters: &'a Parameters) -> Vec<Option<Cow<'a, str>>> {
        let Some(values) = parameters.values() else { return Vec::new() };
        values
            .into_iter()
            .map(|parameter| {
                let value = parameter.value?;
                Some(match (self.literals, parameter.format) {
                    (Literals::Redact, _) => Cow::Borrowed("?"),
                    (Literals::Keep, 0) => String::from_utf8_lossy(value),
                    (Literals::Keep, _) => Cow::Owned(hex(value)),
                })
            })
            .collect()
    }
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::from("\\x"), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}
