//! From a statement to a verdict: facts by the SQL grammar, a decision by policy, a record in the trail.
//!
//! The order is the product: nothing is allowed before its record is written, and what can't be recorded is
//! denied.

use std::{borrow::Cow, collections::HashMap, sync::Arc};

use agent_core::{
    audit::record::StatementRef,
    decision::{Decision, Verdict},
    facts::{Access, Action, Facts, Resource, SqlFacts},
    postgres::{Bound, Question, startup::Startup},
};
use agent_policy::{Bundle, DecisionCache, EngineError, Upstream};
use agent_sql::Analysis;

use super::{
    super::session::{Session, unix_now},
    Machine,
};
use crate::audit::Literals;

/// What goes with a prepared statement: its analysis, made once.
pub type Note = Option<Arc<Analysed>>;

/// A statement's analysis, its fingerprint and its text as the trail keeps it.
pub struct Analysed {
    analysis: Analysis,
    fingerprint: String,
    text: String,
}

/// Names that SQL's own `PREPARE` gave; a name keeps every meaning it was given.
const PREPARED_MAX: usize = 1_024;
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
    prepared: HashMap<Box<str>, Vec<Facts>>,
}

/// What is done with a command.
pub enum Judged {
    /// It is forwarded; the note goes with it.
    Allow(Note),
    /// It is replaced by poison; the client is told this.
    Deny(String),
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
            database: startup.database.clone(),
            user: startup.user.clone(),
            literals: session.proxy.parts.literals,
            prepared: HashMap::new(),
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

    /// Answers the machine's question. When this says `Allow`, the trail holds the decision.
    pub fn judge(
        &mut self,
        session: &Session,
        machine: &Machine,
        command: u64,
        question: Question<'_, Note>,
    ) -> Judged {
        if let Some(reason) = session.ended_by_standing() {
            return Judged::Deny(format!("lineal: {reason}"));
        }
        if let Err(reason) = self.refresh(session) {
            return Judged::Deny(format!("lineal: {reason}"));
        }
        match question {
            Question::Query { text } => {
                let analysed = self.analyse(text);
                let facts = self.complete(machine, &analysed.analysis);
                self.settle(session, command, &facts, &analysed, &[], None)
            }
            Question::Parse { text, .. } => {
                let analysed = Arc::new(self.analyse(text));
                let facts = self.complete(machine, &analysed.analysis);
                let decision = self.decide(&facts, unix_now());
                if decision.verdict == Verdict::Allow {
                    // Preparing runs nothing: its execution is what the trail shows.
                    return Judged::Allow(Some(analysed));
                }
                self.record(session, command, &facts, &analysed, &[], decision, None)
            }
            Question::Execute { portals } => self.execute(session, machine, command, &portals),
            Question::Function { oid } => {
                let facts = plain(Action::SqlCall);
                let text = format!("(FunctionCall of function {oid})");
                let analysed = Analysed { analysis: empty(&facts), fingerprint: String::new(), text };
                self.settle(session, command, &facts, &analysed, &[], None)
            }
            Question::Oversized { bytes } => {
                let facts = plain(Action::SqlUnparsed);
                let text = format!("(a statement in a message of {bytes} bytes)");
                let analysed = Analysed { analysis: empty(&facts), fingerprint: String::new(), text };
                let decision = Decision {
                    verdict: Verdict::Deny,
                    policies: Vec::new(),
                    reason: format!("a statement may have at most {} bytes", agent_sql::STATEMENT_BYTES_MAX)
                        .into(),
                };
                self.record(session, command, &facts, &analysed, &[], Arc::new(decision), None)
            }
        }
    }

    /// Decides an Execute: every statement that the portal can stand for must be allowed.
    fn execute(
        &mut self,
        session: &Session,
        machine: &Machine,
        command: u64,
        portals: &[Arc<Bound<Note>>],
    ) -> Judged {
        let mut verdicts: Vec<(Facts, Arc<Analysed>)> = Vec::new();
        for portal in portals {
            let name = String::from_utf8_lossy(&portal.statement);
            let by_sql = self.prepared.get(&*name).cloned().unwrap_or_default();
            for statement in &portal.candidates {
                let Some(analysed) = &statement.note else { continue };
                let facts = self.complete(machine, &analysed.analysis).into_owned();
                if !verdicts.iter().any(|(known, other)| *known == facts && Arc::ptr_eq(other, analysed)) {
                    verdicts.push((facts, Arc::clone(analysed)));
                }
            }
            for facts in by_sql {
                let text = format!("(the statement that PREPARE named {name})");
                let analysed = Analysed { analysis: empty(&facts), fingerprint: String::new(), text };
                verdicts.push((facts, Arc::new(analysed)));
            }
        }
        let Some((newest, rest)) = verdicts.split_first() else {
            let facts = plain(Action::SqlOther);
            let text = "(a portal that this session never saw made)".to_owned();
            let analysed = Analysed { analysis: empty(&facts), fingerprint: String::new(), text };
            return self.settle(session, command, &facts, &analysed, &[], None);
        };
        // One that is denied decides; else the newest, which is what runs unless its making failed.
        let denied = rest.iter().find(|(facts, _)| self.decide(facts, unix_now()).verdict != Verdict::Allow);
        let (facts, analysed) = denied.unwrap_or(newest);
        let (facts, analysed) = (facts.clone(), Arc::clone(analysed));
        let parameters = portals.first().map(|portal| self.parameters(portal)).unwrap_or_default();
        self.settle(session, command, &facts, &analysed, &parameters, None)
    }

    /// The statement's facts with those of whatever `EXECUTE` runs in it.
    fn complete<'a>(&mut self, machine: &Machine, analysis: &'a Analysis) -> Cow<'a, Facts> {
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
            let by_protocol = machine.prepared(name.as_bytes());
            if by_sql.is_empty() && by_protocol.is_empty() {
                // The server will most likely not know it either; it is denied if it could be anything.
                facts = with(&facts, &plain(Action::SqlOther));
            }
            for meaning in &by_sql {
                facts = with(&facts, meaning);
            }
            for statement in by_protocol.iter().filter_map(|statement| statement.note.as_ref()) {
                facts = with(&facts, &statement.analysis.facts);
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
        }
    }

    fn settle(
        &mut self,
        session: &Session,
        command: u64,
        facts: &Facts,
        analysed: &Analysed,
        parameters: &[Option<Cow<'_, str>>],
        note: Note,
    ) -> Judged {
        let decision = self.decide(facts, unix_now());
        self.record(session, command, facts, analysed, parameters, decision, note)
    }

    #[expect(clippy::too_many_arguments, reason = "the columns of one record")]
    fn record(
        &self,
        session: &Session,
        command: u64,
        facts: &Facts,
        analysed: &Analysed,
        parameters: &[Option<Cow<'_, str>>],
        decision: Arc<Decision>,
        note: Note,
    ) -> Judged {
        let statement = StatementRef { text: &analysed.text, fingerprint: &analysed.fingerprint, parameters };
        let resources = self.resources(facts);
        match session.record_decision(command, facts, &resources, Some(statement), &decision) {
            Ok(()) if decision.verdict == Verdict::Allow => Judged::Allow(note),
            Ok(()) => Judged::Deny(denial(&decision)),
            Err(error) => {
                tracing::error!(%error, session = session.id, "a command could not be recorded, so it is denied");
                Judged::Deny(format!("lineal: the command cannot be recorded, so it is not sent: {error}"))
            }
        }
    }

    /// A portal's parameters, as the trail keeps them.
    fn parameters<'a>(&self, portal: &'a Bound<Note>) -> Vec<Option<Cow<'a, str>>> {
        let values = portal.parameters.values.iter();
        values
            .map(|(value, binary)| {
                let value = value.as_deref()?;
                Some(match (self.literals, binary) {
                    (Literals::Redact, _) => Cow::Borrowed("?"),
                    (Literals::Keep, false) => String::from_utf8_lossy(value),
                    (Literals::Keep, true) => Cow::Owned(hex(value)),
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
