//! An executor that drives a session as the real one must, with vectors for sockets and a policy for tests.
//!
//! The policy denies texts and names that have "deny" in them, and function 666; at Execute also texts with
//! "later", and at Bind texts with "unbound". For a startup as the user "injected", the executor has
//! logged in to the upstream itself.
//!
//! A Query "execute NAME" is SQL that runs what the name stands for, and is postponed until that is known.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    postgres::{
        Candidates, ClientStep, Denial, Ending, Event, Limits, Meanings, Question, Session, Transaction,
        Unsettled, UpstreamStep, Violation,
    },
    ruling::tests::{admission, permit, preparation},
};

/// What a test looks at: everything that happened since it last looked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) to_upstream: Vec<u8>,
    pub(super) to_client: Vec<u8>,
    /// The questions asked.
    pub(super) asked: Vec<String>,
    /// The events told.
    pub(super) told: Vec<String>,
    /// Nothing more is taken from the client.
    pub(super) ended: bool,
    pub(super) fault: Option<Violation>,
}

/// One command that was allowed, to be compared with what was forwarded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Allowed {
    Simple(Vec<u8>),
    Prepare(Vec<u8>, Vec<u8>),
    Bind(Vec<u8>),
    /// The portal, the text that Parse left for it, and whether SQL may have given it another.
    Execute(Vec<u8>, Option<Vec<u8>>, bool),
    Function(u32),
}

/// What SQL was allowed to do with names.
#[derive(Default)]
pub(super) struct BySql {
    /// The texts that the protocol's names stood for at `EXECUTE`, by the Query's text.
    pub(super) executed: BTreeMap<String, Option<String>>,
    /// The texts that `PREPARE` may have given a name.
    pub(super) prepared: BTreeSet<String>,
}

/// A session, its buffers, and what was found out about it.
pub(super) struct Executor {
    pub(super) session: Session,
    pub(super) seen: Seen,
    pub(super) allowed: Vec<Allowed>,
    /// The numbers of the allowed commands, in the same order.
    pub(super) commands: Vec<u64>,
    pub(super) by_sql: BySql,
    /// How commands ended, by number.
    pub(super) endings: BTreeMap<u64, Ending>,
    client_buffer: Vec<u8>,
    upstream_buffer: Vec<u8>,
}

impl Executor {
    /// An executor before the first byte.
    pub(super) fn new(limits: Limits) -> Self {
        Self {
            session: Session::new(limits),
            seen: Seen::default(),
            allowed: Vec::new(),
            commands: Vec::new(),
            by_sql: BySql::default(),
            endings: BTreeMap::new(),
            client_buffer: Vec::new(),
            upstream_buffer: Vec::new(),
        }
    }

    /// An executor in the command phase.
    pub(super) fn open(limits: Limits) -> Self {
        let mut executor = Self::new(limits);
        executor.client(&super::notation::client("START user=ada"));
        executor.upstream(&super::notation::upstream(
            "R 0 / PS client_encoding=UTF8 / PS standard_conforming_strings=on / K 7 secret / Z I",
        ));
        assert_eq!(executor.seen.fault, None);
        executor.seen = Seen::default();
        executor.allowed.clear();
        executor.commands.clear();
        executor
    }

    /// The client sends.
    pub(super) fn client(&mut self, bytes: &[u8]) {
        self.client_buffer.extend_from_slice(bytes);
        self.pump_client();
    }

    /// The upstream sends.
    pub(super) fn upstream(&mut self, bytes: &[u8]) {
        self.upstream_buffer.extend_from_slice(bytes);
        loop {
            let step = self.session.upstream(&self.upstream_buffer);
            let consumed = match step {
                Ok(UpstreamStep::NeedMore { bytes_min }) => {
                    assert!(
                        bytes_min > self.upstream_buffer.len() && bytes_min <= Limits::UPSTREAM_BUFFER_BYTES
                    );
                    break;
                }
                Ok(UpstreamStep::Forward { bytes }) => {
                    assert!(bytes > 0);
                    self.seen.to_client.extend(&self.upstream_buffer[..bytes]);
                    bytes
                }
                Ok(UpstreamStep::Replace { consumed, client }) => {
                    assert!(consumed > 0 || !client.is_empty());
                    self.seen.to_client.extend(client);
                    consumed
                }
                Err(fault) => {
                    self.seen.fault = Some(fault);
                    break;
                }
            };
            self.upstream_buffer.drain(..consumed);
            self.drain_events();
        }
        self.drain_events();
        self.pump_client();
    }

    /// Takes the session's events.
    pub(super) fn drain_events(&mut self) {
        while let Some(event) = self.session.next_event() {
            self.seen.told.push(tell(&event));
            if let Event::Outcome(outcome) = event {
                let twice = self.endings.insert(outcome.command, outcome.ending);
                assert_eq!(twice, None, "two outcomes of command {}", outcome.command);
            }
        }
    }

    /// How many of the client's bytes the session has not taken yet.
    pub(super) fn held_back(&self) -> usize {
        self.client_buffer.len()
    }

    /// Gives the session the client's bytes, as far as it takes them.
    fn pump_client(&mut self) {
        loop {
            let Self { session, seen, allowed, commands, by_sql, .. } = self;
            let buffer = &mut self.client_buffer;
            let mut ruled = None;
            let consumed = match session.client(buffer) {
                Ok(ClientStep::NeedMore { bytes_min }) => {
                    assert!(bytes_min > buffer.len(), "{bytes_min} of {}", buffer.len());
                    return;
                }
                Ok(ClientStep::Wait) => return,
                Ok(ClientStep::Forward(forward)) => {
                    let bytes = forward.bytes();
                    assert!(bytes > 0);
                    seen.to_upstream.extend(&buffer[..bytes]);
                    bytes
                }
                Ok(ClientStep::Replace(replace)) => {
                    assert!(replace.consumed() > 0 || !replace.bytes().is_empty());
                    seen.to_upstream.extend(replace.bytes());
                    replace.consumed()
                }
                Ok(ClientStep::Reply { consumed, client }) => {
                    seen.to_client.extend(client);
                    consumed
                }
                Ok(ClientStep::Tls { consumed }) => {
                    assert_eq!(consumed, buffer.len());
                    seen.asked.push("tls".to_owned());
                    consumed
                }
                Ok(ClientStep::Judge { command, question, meanings, settings_awaited, .. }) => {
                    let before = allowed.len();
                    let (ruling, notes) = judge(&question, &meanings, seen, allowed, by_sql);
                    let ruling = if settings_awaited { ruling.refused(allowed, before) } else { ruling };
                    if allowed.len() > before {
                        commands.push(command);
                    }
                    ruled = Some((command, ruling, notes));
                    0
                }
                Ok(ClientStep::Cancel { key }) => {
                    seen.asked.push(format!("cancel {}", key.to_request()[12..].escape_ascii()));
                    return;
                }
                Ok(ClientStep::End) => {
                    seen.ended = true;
                    return;
                }
                Err(fault) => {
                    seen.fault = Some(fault);
                    return;
                }
            };
            if let Some((command, ruling, notes)) = ruled {
                notes.tell(session, command, &ruling);
                ruling.tell(session, command).unwrap();
            }
            buffer.drain(..consumed);
        }
    }
}

/// The names that a text gives a meaning by SQL: "prepare NAME …" and "declare NAME …", anywhere in it; the
/// one that "deallocate NAME" takes it from; and whether it may change settings: "unsettle".
#[derive(Default)]
struct Notes {
    unsettles: bool,
    prepared: Option<String>,
    declared: Option<String>,
    deallocated: Option<String>,
}

impl Notes {
    fn tell(&self, session: &mut Session, command: u64, ruling: &Ruling) {
        if self.unsettles && matches!(ruling, Ruling::Allow) {
            session.settings_awaited(command);
        }
        if let Some(name) = &self.prepared {
            session.sql_prepared(Some(name.as_bytes()));
        }
        if let Some(name) = &self.declared {
            session.sql_declared(Some(name.as_bytes()));
        }
        session.sql_deallocates(command, self.deallocated.iter().map(|name| name.as_bytes().into()));
    }
}

/// What the text that a question is about does to names, if allowing the question may run it.
/// `executed` is the text that SQL `EXECUTE` runs.
fn notes(question: &Question<'_>, executed: Option<&str>) -> Notes {
    let text = match question {
        Question::Simple { .. } if executed.is_some() => executed.unwrap_or_default().as_bytes(),
        Question::Simple { text } => text,
        Question::Execute { candidates, .. } => {
            candidates.parsed.map_or(&b""[..], |statement| statement.text())
        }
        _ => b"",
    };
    let text = String::from_utf8_lossy(text);
    let after = |verb: &str| {
        let mut words = text.split(' ').skip_while(|word| *word != verb);
        words.next().and_then(|_| words.next()).map(|name| name.trim_end_matches(';').to_owned())
    };
    let unsettles = text.contains("unsettle");
    Notes {
        unsettles,
        prepared: after("prepare"),
        declared: after("declare"),
        deallocated: after("deallocate"),
    }
}

/// What a test's policy says.
enum Ruling {
    Allow,
    Prepare,
    Admit,
    AdmitLoggedIn,
    Deny(Denial),
    Postpone,
}

impl Ruling {
    /// A denial in place of what may have been allowed, unless it can't be told yet what that would be: no
    /// more than `before` are allowed.
    fn refused(self, allowed: &mut Vec<Allowed>, before: usize) -> Self {
        allowed.truncate(before);
        if matches!(self, Self::Postpone) { self } else { denial() }
    }

    fn tell(self, session: &mut Session, command: u64) -> Result<(), Violation> {
        match self {
            Self::Allow => session.allow(permit(command)),
            Self::Prepare => session.allow_preparation(preparation(command)),
            Self::Admit => session.admit(command, &admission()),
            Self::AdmitLoggedIn => session.admit_logged_in(command, &admission()),
            Self::Deny(denial) => session.deny(command, denial),
            Self::Postpone => session.postpone(command),
        }
    }
}

/// Answers a question, and notes in `seen` that it was asked, unless it is postponed.
fn judge(
    question: &Question<'_>,
    meanings: &Meanings<'_>,
    seen: &mut Seen,
    allowed: &mut Vec<Allowed>,
    by_sql: &mut BySql,
) -> (Ruling, Notes) {
    let Ok(executed) = sql_execute(question, meanings) else { return (Ruling::Postpone, Notes::default()) };
    let runs = executed.as_ref().and_then(|(_, text)| text.clone());
    by_sql.executed.extend(executed);
    by_sql.prepared.extend(sql_prepares(question));
    seen.asked.push(ask(question));
    (rule(question, allowed), notes(question, runs.as_deref()))
}

/// For a Query "execute NAME": its text, and the text that the protocol's name stands for.
fn sql_execute(
    question: &Question<'_>,
    meanings: &Meanings<'_>,
) -> Result<Option<(String, Option<String>)>, Unsettled> {
    let Question::Simple { text } = question else { return Ok(None) };
    let text = String::from_utf8_lossy(text).into_owned();
    let Some(rest) = text.strip_prefix("execute ") else { return Ok(None) };
    let name = rest.split(' ').next().unwrap_or_default();
    let parsed = meanings.statement(name)?;
    let stands_for = parsed.map(|statement| String::from_utf8_lossy(statement.text()).into_owned());
    Ok(Some((text, stands_for)))
}

/// The texts that a question's text prepares by SQL, whenever it runs.
fn sql_prepares(question: &Question<'_>) -> Vec<String> {
    let text = match question {
        Question::Simple { text } => text,
        Question::Prepare { statement, .. } => statement.text(),
        _ => return Vec::new(),
    };
    let text = String::from_utf8_lossy(text);
    let prepared =
        |part: &str| part.trim().strip_prefix("prepare ")?.split_once(' ').map(|(_, text)| text.to_owned());
    text.split(';').filter_map(prepared).collect()
}

fn denial() -> Ruling {
    Ruling::Deny(Denial::new("lineal: denied by policy test: no"))
}

/// The policy. It also denies an Execute without any candidate. What it allows is added to `allowed`.
fn rule(question: &Question<'_>, allowed: &mut Vec<Allowed>) -> Ruling {
    let has = |text: &[u8], word: &str| String::from_utf8_lossy(text).contains(word);
    let denial = denial();
    let allow = match question {
        Question::Startup(startup) => {
            return match &*startup.user {
                user if user.contains("deny") => denial,
                "injected" => Ruling::AdmitLoggedIn,
                _ => Ruling::Admit,
            };
        }
        // The session must deny this even if it is allowed.
        Question::Excess { .. } => return Ruling::Allow,
        Question::Simple { text } if !has(text, "deny") => Allowed::Simple(text.to_vec()),
        Question::Prepare { name, statement } if !has(statement.text(), "deny") => {
            Allowed::Prepare(name.to_vec(), statement.text().to_vec())
        }
        Question::Bind { portal, candidates, .. } => {
            if candidates.parsed.is_some_and(|statement| has(statement.text(), "unbound")) {
                return denial;
            }
            Allowed::Bind(portal.to_vec())
        }
        Question::Execute { portal, candidates, .. } => {
            let Candidates { parsed, sql_prepared, sql_cursor } = candidates;
            if parsed.is_some_and(|statement| has(statement.text(), "later"))
                || (parsed.is_none() && sql_prepared.is_none() && sql_cursor.is_none())
            {
                return denial;
            }
            let text = parsed.map(|statement| statement.text().to_vec());
            Allowed::Execute(portal.to_vec(), text, sql_prepared.is_some() || sql_cursor.is_some())
        }
        Question::Function { oid } if *oid != 666 => Allowed::Function(*oid),
        _ => return denial,
    };
    // As the agent does it: a Parse without a name is not recorded.
    let unnamed = matches!(&allow, Allowed::Prepare(name, _) if name.is_empty());
    allowed.push(allow);
    if unnamed { Ruling::Prepare } else { Ruling::Allow }
}

/// Bytes as scripts spell them.
fn text(bytes: &[u8]) -> String {
    bytes.escape_ascii().to_string()
}

/// A question as scripts spell it.
fn ask(question: &Question<'_>) -> String {
    match question {
        Question::Startup(startup) => format!("startup {} {}", startup.user, startup.database),
        Question::Simple { text: sql } => format!("simple {}", text(sql)).trim_end().to_owned(),
        Question::Prepare { name, statement } => format!("prepare {}={}", text(name), text(statement.text())),
        Question::Bind { portal, candidates, parameters }
        | Question::Execute { portal, candidates, parameters } => {
            let Candidates { parsed, sql_prepared, sql_cursor } = candidates;
            let verb = if matches!(question, Question::Bind { .. }) { "bind" } else { "execute" };
            let mut out = format!("{verb} {}:", text(portal));
            if let Some(statement) = parsed {
                out += &format!(" {}", text(statement.text()));
            }
            if let Some(name) = sql_prepared {
                out += &format!(" or prepared {}", text(name));
            }
            if let Some(name) = sql_cursor {
                out += &format!(" or cursor {}", text(name));
            }
            for value in parameters.and_then(|parameters| parameters.values()).unwrap_or_default() {
                match value.value {
                    Some(b"") => {}
                    value => out += &format!(" with {}", value.map_or("NULL".to_owned(), text)),
                }
            }
            out
        }
        Question::Function { oid } => format!("function {oid}"),
        Question::Excess { excess, .. } => format!("excess {excess:?}"),
    }
}

/// An event as scripts spell it. An outcome begins with the command's number.
fn tell(event: &Event) -> String {
    match event {
        Event::CancelKey(key) => format!("key {}", key.to_request()[12..].escape_ascii()),
        Event::Ready(Transaction::Idle) => "ready I".to_owned(),
        Event::Ready(Transaction::Open) => "ready T".to_owned(),
        Event::Ready(Transaction::Failed) => "ready E".to_owned(),
        Event::Deallocated { command, name } => {
            let name = name.as_ref().map_or("all".to_owned(), |name| text(name));
            format!("{command} deallocated {name}")
        }
        Event::UpstreamFatal(error) => format!("fatal {}", error.code()),
        Event::Outcome(outcome) => {
            let ending = match &outcome.ending {
                Ending::Complete => "complete".to_owned(),
                Ending::Suspended => "suspended".to_owned(),
                Ending::Error(error) => format!("error {}", error.code()),
                Ending::Denied => "denied".to_owned(),
                Ending::Skipped => "skipped".to_owned(),
                Ending::Unknown => "unknown".to_owned(),
            };
            let mut out = format!("{} {ending}", outcome.command);
            if outcome.rows > 0 {
                out += &format!(" rows={}", outcome.rows);
            }
            if !outcome.tag.as_str().is_empty() {
                out += &format!(" {}", outcome.tag.as_str());
            }
            out
        }
    }
}
