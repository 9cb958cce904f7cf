//! From a statement to a verdict: facts by the SQL grammar, a decision by policy, a record in the trail.
//!
//! The order is the product: nothing is allowed before its record is written, and what can't be recorded is
//! denied.

use std::{borrow::Cow, collections::BTreeSet, sync::Arc};

use agent_core::{
    audit::record::StatementRef,
    decision::Decision,
    facts::{Action, Detail, Facts, SqlFacts},
    postgres::{Candidates, Excess, Parameters, Question, Setting, Statement},
    target::Scope,
};
use agent_policy::{Bundle, Decider, DecisionCache, EngineError, Judgement, ObservedDenials, Upstream};
use agent_sql::Analysis;
use prometheus::IntCounter;

use super::{
    super::session::Session,
    names::Names,
    reading::{Reader, Reading},
};
use crate::{audit::Literals, bounds::Bound, clock::unix_now};

/// What PostgreSQL keeps of a name (`NAMEDATALEN` - 1).
const NAME_BYTES_MAX: usize = 63;
/// The function `set_config`, by its OID (`pg_proc.dat`).
const SET_CONFIG: u32 = 2078;

/// Decides one session's commands.
pub struct Judge {
    policy: DecisionCache,
    bundle_version: String,
    upstream: Upstream,
    scope: Scope,
    literals: Literals,
    /// The facts without which there is no session: the connection, and what its startup message sets.
    beginning: Vec<Facts>,
    /// What becomes of observed denials of the session's beginning.
    observed: ObservedDenials,
    /// Why nothing is allowed any more, whatever policy says of it.
    barred: Option<String>,
    /// How often the cache was full.
    forgotten: IntCounter,
    reader: Reader,
    /// What SQL's `PREPARE` named.
    prepared: Names,
    /// What Parse named, for SQL's `EXECUTE`.
    parsed: Names,
    /// What Bind named, for SQL's `FETCH`.
    bound: Names,
}

/// A command as it is decided and recorded.
struct Command<'a> {
    /// Its number in the session.
    number: u64,
    /// All that it does.
    facts: &'a Facts,
    /// Where they were read from.
    reading: &'a Reading,
    /// What the trail shows of it.
    text: &'a str,
    /// Its parameters, likewise.
    parameters: &'a [Option<Cow<'a, str>>],
}

/// What is done with a command.
pub enum Judged {
    /// It is forwarded.
    Allow,
    /// It is replaced by poison; the client is told this.
    Deny(String),
}

/// The answer to one question.
pub struct Answer {
    /// Whether the command goes on.
    pub judged: Judged,
    /// The trail holds a decision of this number, so that an outcome belongs to it.
    pub recorded: bool,
    /// Names that its text gives a meaning by SQL's `PREPARE`; `None` for any name.
    pub prepares: Vec<Option<Box<str>>>,
    /// Its text may make cursors.
    pub declares: bool,
}

impl Answer {
    fn of(judged: Judged, recorded: bool) -> Self {
        Self { judged, recorded, prepares: Vec::new(), declares: false }
    }

    fn denied(reason: &str) -> Self {
        Self::of(Judged::Deny(format!("lineal: {reason}")), false)
    }

    /// Takes note of what a text does to names.
    fn with_names_of(mut self, reading: &Reading) -> Self {
        let calls = reading.analysis.facts.accesses.iter().any(|access| access.action == Action::SqlCall);
        self.prepares = reading.analysis.prepares.iter().map(|(name, _)| Some(name.clone())).collect();
        if calls {
            self.prepares.push(None);
        }
        self.declares = calls || reading.declares;
        self
    }
}

impl Judge {
    /// The judge of one session under one bundle.
    pub fn new(
        session: &Session,
        bundle: &Arc<Bundle>,
        upstream: &Upstream,
        database: &str,
        user: &str,
        credentialed: bool,
    ) -> Result<Self, EngineError> {
        let scope = Scope::sql(database, user);
        let policy = Decider::new(bundle, &session.subject, upstream, &scope)?;
        // A job that is only observed is not given a login that policy would not give it.
        let observed = if credentialed { ObservedDenials::Enforced } else { ObservedDenials::Pass };
        let metrics = &session.proxy.parts.metrics;
        let overflows = metrics.bound(Bound::Names);
        Ok(Self {
            policy: DecisionCache::new(policy),
            bundle_version: bundle.version().to_owned(),
            upstream: upstream.clone(),
            scope,
            literals: session.proxy.parts.literals,
            beginning: vec![Facts::connect()],
            observed,
            barred: None,
            forgotten: metrics.bound(Bound::Decisions),
            reader: Reader::new(session.proxy.parts.literals, metrics.bound(Bound::Readings)),
            prepared: Names::new(overflows.clone()),
            parsed: Names::new(overflows.clone()),
            bound: Names::new(overflows),
        })
    }

    /// Takes a new bundle in, if there is one. One that can't represent the session, or would not have let it
    /// begin, denies everything: the old one has no say any more.
    fn refresh(&mut self, session: &Session) -> Result<(), String> {
        let bundle = session.proxy.parts.policy.current();
        if bundle.version() == self.bundle_version {
            return Ok(());
        }
        let upstream = bundle
            .upstream_for(session.destination)
            .filter(|upstream| **upstream == self.upstream)
            .ok_or("the policy bundle no longer declares this upstream")?;
        let policy = Decider::new(&bundle, &session.subject, upstream, &self.scope)
            .map_err(|error| error.to_string())?;
        let decision = self.decide_beginning(&policy, &joined(&self.beginning)).decision;
        if !decision.passes() {
            let reason = decision.reason;
            return Err(format!("policy has changed, and would not let this session begin: {reason}"));
        }
        self.policy = DecisionCache::new(policy);
        self.bundle_version = bundle.version().to_owned();
        Ok(())
    }

    /// Policy's answer to the session's beginning, which comes to `whole`.
    fn decide_beginning(&self, policy: &Decider, whole: &Facts) -> Judgement {
        policy.decide_parts(&self.beginning, whole, unix_now(), &[], self.observed)
    }

    /// Policy's answer to some facts, and their resources.
    pub fn decide(&mut self, facts: &Facts, now_unix: i64) -> Arc<Judgement> {
        match &self.barred {
            None => {
                let before = self.policy.forgotten();
                let judgement = self.policy.decide(facts, now_unix, &[]);
                let forgotten = self.policy.forgotten() - before;
                if forgotten > 0 {
                    self.forgotten.inc_by(forgotten);
                }
                judgement
            }
            Some(reason) => Arc::new(self.policy.decider().denied(facts, reason)),
        }
    }

    /// Decides the session itself: the connection, and each setting that its startup message makes, as `SET`.
    pub fn begin(&mut self, settings: &[Setting]) -> (Facts, Judgement) {
        let set = settings.iter().filter(|(name, _)| !agent_sql::decides_reading(name));
        let names: BTreeSet<Box<str>> = set.map(|(name, _)| name.clone()).collect();
        if !names.is_empty() {
            let sql = SqlFacts { settings: names.into_iter().collect(), ..SqlFacts::one_statement() };
            self.beginning.push(Facts { detail: Some(Detail::Sql(sql)), ..Facts::of_sql(Action::SqlSet) });
        }
        let whole = joined(&self.beginning);
        let judgement = self.decide_beginning(self.policy.decider(), &whole);
        (whole, judgement)
    }

    /// Answers the machine's question. When this allows what runs, the trail holds the decision.
    pub fn judge(&mut self, session: &Session, number: u64, question: &Question<'_>) -> Answer {
        self.barred = session.standing().objection().or_else(|| self.refresh(session).err());
        match question {
            Question::Startup(_) => Answer::denied("a session begins once only"),
            Question::Simple { text } => {
                let reading = self.reader.read(text);
                let facts = self.complete(&reading.analysis);
                let shown = reading.shown(text);
                let command =
                    Command { number, facts: &facts, reading: &reading, text: &shown, parameters: &[] };
                self.settle(session, &command).with_names_of(&reading)
            }
            Question::Prepare { name, statement } => self.prepare(session, number, name, statement),
            Question::Bind { portal, candidates, parameters } => {
                self.run(session, number, *candidates, *parameters, Some(portal))
            }
            Question::Execute { candidates, parameters, .. } => {
                self.run(session, number, *candidates, *parameters, None)
            }
            Question::Function { oid } => {
                // Its arguments are not looked at, so which setting it changes is not known.
                let barred = (*oid == SET_CONFIG).then(|| agent_sql::altered_reading("?"));
                let reading = Reading::of(Facts { barred, ..Facts::of_sql(Action::SqlCall) });
                let text = format!("(FunctionCall of function {oid})");
                let facts = &reading.analysis.facts;
                let command = Command { number, facts, reading: &reading, text: &text, parameters: &[] };
                self.settle(session, &command).with_names_of(&reading)
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
                let judgement = self.policy.decider().denied(facts, excess.reason());
                let command = Command { number, facts, reading: &reading, text: &text, parameters: &[] };
                Self::record(session, &command, &judgement)
            }
        }
    }

    /// Decides a Parse. One that gives the statement a name is recorded, as `PREPARE` is: SQL can run it by that
    /// name. One without a name is recorded when it is denied; else its execution is what the trail shows.
    fn prepare(&mut self, session: &Session, number: u64, name: &[u8], statement: &Statement) -> Answer {
        let reading = self.reader.read_statement(statement);
        let facts = self.complete(&reading.analysis);
        let judgement = self.decide(&facts, unix_now());
        if judgement.decision.passes() && name.is_empty() {
            return Answer::of(Judged::Allow, false);
        }
        let shown = reading.shown(statement.text());
        let command = Command { number, facts: &facts, reading: &reading, text: &shown, parameters: &[] };
        let answer = Self::record(session, &command, &judgement);
        if matches!(answer.judged, Judged::Allow) {
            self.parsed.add(&sql_name(name), &facts);
        }
        answer
    }

    /// Decides what a portal can stand for: an Execute of it, or the Bind that gives it the name `bound`, by which
    /// SQL's `FETCH` can run it. The server runs one of the candidates: each must be allowed.
    fn run(
        &mut self,
        session: &Session,
        number: u64,
        candidates: Candidates<'_>,
        parameters: Option<&Parameters>,
        bound: Option<&[u8]>,
    ) -> Answer {
        let parameters = parameters.map(|parameters| self.parameters(parameters)).unwrap_or_default();
        let parsed = candidates.parsed.map(|statement| (self.reader.read_statement(statement), statement));
        let others = self.unparsed_candidates(candidates);
        let (facts, text, reading): (Cow<'_, Facts>, Cow<'_, str>, _) = match (&parsed, &*others) {
            (Some((reading, statement)), []) => {
                (self.complete(&reading.analysis), reading.shown(statement.text()), Arc::clone(reading))
            }
            // Only one of them runs, but it can't be told which.
            (parsed, others) => {
                let mut facts: Vec<Facts> = others.iter().map(|(facts, _)| facts.clone()).collect();
                let mut texts: Vec<Cow<'_, str>> = others.iter().map(|(_, text)| (&**text).into()).collect();
                let mut reading = None;
                if let Some((parsed, statement)) = parsed {
                    facts.push(self.complete(&parsed.analysis).into_owned());
                    texts.insert(0, parsed.shown(statement.text()));
                    reading = Some(Arc::clone(parsed));
                }
                let facts = joined(&facts);
                let reading = reading.unwrap_or_else(|| Arc::new(Reading::of(facts.clone())));
                (Cow::Owned(facts), texts.join(" or ").into(), reading)
            }
        };
        let command =
            Command { number, facts: &facts, reading: &reading, text: &text, parameters: &parameters };
        let answer = self.settle(session, &command).with_names_of(&reading);
        if let Some(portal) = bound
            && matches!(answer.judged, Judged::Allow)
        {
            self.bound.add(&sql_name(portal), &facts);
        }
        answer
    }

    /// What a portal can stand for that Parse didn't make: facts, and words for the trail.
    fn unparsed_candidates(&self, candidates: Candidates<'_>) -> Vec<(Facts, String)> {
        let Candidates { parsed, sql_prepared, sql_cursor } = candidates;
        let mut others = Vec::new();
        if let Some(name) = sql_prepared {
            let name = sql_name(name);
            let known = self.prepared.of(&name).filter(|meanings| !meanings.is_empty());
            let facts = known.map_or_else(|| Facts::of_sql(Action::SqlOther), joined);
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

    /// The statement's facts with those of whatever `EXECUTE` and `FETCH` run in it.
    fn complete<'a>(&mut self, analysis: &'a Analysis) -> Cow<'a, Facts> {
        for (name, facts) in &analysis.prepares {
            self.prepared.add(name, facts);
        }
        if analysis.executes.is_empty() && analysis.fetches.is_empty() {
            return Cow::Borrowed(&analysis.facts);
        }
        let other = Facts::of_sql(Action::SqlOther);
        let mut all = vec![&analysis.facts];
        for name in &analysis.executes {
            let (by_sql, by_protocol) = (self.prepared.of(name), self.parsed.of(name));
            let before = all.len();
            all.extend(by_sql.iter().chain(&by_protocol).copied().flatten());
            // The server will most likely not know it either; it is denied if it could be anything.
            if by_sql.is_none() || by_protocol.is_none() || all.len() == before {
                all.push(&other);
            }
        }
        for name in &analysis.fetches {
            // What isn't a portal of the protocol's is a cursor: its query was decided when it was declared.
            match self.bound.of(name) {
                Some(meanings) => all.extend(meanings),
                None => all.push(&other),
            }
        }
        Cow::Owned(joined(all))
    }

    fn settle(&mut self, session: &Session, command: &Command<'_>) -> Answer {
        let judgement = self.decide(command.facts, unix_now());
        Self::record(session, command, &judgement)
    }

    fn record(session: &Session, command: &Command<'_>, judgement: &Judgement) -> Answer {
        let &Command { number, facts, reading, text, parameters } = command;
        let Judgement { decision, resources } = judgement;
        let statement = StatementRef { text, fingerprint: &reading.fingerprint, parameters };
        match session.record_decision(number, facts, resources, Some(statement), decision) {
            Ok(()) if decision.passes() => Answer::of(Judged::Allow, true),
            Ok(()) => Answer::of(Judged::Deny(denial(decision)), true),
            Err(error) => {
                tracing::error!(%error, "a command could not be recorded, so it is denied");
                Answer::denied(&format!("the command cannot be recorded, so it is not sent: {error}"))
            }
        }
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

/// What the client is told of a denial.
pub fn denial(decision: &Decision) -> String {
    if decision.policies.is_empty() {
        return format!("lineal: denied: {}", decision.reason);
    }
    format!("lineal: denied by policy {}: {}", decision.policies.join(", "), decision.reason)
}

/// A setting that no startup message may make: the server would read text in another way than the analysis.
pub fn forbidden_setting(settings: &[Setting]) -> Option<&str> {
    let forbidden =
        |(name, value): &&Setting| agent_sql::decides_reading(name) && !agent_sql::keeps_reading(name, value);
    settings.iter().find(forbidden).map(|(name, _)| &**name)
}

/// All that any of these do, as one command; too much of it is `sql:other`.
fn joined<'a>(each: impl IntoIterator<Item = &'a Facts>) -> Facts {
    let mut each = each.into_iter();
    let Some(mut all) = each.next().cloned() else { return Facts::of_sql(Action::SqlOther) };
    for facts in each {
        all.join(facts);
        if all.weight().items() > agent_sql::FACTS_MAX {
            return Facts::of_sql(Action::SqlOther);
        }
    }
    all
}

/// A name of the protocol's as SQL knows it.
fn sql_name(name: &[u8]) -> Cow<'_, str> {
    String::from_utf8_lossy(name.get(..NAME_BYTES_MAX).unwrap_or(name))
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::from("\\x"), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}
