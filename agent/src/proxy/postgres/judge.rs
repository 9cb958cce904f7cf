//! From a statement to a verdict: facts by the SQL grammar, a decision by policy, a record in the trail.
//!
//! The order is the product: nothing is allowed before its record is written, and what can't be recorded is
//! denied.

use std::{borrow::Cow, collections::HashMap, sync::Arc};

use agent_core::{
    audit::record::StatementRef,
    decision::{Decision, Verdict},
    facts::{Access, Action, Facts, Resource, SqlFacts},
    postgres::{Candidates, Parameters, Question, Startup, Statement},
};
use agent_policy::{Bundle, DecisionCache, EngineError, Upstream};
use agent_sql::Analysis;

use super::super::session::{Session, unix_now};
use crate::audit::Literals;

/// A statement's analysis, its fingerprint and its text as the trail keeps it.
pub struct Analysed {
    analysis: Analysis,
    fingerprint: String,
    text: String,
    /// The text may make cursors: it has the word in it.
    declares: bool,
}

impl Analysed {
    /// Of something that has no text of its own.
    fn of(facts: &Facts, text: String) -> Self {
        Self { analysis: empty(facts), fingerprint: String::new(), text, declares: false }
    }
}

/// Names that SQL's own `PREPARE` gave; a name keeps every meaning it was given.
const PREPARED_MAX: usize = 1_024;
/// What PostgreSQL keeps of a name (`NAMEDATALEN` - 1).
const NAME_BYTES_MAX: usize = 63;
/// Analyses of prepared statements that are kept.
const ANALYSES_MAX: usize = 4_096;
/// Meanings of one such name.
const MEANINGS_MAX: usize = 16;
/// Settings that a startup packet may not change: they say how text is read.
const FORBIDDEN: [&str; 5] =
    ["standard_conforming_strings", "backslash_quote", "escape_string_warning", "client_encoding", "role"];

/// Decides one session's commands.
pub struct Judge {
    policy: DecisionCache,
    bundle_version: String,
    upstream: Upstream,
    database: String,
    user: String,
    literals: Literals,
    /// What SQL's `PREPARE` named.
    prepared: HashMap<Box<str>, Vec<Facts>>,
    /// What Parse named, for SQL's `EXECUTE`.
    parsed: HashMap<Box<str>, Vec<Arc<Analysed>>>,
    /// Analyses of prepared statements, by the machine's id of their text.
    analyses: HashMap<u64, Arc<Analysed>>,
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
    fn with_names_of(mut self, analysed: &Analysed) -> Self {
        let calls = analysed.analysis.facts.accesses.iter().any(|access| access.action == Action::SqlCall);
        self.prepares = analysed.analysis.prepares.iter().map(|(name, _)| Some(name.clone())).collect();
        if calls {
            self.prepares.push(None);
        }
        self.declares = calls || analysed.declares;
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
            prepared: HashMap::new(),
            parsed: HashMap::new(),
            analyses: HashMap::new(),
        })
    }

    /// Takes a new bundle in, if there is one. A bundle that can't represent the session denies everything: it
    /// keeps no say in the old one's name.
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
        self.policy = DecisionCache::new(policy);
        self.bundle_version = bundle.version().to_owned();
        Ok(())
    }

    /// Policy's answer to some facts.
    pub fn decide(&mut self, facts: &Facts, now_unix: i64) -> Arc<Decision> {
        self.policy.decide(facts, now_unix, &[])
    }

    /// The resources of some facts, as the trail spells them.
    pub fn resources(&self, facts: &Facts) -> Vec<String> {
        self.policy.session().resources(facts)
    }

    /// Answers the machine's question. When this allows what runs, the trail holds the decision.
    pub fn judge(&mut self, session: &Session, command: u64, question: &Question<'_>) -> Answer {
        if let Some(reason) = session.ended_by_standing() {
            return Answer::denied(&reason);
        }
        if let Err(reason) = self.refresh(session) {
            return Answer::denied(&reason);
        }
        match question {
            Question::Startup(_) => Answer::denied("a session begins once only"),
            Question::Simple { text } => {
                let analysed = self.analyse(text);
                let facts = self.complete(&analysed.analysis);
                self.settle(session, command, &facts, &analysed, &[]).with_names_of(&analysed)
            }
            Question::Prepare { name, statement } => self.prepare(session, command, name, statement),
            Question::Execute { candidates, parameters, .. } => {
                self.execute(session, command, *candidates, *parameters)
            }
            Question::Function { oid } => {
                let facts = plain(Action::SqlCall);
                let analysed = Analysed::of(&facts, format!("(FunctionCall of function {oid})"));
                self.settle(session, command, &facts, &analysed, &[]).with_names_of(&analysed)
            }
            Question::Excess { bytes, .. } => {
                let facts = plain(Action::SqlUnparsed);
                let analysed = Analysed::of(&facts, format!("(a message of {bytes} bytes)"));
                let decision = Decision {
                    verdict: Verdict::Deny,
                    policies: Vec::new(),
                    reason: format!(
                        "a bound of the session is reached: a statement may have at most {} bytes",
                        agent_sql::STATEMENT_BYTES_MAX
                    )
                    .into(),
                };
                self.record(session, command, &facts, &analysed, &[], &decision)
            }
        }
    }

    /// Decides a Parse. One that is allowed is not recorded: its execution is what the trail shows.
    fn prepare(&mut self, session: &Session, command: u64, name: &[u8], statement: &Statement) -> Answer {
        let analysed = self.analysis_of(statement);
        let facts = self.complete(&analysed.analysis).into_owned();
        let decision = self.decide(&facts, unix_now());
        if decision.verdict != Verdict::Allow {
            return self.record(session, command, &facts, &analysed, &[], &decision);
        }
        // SQL can't name the unnamed statement.
        if !name.is_empty() {
            let name = String::from_utf8_lossy(name.get(..NAME_BYTES_MAX).unwrap_or(name));
            let full = self.parsed.len() >= PREPARED_MAX;
            match self.parsed.get_mut(&*name) {
                Some(meanings) if meanings.len() < MEANINGS_MAX => meanings.push(analysed),
                // Past the bound an EXECUTE of the name is what nobody can follow.
                Some(meanings) => {
                    let other = Analysed::of(&plain(Action::SqlOther), String::new());
                    *meanings = vec![Arc::new(other)];
                }
                None if full => {}
                None => {
                    self.parsed.insert(name.into(), vec![analysed]);
                }
            }
        }
        Answer::of(Judged::Allow, false)
    }

    /// Decides an Execute: everything that the portal can stand for must be allowed.
    fn execute(
        &mut self,
        session: &Session,
        command: u64,
        candidates: Candidates<'_>,
        parameters: Option<&Parameters>,
    ) -> Answer {
        let mut possible: Vec<(Facts, Arc<Analysed>)> = Vec::new();
        if let Some(statement) = candidates.parsed {
            let analysed = self.analysis_of(statement);
            possible.push((self.complete(&analysed.analysis).into_owned(), analysed));
        }
        if let Some(name) = candidates.sql_prepared {
            let name = String::from_utf8_lossy(name);
            let meanings =
                self.prepared.get(&*name).cloned().unwrap_or_else(|| vec![plain(Action::SqlOther)]);
            for facts in meanings {
                let text = format!("(the statement that PREPARE named {name})");
                let analysed = Arc::new(Analysed::of(&facts, text));
                possible.push((facts, analysed));
            }
        }
        if candidates.sql_cursor.is_some() {
            // Its query was decided when it was declared; this reads on in it.
            let facts = plain(Action::SqlFetch);
            let analysed = Arc::new(Analysed::of(&facts, "(a cursor that DECLARE made)".to_owned()));
            possible.push((facts, analysed));
        }
        if possible.is_empty() {
            let facts = plain(Action::SqlOther);
            let text = "(a portal that this session never saw made)".to_owned();
            let analysed = Arc::new(Analysed::of(&facts, text));
            possible.push((facts, analysed));
        }
        let now_unix = unix_now();
        let denied =
            possible.iter().position(|(facts, _)| self.decide(facts, now_unix).verdict != Verdict::Allow);
        // One that is denied decides; else what Parse left, which runs unless SQL reused its name.
        let Some((facts, analysed)) = possible.get(denied.unwrap_or(0)) else {
            return Answer::denied("nothing is known of what the portal runs");
        };
        let parameters = parameters.map(|parameters| self.parameters(parameters)).unwrap_or_default();
        self.settle(session, command, facts, analysed, &parameters).with_names_of(analysed)
    }

    /// A prepared statement's analysis, made once.
    fn analysis_of(&mut self, statement: &Statement) -> Arc<Analysed> {
        if let Some(analysed) = self.analyses.get(&statement.id()) {
            return Arc::clone(analysed);
        }
        let analysed = Arc::new(self.analyse(statement.text()));
        // What is thrown away is made again when it is needed.
        if self.analyses.len() >= ANALYSES_MAX {
            self.analyses.clear();
        }
        self.analyses.insert(statement.id(), Arc::clone(&analysed));
        analysed
    }

    /// The statement's facts with those of whatever `EXECUTE` runs in it.
    fn complete<'a>(&mut self, analysis: &'a Analysis) -> Cow<'a, Facts> {
        for (name, facts) in &analysis.prepares {
            let full = self.prepared.len() >= PREPARED_MAX;
            match self.prepared.get_mut(name) {
                Some(meanings) if meanings.contains(facts) => {}
                Some(meanings) if meanings.len() < MEANINGS_MAX => meanings.push(facts.clone()),
                None if !full => {
                    self.prepared.insert(name.clone(), vec![facts.clone()]);
                }
                // Past the bound the statement itself is what nobody can follow.
                Some(_) | None => return Cow::Owned(with(&analysis.facts, &plain(Action::SqlOther))),
            }
        }
        if analysis.executes.is_empty() {
            return Cow::Borrowed(&analysis.facts);
        }
        let mut facts = analysis.facts.clone();
        for name in &analysis.executes {
            let by_sql = self.prepared.get(name).cloned().unwrap_or_default();
            let by_protocol = self.parsed.get(name).cloned().unwrap_or_default();
            if by_sql.is_empty() && by_protocol.is_empty() {
                // The server will most likely not know it either; it is denied if it could be anything.
                facts = with(&facts, &plain(Action::SqlOther));
            }
            for meaning in &by_sql {
                facts = with(&facts, meaning);
            }
            for analysed in &by_protocol {
                facts = with(&facts, &analysed.analysis.facts);
            }
        }
        Cow::Owned(facts)
    }

    fn analyse(&self, text: &[u8]) -> Analysed {
        Analysed {
            analysis: agent_sql::analyze(text),
            fingerprint: agent_sql::fingerprint(text),
            text: match self.literals {
                Literals::Keep => String::from_utf8_lossy(text).into_owned(),
                Literals::Redact => agent_sql::redact(text),
            },
            declares: text.windows(7).any(|word| word.eq_ignore_ascii_case(b"declare")),
        }
    }

    fn settle(
        &mut self,
        session: &Session,
        command: u64,
        facts: &Facts,
        analysed: &Analysed,
        parameters: &[Option<Cow<'_, str>>],
    ) -> Answer {
        let decision = self.decide(facts, unix_now());
        self.record(session, command, facts, analysed, parameters, &decision)
    }

    fn record(
        &self,
        session: &Session,
        command: u64,
        facts: &Facts,
        analysed: &Analysed,
        parameters: &[Option<Cow<'_, str>>],
        decision: &Decision,
    ) -> Answer {
        let statement = StatementRef { text: &analysed.text, fingerprint: &analysed.fingerprint, parameters };
        let resources = self.resources(facts);
        match session.record_decision(command, facts, &resources, Some(statement), decision) {
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

/// A setting in a startup packet that may not stand there, by its own name or inside `options`.
pub fn forbidden_setting(startup: &Startup) -> Option<&'static str> {
    let harmless_encoding = |value: &str| {
        let value: String = value.chars().filter(char::is_ascii_alphanumeric).collect();
        ["utf8", "unicode", "sqlascii", "auto"].contains(&value.to_ascii_lowercase().as_str())
    };
    startup.parameters.iter().find_map(|(name, value)| {
        let name = name.to_ascii_lowercase();
        if name == "options" {
            let text = value.to_ascii_lowercase().replace('-', "_");
            return FORBIDDEN.into_iter().find(|forbidden| text.contains(forbidden));
        }
        let forbidden = FORBIDDEN.into_iter().find(|forbidden| *forbidden == name)?;
        let harmless = forbidden == "client_encoding" && harmless_encoding(value)
            || forbidden == "standard_conforming_strings" && value.eq_ignore_ascii_case("on");
        (!harmless).then_some(forbidden)
    })
}

/// The facts of something that is only known by its action.
fn plain(action: Action) -> Facts {
    let sql = SqlFacts { statements: 1, has_where: true, ..SqlFacts::default() };
    Facts { accesses: vec![Access { action, resource: Resource::Database }], sql: Some(sql) }
}

fn empty(facts: &Facts) -> Analysis {
    Analysis { facts: facts.clone(), prepares: vec![], executes: vec![], deallocates: vec![], unparsed: None }
}

/// Both facts as one: whatever either does.
fn with(one: &Facts, other: &Facts) -> Facts {
    let mut facts = one.clone();
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
