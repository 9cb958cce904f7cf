//! A model of PostgreSQL: it handles the names of statements and portals, transactions, errors and COPY as
//! PostgreSQL does, and remembers which text every Execute ran.
//!
//! Texts are a small language of their own:
//!
//! - `begin`, `commit`, `prepare NAME TEXT`, `execute NAME N`, `deallocate NAME`, `declare NAME TEXT` and
//!   `close NAME` do what the SQL commands do;
//! - `bad …` fails when it runs, `syntax …` when a Parse brings it;
//! - `copyin` starts a COPY from stdin, `early` one that fails at once, and `cancelled` one that is cancelled
//!   when the first Sync arrives (in a Query: at once);
//! - `rows` returns two rows, the empty text is an empty query, and any other, such as `t7`, does nothing.

use std::collections::{HashMap, VecDeque, hash_map::Entry};

use crate::postgres::{
    tests::notation,
    wire::{Fields, HEADER_BYTES, Header},
};

/// How an Execute ended at the model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// It ran this text.
    Ran(String),
    Failed,
    Skipped,
}

/// The command that a COPY from stdin belongs to.
pub(super) enum Copying {
    /// A Query, and its statements that are left.
    Query(VecDeque<String>),
    /// An Execute, by its place in `executes`, and its text.
    Execute(usize, String),
    /// Like [`Self::Execute`], but the COPY fails as cancelled at the first Sync that arrives. It drops that
    /// Sync, as every COPY does.
    Cancelled(usize, String),
}

/// The model of the upstream.
#[derive(Default)]
pub(super) struct Model {
    statements: HashMap<Vec<u8>, String>,
    portals: HashMap<Vec<u8>, String>,
    /// A transaction block is open.
    in_block: bool,
    /// The transaction block has failed.
    failed: bool,
    /// Messages are skipped up to the next Sync.
    skipping: bool,
    pub(super) copying: Option<Copying>,
    /// What has arrived and has not been taken yet.
    pub(super) inbox: Vec<u8>,
    /// Written, but kept until the next flush.
    unflushed: Vec<u8>,
    /// Sent, and not delivered yet.
    pub(super) outbox: Vec<u8>,
    /// How each Execute ended, in order; poison is not among them.
    pub(super) executes: Vec<Fate>,
    /// The statements of Queries that ran.
    pub(super) queries: Vec<String>,
    /// SQL `EXECUTE`s, each with the text that it ran.
    pub(super) sql_executes: Vec<(String, String)>,
    /// How many poisons were refused.
    pub(super) poisons: usize,
    /// The session has ended: nothing more is read.
    pub(super) dead: bool,
}

/// What a statement does: it ends with this tag or error, or starts a COPY.
enum Effect {
    Tag(&'static str),
    Error(&'static str),
    Copy,
    CopyThatFailsAtOnce,
    CopyCancelled,
}

/// The text of the session's poison for a Query or a Parse.
const POISON: &str = "SELECT pg_catalog.lineal_denied_()";

impl Model {
    /// Writes messages.
    fn say(&mut self, text: &str) {
        self.unflushed.extend(notation::upstream(text));
    }

    fn flush(&mut self) {
        self.outbox.append(&mut self.unflushed);
    }

    /// Reports an error, which fails the transaction.
    fn error(&mut self, text: &str) {
        self.say(&format!("E {text}"));
        self.flush();
        if self.in_block {
            self.failed = true;
        } else {
            self.portals.clear();
        }
    }

    /// Sends ReadyForQuery.
    fn ready(&mut self) {
        if !self.in_block {
            self.portals.clear();
        }
        self.say(match (self.in_block, self.failed) {
            (false, _) => "Z I",
            (true, false) => "Z T",
            (true, true) => "Z E",
        });
        self.flush();
    }

    /// Takes one message. Returns false if there is none.
    pub(super) fn step(&mut self) -> bool {
        let Some(header) = Header::read(&self.inbox) else { return false };
        let bytes = HEADER_BYTES + header.body_bytes().unwrap();
        if self.dead || self.inbox.len() < bytes {
            return false;
        }
        let message: Vec<u8> = self.inbox.drain(..bytes).collect();
        let execute =
            (header.tag == b'E' && message[HEADER_BYTES..] != *b"lineal_denied_\0\0\0\0\0").then(|| {
                self.executes.push(Fate::Skipped);
                self.executes.len() - 1
            });
        if let Some(copying) = self.copying.take() {
            self.copy_message(header.tag, &message, copying);
            return true;
        }
        if self.skipping && !matches!(header.tag, b'S' | b'X') {
            return true;
        }
        self.message(header.tag, &message[HEADER_BYTES..], execute);
        true
    }

    /// Takes one message that is not skipped. `execute` is the place of an Execute in `executes`; `None` for
    /// poison and for every other message.
    fn message(&mut self, tag: u8, body: &[u8], execute: Option<usize>) {
        let mut fields = Fields::new(body);
        let mut string = || fields.string().unwrap_or_default().to_vec();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        match tag {
            b'S' => {
                self.skipping = false;
                self.ready();
            }
            b'H' => self.flush(),
            b'X' => self.dead = true,
            b'Q' => {
                self.statements.remove(&b""[..]);
                self.portals.remove(&b""[..]);
                let text = text(string());
                self.query(text.split(';').map(|part| part.trim().to_owned()).collect());
            }
            b'P' => self.parse(string(), text(string())),
            b'B' => self.bind(string(), &string()),
            b'E' => self.execute(&string(), execute),
            b'D' => {
                let mut target = string();
                let found = match target.remove(0) {
                    b'S' => self.statements.contains_key(&target).then_some("t / n"),
                    _ => self.portals.contains_key(&target).then_some("n"),
                };
                match found {
                    Some(reply) => self.say(reply),
                    None => self.extended_error("26000 none such"),
                }
            }
            b'C' => {
                let mut target = string();
                match target.remove(0) {
                    b'S' => self.statements.remove(&target),
                    _ => self.portals.remove(&target),
                };
                self.say("3");
            }
            b'F' => {
                if body.starts_with(&[0; 4]) {
                    self.poisons += 1;
                    self.error("42883 poison");
                } else {
                    self.say("V");
                }
                self.ready();
            }
            b'd' | b'c' | b'f' => {}
            other => panic!("the session let {} through", other.escape_ascii()),
        }
    }

    /// Reports an error in an extended-query message: everything up to the next Sync is skipped.
    fn extended_error(&mut self, text: &str) {
        self.error(text);
        self.skipping = true;
    }

    fn parse(&mut self, name: Vec<u8>, text: String) {
        if name.is_empty() {
            self.statements.remove(&name);
        }
        if text == POISON {
            self.poisons += 1;
            self.extended_error("42883 poison");
        } else if text.starts_with("syntax") {
            self.extended_error("42601 syntax");
        } else if self.failed && !ends_block(&text) {
            self.extended_error("25P02 aborted");
        } else if let Entry::Vacant(statement) = self.statements.entry(name) {
            statement.insert(text);
            self.say("1");
        } else {
            self.extended_error("42P05 exists");
        }
    }

    fn bind(&mut self, portal: Vec<u8>, statement: &[u8]) {
        let Some(text) = self.statements.get(statement).cloned() else {
            return self.extended_error("26000 none such");
        };
        if self.failed && !ends_block(&text) {
            self.extended_error("25P02 aborted");
        } else if !portal.is_empty() && self.portals.contains_key(&portal) {
            self.extended_error("42P03 exists");
        } else {
            self.portals.insert(portal, text);
            self.say("2");
        }
    }

    fn execute(&mut self, portal: &[u8], execute: Option<usize>) {
        let Some(execute) = execute else {
            self.poisons += 1;
            return self.extended_error("34000 poison");
        };
        self.executes[execute] = Fate::Failed;
        let Some(text) = self.portals.get(portal).cloned() else {
            return self.extended_error("34000 none such");
        };
        if self.failed && !ends_block(&text) {
            return self.extended_error("25P02 aborted");
        }
        match self.run(&text) {
            Effect::Tag(tag) => {
                self.executes[execute] = Fate::Ran(text);
                self.say(tag);
            }
            Effect::Error(error) => self.extended_error(error),
            Effect::Copy => {
                self.say("G");
                self.flush();
                self.copying = Some(Copying::Execute(execute, text));
            }
            Effect::CopyThatFailsAtOnce => {
                self.say("G");
                self.extended_error("P0001 early");
            }
            Effect::CopyCancelled => {
                self.say("G");
                self.flush();
                self.copying = Some(Copying::Cancelled(execute, text));
            }
        }
    }

    fn query(&mut self, mut parts: VecDeque<String>) {
        while let Some(text) = parts.pop_front() {
            if text == POISON {
                self.poisons += 1;
                self.error(if self.failed { "25P02 poison" } else { "42883 poison" });
                break;
            }
            if self.failed && !ends_block(&text) {
                self.error("25P02 aborted");
                break;
            }
            self.queries.push(text.clone());
            match self.run(&text) {
                Effect::Tag(tag) => self.say(tag),
                Effect::Error(error) => {
                    self.error(error);
                    break;
                }
                Effect::Copy => {
                    self.say("G");
                    self.flush();
                    self.copying = Some(Copying::Query(parts));
                    return;
                }
                Effect::CopyThatFailsAtOnce | Effect::CopyCancelled => {
                    self.say("G");
                    self.error("P0001 early");
                    break;
                }
            }
        }
        self.ready();
    }

    /// Runs one statement.
    fn run(&mut self, text: &str) -> Effect {
        let mut words = text.splitn(3, ' ');
        let verb = words.next().unwrap_or_default();
        let name = words.next().unwrap_or_default().as_bytes().to_vec();
        let rest = words.next().unwrap_or_default().to_owned();
        match verb {
            "begin" => self.in_block = true,
            "commit" => {
                self.in_block = false;
                self.failed = false;
                self.portals.clear();
            }
            "bad" => return Effect::Error("22012 bad"),
            "copyin" => return Effect::Copy,
            "early" => return Effect::CopyThatFailsAtOnce,
            "cancelled" => return Effect::CopyCancelled,
            "prepare" if self.statements.contains_key(&name) => return Effect::Error("42P05 exists"),
            "prepare" => drop(self.statements.insert(name, rest)),
            "execute" => {
                let Some(runs) = self.statements.get(&name).cloned() else {
                    return Effect::Error("26000 none such");
                };
                // Only one deep: what a statement executes is another statement.
                if runs.starts_with("execute") {
                    return Effect::Error("0A000 not here");
                }
                self.sql_executes.push((text.to_owned(), runs.clone()));
                return self.run(&runs);
            }
            "deallocate" => drop(self.statements.remove(&name)),
            "declare" if self.portals.contains_key(&name) => return Effect::Error("42P03 exists"),
            "declare" => drop(self.portals.insert(name, rest)),
            "close" => drop(self.portals.remove(&name)),
            "rows" => return Effect::Tag("D 1 / D 2 / C SELECT 2"),
            "" => return Effect::Tag("I"),
            _ => {}
        }
        Effect::Tag("C DONE")
    }

    /// Takes a message while a COPY from stdin reads.
    fn copy_message(&mut self, tag: u8, message: &[u8], copying: Copying) {
        let failed = match tag {
            b'S' if matches!(copying, Copying::Cancelled(..)) => Some("57014 cancelled"),
            b'S' | b'H' => {
                self.copying = Some(copying);
                return;
            }
            b'd' if !message.ends_with(b"x") => {
                self.copying = Some(copying);
                return;
            }
            b'd' => Some("22P02 bad data"),
            b'f' => Some("57014 given up"),
            b'c' => None,
            _ => {
                self.say("E 08P01 unexpected message / FATAL 08P01 lost");
                self.flush();
                self.dead = true;
                return;
            }
        };
        match (copying, failed) {
            (Copying::Execute(execute, text) | Copying::Cancelled(execute, text), None) => {
                self.executes[execute] = Fate::Ran(text);
                self.say("C COPY 1");
            }
            (Copying::Execute(..) | Copying::Cancelled(..), Some(error)) => self.extended_error(error),
            (Copying::Query(rest), None) => {
                self.say("C COPY 1");
                self.query(rest);
            }
            (Copying::Query(_), Some(error)) => {
                self.error(error);
                self.ready();
            }
        }
    }
}

/// Whether a statement may run in a failed transaction block.
fn ends_block(text: &str) -> bool {
    text == "commit"
}
