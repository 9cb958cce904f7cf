//! From a statement to a verdict: facts by the SQL grammar, a decision by policy, a record in the trail.
//!
//! The order is the product: nothing is allowed before its record is written, and what can't be recorded is
//! denied.

use std::{borrow::Cow, collections::BTreeSet, sync::Arc};

use agent_core::{
    audit::record::StatementRef,
    decision::{Decision, Verdict},
    facts::{Access, Action, Facts, Resource, SqlFacts},
    postgres::{Candidates, Parameters, Question, Setting, Startup, Statement},
};
use agent_policy::{Bundle, Decided, DecisionCache, EngineError, Upstream};
use agent_sql::Analysis;

use super::{
    super::session::{Session, unix_now},
    names::Names,
    reading::{Reader, Reading},
};
use crate::audit::Literals;

/// What PostgreSQL keeps of a name (`NAMEDATALEN` - 1).
const NAME_BYTES_MAX: usize = 63;
/// Settings that say how text is read.
const READING: [&str; 4] =
    ["standard_conforming_strings", "backslash_quote", "escape_string_warning", "client_encoding"];

/// Decides one session's commands.
pub struct Judge {
    policy: DecisionCache,
    bundle_version: String,
    upstream: Upstream,
    database: String,
    user: String,
    literals: Literals,
    /// Why nothing is allowed any more, whatever policy says of it.
    barred: Option<String>,
    reader: Reader,
    /// What SQL's `PREPARE` named.
    prepared: Names,
    /// What Parse named, for SQL's `EXECUTE`.
    parsed: Names,
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
        startup: &Startup,
    ) -> Result<Self, EngineError> {
        let policy = bundle.session(&session.subject, upstream, &startup.database, &startup.user)?;
        Ok(Self {
            policy: DecisionCache::new(policy),
            bundle_version: bundle.version().to_owned(),
            upstream: upstream.clone(),
            database: startup.database.to_string(),
            user: startup.user.to_string(),
            literals: session.proxy.parts.literals,
            barred: None,
            reader: Reader::new(session.proxy.parts.literals),
            prepared: Names::default(),
            parsed: Names::default(),
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
        let policy = bundle
            .session(&session.subject, upstream, &self.database, &self.user)
            .map_err(|error| error.to_string())?;
        let connect = policy.decide(&Facts::connect(), unix_now(), &[]);
        if connect.verdict != Verdict::Allow {
            return Err(format!(
                "policy has changed, and would not let this session begin: {}",
                connect.reason
            ));
        }
        self.policy = DecisionCache::new(policy);
        self.bundle_version = bundle.version().to_owned();
        Ok(())
    }

    /// Policy's answer to some facts, and their resources.
    pub fn decide(&mut self, facts: &Facts, now_unix: i64) -> Arc<Decided> {
        match &self.barred {
            None => self.policy.decide(facts, now_unix, &[]),
            Some(reason) => Arc::new(self.denied(facts, reason)),
        }
    }

    /// Decides the session itself: the connection, and each setting that its startup message makes, as `SET`.
    pub fn begin(&mut self, settings: &[Setting]) -> (Facts, Decided) {
        let mut facts = Facts::connect();
        let now_unix = unix_now();
        let connect = self.decide(&facts, now_unix);
        let set = settings.iter().filter(|(name, _)| !READING.contains(&&**name));
        let names: BTreeSet<Box<str>> = set.map(|(name, _)| name.clone()).collect();
        let Decided { mut decision, mut resources } = (*connect).clone();
        if decision.verdict == Verdict::Allow && !names.is_empty() {
            let mut set = plain(Action::SqlSet);
            if let Some(sql) = &mut set.sql {
                sql.settings = names.into_iter().collect();
            }
            let decided = self.decide(&set, now_unix);
            if decided.decision.verdict == Verdict::Allow {
                decision.policies.extend(decided.decision.policies.iter().cloned());
            } else {
                decision = decided.decision.clone();
            }
            facts.accesses.extend(set.accesses);
            facts.sql = set.sql;
            resources.extend(decided.resources.iter().cloned());
        }
        (facts, Decided { decision, resources })
    }

    /// A denial that no policy made.
    fn denied(&self, facts: &Facts, reason: &str) -> Decided {
        let decision = Decision { verdict: Verdict::Deny, policies: Vec::new(), reason: reason.into() };
        Decided { decision, resources: self.policy.session().resources(facts) }
    }

    /// Answers the machine's question. When this allows what runs, the trail holds the decision.
    pub fn judge(&mut self, session: &Session, number: u64, question: &Question<'_>) -> Answer {
        self.barred = session.ended_by_standing().or_else(|| self.refresh(session).err());
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
            Question::Execute { candidates, parameters, .. } => {
                self.execute(session, number, *candidates, *parameters)
            }
            Question::Function { oid } => {
                let reading = Reading::of(plain(Action::SqlCall));
                let text = format!("(FunctionCall of function {oid})");
                let facts = &reading.analysis.facts;
                let command = Command { number, facts, reading: &reading, text: &text, parameters: &[] };
                self.settle(session, &command).with_names_of(&reading)
            }
            Question::Excess { bytes, .. } => {
                let reading = Reading::of(plain(Action::SqlUnparsed));
                let text = format!("(a message of {bytes} bytes)");
                let reason = format!(
                    "a bound of the session is reached: a statement may have at most {} bytes",
                    agent_sql::STATEMENT_BYTES_MAX
                );
                let facts = &reading.analysis.facts;
                let decided = self.denied(facts, &reason);
                let command = Command { number, facts, reading: &reading, text: &text, parameters: &[] };
                Self::record(session, &command, &decided)
            }
        }
    }

    /// Decides a Parse. One that is allowed is not recorded: its execution is what the trail shows.
    fn prepare(&mut self, session: &Session, number: u64, name: &[u8], statement: &Statement) -> Answer {
        let reading = self.reader.read_statement(statement);
        let facts = self.complete(&reading.analysis);
        let decided = self.decide(&facts, unix_now());
        if decided.decision.verdict != Verdict::Allow {
            let shown = reading.shown(statement.text());
            let command = Command { number, facts: &facts, reading: &reading, text: &shown, parameters: &[] };
            return Self::record(session, &command, &decided);
        }
        drop(facts);
        // SQL can't name the unnamed statement.
        if !name.is_empty() {
            let name = String::from_utf8_lossy(name.get(..NAME_BYTES_MAX).unwrap_or(name));
            self.parsed.add(&name, &reading.analysis.facts);
        }
        Answer::of(Judged::Allow, false)
    }

    /// Decides an Execute: everything that the portal can stand for must be allowed.
    fn execute(
        &mut self,
        session: &Session,
        number: u64,
        candidates: Candidates<'_>,
        parameters: Option<&Parameters>,
    ) -> Answer {
        let parameters = parameters.map(|parameters| self.parameters(parameters)).unwrap_or_default();
        let mut possible: Vec<(Arc<Reading>, Cow<'_, str>)> = Vec::new();
        if let Some(name) = candidates.sql_prepared {
            let name = String::from_utf8_lossy(name);
            let known = self.prepared.of(&name).filter(|meanings| !meanings.is_empty());
            let meanings = known.map_or_else(|| vec![plain(Action::SqlOther)], <[Facts]>::to_vec);
            let text = format!("(the statement that PREPARE named {name})");
            let readings = meanings.into_iter().map(|facts| Arc::new(Reading::of(facts)));
            possible.extend(readings.map(|reading| (reading, text.clone().into())));
        }
        if candidates.sql_cursor.is_some() {
            // Its query was decided when it was declared; this reads on in it.
            let reading = Arc::new(Reading::of(plain(Action::SqlFetch)));
            possible.push((reading, "(a cursor that DECLARE made)".into()));
        }
        let parsed = candidates.parsed.map(|statement| (self.reader.read_statement(statement), statement));
        if let Some((reading, statement)) = &parsed {
            possible.push((Arc::clone(reading), reading.shown(statement.text())));
        }
        if possible.is_empty() {
            let reading = Arc::new(Reading::of(plain(Action::SqlOther)));
            possible.push((reading, "(a portal that this session never saw made)".into()));
        }
        let now_unix = unix_now();
        let last = possible.len() - 1;
        for (index, (reading, text)) in possible.iter().enumerate() {
            let facts = self.complete(&reading.analysis);
            let decided = self.decide(&facts, now_unix);
            // One that is denied decides; else what Parse left, which runs unless SQL reused its name.
            if decided.decision.verdict != Verdict::Allow || index == last {
                let command = Command { number, facts: &facts, reading, text, parameters: &parameters };
                return Self::record(session, &command, &decided).with_names_of(reading);
            }
        }
        Answer::denied("nothing is known of what the portal runs")
    }

    /// The statement's facts with those of whatever `EXECUTE` runs in it.
    fn complete<'a>(&mut self, analysis: &'a Analysis) -> Cow<'a, Facts> {
        for (name, facts) in &analysis.prepares {
            self.prepared.add(name, facts);
        }
        if analysis.executes.is_empty() {
            return Cow::Borrowed(&analysis.facts);
        }
        let mut facts = analysis.facts.clone();
        for name in &analysis.executes {
            let (by_sql, by_protocol) = (self.prepared.of(name), self.parsed.of(name));
            let meanings = by_sql.iter().chain(&by_protocol).copied().flatten();
            let unknown = by_sql.is_none() || by_protocol.is_none() || meanings.clone().next().is_none();
            facts = meanings.fold(facts, with);
            if unknown {
                // The server will most likely not know it either; it is denied if it could be anything.
                facts = with(facts, &plain(Action::SqlOther));
            }
        }
        Cow::Owned(facts)
    }

    fn settle(&mut self, session: &Session, command: &Command<'_>) -> Answer {
        let decided = self.decide(command.facts, unix_now());
        Self::record(session, command, &decided)
    }

    fn record(session: &Session, command: &Command<'_>, decided: &Decided) -> Answer {
        let &Command { number, facts, reading, text, parameters } = command;
        let Decided { decision, resources } = decided;
        let statement = StatementRef { text, fingerprint: &reading.fingerprint, parameters };
        match session.record_decision(number, facts, resources, Some(statement), decision) {
            Ok(()) if decision.verdict == Verdict::Allow => Answer::of(Judged::Allow, true),
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
    let forbidden = |(name, value): &&Setting| READING.contains(&&**name) && !is_default_reading(name, value);
    settings.iter().find(forbidden).map(|(name, _)| &**name)
}

/// Whether a setting of [`READING`] is as the analysis takes it to be.
fn is_default_reading(name: &str, value: &str) -> bool {
    let bare: String = value.chars().filter(char::is_ascii_alphanumeric).collect();
    match name {
        "client_encoding" => {
            ["utf8", "unicode", "sqlascii", "auto"].contains(&bare.to_ascii_lowercase().as_str())
        }
        "standard_conforming_strings" => value.eq_ignore_ascii_case("on"),
        _ => false,
    }
}

/// The facts of something that is only known by its action.
fn plain(action: Action) -> Facts {
    let sql = SqlFacts { statements: 1, has_where: true, ..SqlFacts::default() };
    Facts { accesses: vec![Access { action, resource: Resource::Database }], sql: Some(sql) }
}

/// Both facts as one: whatever either does.
fn with(mut facts: Facts, other: &Facts) -> Facts {
    facts.accesses.extend(other.accesses.iter().cloned());
    facts.accesses.sort();
    facts.accesses.dedup();
    match (&mut facts.sql, &other.sql) {
        (Some(sql), Some(more)) => {
            sql.has_where &= more.has_where;
            sql.writes_in_cte |= more.writes_in_cte;
            for (list, more) in [(&mut sql.functions, &more.functions), (&mut sql.settings, &more.settings)] {
                list.extend(more.iter().cloned());
                list.sort();
                list.dedup();
            }
        }
        (sql @ None, more) => sql.clone_from(more),
        (Some(_), None) => {}
    }
    facts
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::from("\\x"), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}
