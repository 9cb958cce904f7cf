//! The session against a model of the server, with random pipelines and random delays in between.
//!
//! The model does what the real server does to names, transactions, errors and COPY, and remembers which
//! text every Execute ran. The promise under test is the one that matters most: the executor was asked
//! about that very text.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, VecDeque};

use proptest::prelude::*;

use super::executor::{Allowed, Executor};
use super::notation;
use crate::postgres::wire::{Fields, HEADER_BYTES, Header};
use crate::postgres::{Ending, Limits, Violation};

/// How an Execute ended at the model.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Fate {
    Ran(String),
    Failed,
    Skipped,
}

/// What a COPY from stdin goes back to.
enum Copying {
    Query(VecDeque<String>),
    Execute(usize, String),
    /// As `Execute`, but it is cancelled once it has eaten a Sync.
    Cancelled(usize, String),
}

#[derive(Default)]
struct Model {
    statements: HashMap<Vec<u8>, String>,
    portals: HashMap<Vec<u8>, String>,
    in_block: bool,
    failed: bool,
    skipping: bool,
    copying: Option<Copying>,
    inbox: Vec<u8>,
    /// Written, but kept until the next flush.
    unflushed: Vec<u8>,
    outbox: Vec<u8>,
    executes: Vec<Fate>,
    queries: Vec<String>,
    poisons: usize,
    dead: bool,
}

/// A statement's effect: its tag, or an error, or a COPY.
enum Effect {
    Tag(&'static str),
    Error(&'static str),
    Copy,
    CopyThatFailsAtOnce,
    CopyCancelled,
}

const POISON: &str = "SELECT pg_catalog.lineal_denied_()";

impl Model {
    fn say(&mut self, text: &str) {
        self.unflushed.extend(notation::server(text));
    }

    fn flush(&mut self) {
        self.outbox.append(&mut self.unflushed);
    }

    fn error(&mut self, text: &str) {
        self.say(&format!("E {text}"));
        self.flush();
        if self.in_block {
            self.failed = true;
        } else {
            self.portals.clear();
        }
    }

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

    /// Takes one message; false where there is none.
    fn step(&mut self) -> bool {
        let Some(header) = Header::read(&self.inbox) else { return false };
        let bytes = HEADER_BYTES + header.body_bytes().unwrap();
        if self.dead || self.inbox.len() < bytes {
            return false;
        }
        let message: Vec<u8> = self.inbox.drain(..bytes).collect();
        let mut fields = Fields::new(&message[HEADER_BYTES..]);
        let mut string = || fields.string().unwrap_or_default().to_vec();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
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
        match header.tag {
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
                if message[HEADER_BYTES..].starts_with(&[0; 4]) {
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
        true
    }

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

fn ends_block(text: &str) -> bool {
    text == "commit"
}

/// One message of the client's, in notation. `n` makes texts distinguishable.
fn item(n: usize, kind: u8, a: u8, b: u8) -> String {
    let statement = ["", "x", "y"][usize::from(a % 3)];
    let portal = ["", "p", "q"][usize::from(b % 3)];
    let text = match (a / 3).wrapping_add(b / 3) % 40 {
        0 | 1 => "begin".to_owned(),
        2 => "commit".to_owned(),
        3 => format!("bad {n}"),
        4 => format!("deny {n}"),
        5 => format!("later {n}"),
        6 => format!("prepare x t{n}"),
        7 => "deallocate x".to_owned(),
        8 => format!("declare p t{n}"),
        9 => "close p".to_owned(),
        10 => format!("syntax {n}"),
        11 => "rows".to_owned(),
        _ => format!("t{n}"),
    };
    let sync = if b.is_multiple_of(2) { " / S" } else { "" };
    match kind % 51 {
        0..10 => format!("C s{statement} / P {statement}={text} / B {portal}<{statement} / E {portal}{sync}"),
        10..14 => format!("P {statement}={text}{sync}"),
        14..22 => format!("B {portal}<{statement} / E {portal}{sync}"),
        22..26 => format!("E {portal}{sync}"),
        26..31 => "S".to_owned(),
        31..33 => format!("Q {text}"),
        33 => format!("Q deallocate x; prepare x t{n}"),
        34 => "Q begin".to_owned(),
        35 => "Q commit".to_owned(),
        36 => format!("C s{statement}{sync}"),
        37 => format!("C p{portal}{sync}"),
        38 => format!("D s{statement}"),
        39 => format!("D p{portal}"),
        40 => format!("F {}", if a.is_multiple_of(2) { 666 } else { 1 }),
        41 => "H".to_owned(),
        42 => format!("P x=deny / B <x / E{sync}"),
        43 => format!("C pp / P =declare p t{n} / B < / E{sync}"),
        44 | 45 => {
            let copy = ["copyin", "early", "cancelled"][usize::from(b % 3)];
            let data = ["d 1 / c / S", "c / S", "d x / c / S", "d 1 / f no / S"][usize::from(a % 4)];
            let eaten = ["", "S / ", "H / "][usize::from(a / 4 % 3)];
            format!("P ={copy} / B < / E / {eaten}{data}")
        }
        46 => ["Q copyin; t; copyin / d 1 / c / d 1 / c", "Q early / d 1 / c", "Q copyin / d x / S / c"]
            [usize::from(a % 3)]
        .to_owned(),
        47 => ["d 1", "d x", "c", "f no"][usize::from(a % 4)].to_owned(),
        48 | 49 => format!("Q begin / P =t{n} / B p< / Q close p; declare p c{n} / E p / S"),
        // Run, if the COPY fails before it reads the first Sync; skipped, if after; refused, if the COPY
        // goes on.
        _ => format!(
            "C sx / P ={} / B < / E / S / P x=t{n} / S / C sx / P x=u{n} / S / B <x / E / S",
            ["early", "cancelled"][usize::from(b % 2)]
        ),
    }
}

/// Moves bytes about until nothing moves.
fn settle(executor: &mut Executor, model: &mut Model) {
    loop {
        model.inbox.append(&mut executor.seen.to_upstream);
        let stepped = model.step();
        let said = std::mem::take(&mut model.outbox);
        if !stepped && said.is_empty() {
            return;
        }
        executor.upstream(&said);
    }
}

fn check(items: &[(u8, u8, u8)], schedule: &[u8], pipeline_max: usize) -> Result<(), TestCaseError> {
    let script: Vec<String> =
        items.iter().enumerate().map(|(n, &(kind, a, b))| item(n, kind, a, b)).collect();
    let mut client: VecDeque<u8> = notation::client(&script.join(" / ")).into();
    let mut executor = Executor::open(Limits { pipeline_max, ..Limits::default() });
    let mut model = Model::default();
    for turn in schedule {
        let amount = usize::from(turn / 4);
        match turn % 4 {
            0 => {
                let bytes: Vec<u8> = client.drain(..amount.min(client.len())).collect();
                executor.client(&bytes);
            }
            1 => model.inbox.append(&mut executor.seen.to_upstream),
            2 => (0..amount / 8).for_each(|_| {
                model.step();
            }),
            _ => {
                let bytes: Vec<u8> = model.outbox.drain(..amount.min(model.outbox.len())).collect();
                executor.upstream(&bytes);
            }
        }
    }
    executor.client(client.make_contiguous());
    settle(&mut executor, &mut model);

    // A command may end the session only for what it does to a COPY.
    if let Some(fault) = &executor.seen.fault {
        prop_assert!(matches!(fault, Violation::Client(_)) || model.dead, "{fault} in {script:?}");
    } else if !model.dead && model.copying.is_none() {
        prop_assert_eq!(executor.held_back(), 0, "the client waits for ever: {:?}", script);
    }
    let executed: Vec<_> = executor
        .allowed
        .iter()
        .zip(&executor.commands)
        .filter_map(|(allowed, command)| match allowed {
            Allowed::Execute(_, text, or_sql) => Some((text, or_sql, command)),
            _ => None,
        })
        .collect();
    for (fate, (text, or_sql, command)) in model.executes.iter().zip(executed) {
        if let Fate::Ran(ran) = fate {
            let asked = text.as_deref() == Some(ran.as_bytes()) || *or_sql;
            prop_assert!(asked, "asked about {text:?}, ran {ran}: {script:?}");
            prop_assert!(!ran.contains("deny"), "{script:?}");
        }
        let matches = matches!(
            (executor.endings.get(command), fate),
            (None, _)
                | (Some(Ending::Complete), Fate::Ran(_))
                | (Some(Ending::Error(_)), Fate::Failed)
                | (Some(Ending::Skipped), Fate::Skipped)
        );
        prop_assert!(matches, "{:?} for {fate:?}: {script:?}", executor.endings.get(command));
    }
    prop_assert!(model.queries.iter().all(|text| !text.contains("deny")), "{script:?}");
    let to_client = String::from_utf8_lossy(&executor.seen.to_client);
    prop_assert!(!to_client.contains("poison"), "a stand-in's error reached the client: {script:?}");
    if executor.seen.fault.is_none() {
        let denied = to_client.matches("lineal: denied").count();
        prop_assert_eq!(denied, model.poisons, "{:?}", script);
    }
    Ok(())
}

/// Enough for each known way of getting names wrong to be found many times over.
const CASES: u32 = 4000;

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(CASES) })]

    #[test]
    fn every_execute_runs_a_text_that_was_asked_about(
        items in prop::collection::vec(any::<(u8, u8, u8)>(), 1..40),
        schedule in prop::collection::vec(any::<u8>(), 0..200),
        pipeline_max in prop::sample::select(vec![3, 10, 4096]),
    ) {
        check(&items, &schedule, pipeline_max)?;
    }
}
