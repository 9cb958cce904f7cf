//! What SQL `PREPARE` names.
//!
//! For each name the facts of every statement that may have this name are kept: whoever runs the name must be
//! allowed all of them. A statement that was dropped is forgotten only when nothing can run it any more:
//!
//! - Statements are numbered by the command that prepares them. A `DEALLOCATE` that the upstream confirms
//!   drops what earlier commands prepared, and nothing that its own text, or a later command, prepares.
//! - A portal that was bound to the name before may still run the dropped statement, until its transaction
//!   ends. So names are forgotten when the upstream is next idle.

use std::collections::HashMap;

use agent_core::facts::{Action, Facts, ITEMS_MAX};
use prometheus::IntCounter;

/// How many names are kept.
const NAMES_MAX: usize = 1_024;
/// How many statements one name keeps the facts of.
const MEANINGS_MAX: usize = 16;
/// How many drops wait for the upstream to be idle. Statements beyond are kept.
const DROPPED_MAX: usize = 1_024;
/// How many bytes the names and facts of one [`Names`] take.
const BYTES_MAX: usize = 1 << 20;

/// Names, each with the facts of what it can stand for, within bounds.
pub struct Names {
    meanings: HashMap<Box<str>, Vec<Meaning>>,
    bytes: usize,
    /// A bound was reached, last by this command: nothing is kept, and any name can stand for anything.
    overflowed: Option<u64>,
    /// What the upstream has dropped, and portals may still run, within [`DROPPED_MAX`].
    dropped: Vec<Dropped>,
    overflows: IntCounter,
}

/// One statement that may have a name.
struct Meaning {
    facts: Facts,
    /// The last command that may have prepared it.
    command: u64,
}

/// What a command dropped: the statement of a name, or all of them.
struct Dropped {
    command: u64,
    name: Option<Box<str>>,
}

impl Names {
    /// No names yet. `overflows` counts each time a bound is reached.
    pub fn new(overflows: IntCounter) -> Self {
        Self { meanings: HashMap::new(), bytes: 0, overflowed: None, dropped: Vec::new(), overflows }
    }

    /// Adds the facts of a statement that a command gives this name.
    pub fn add(&mut self, name: &str, facts: &Facts, command: u64) {
        if let Some(last) = &mut self.overflowed {
            *last = command;
            return;
        }
        let known = self.meanings.get_mut(name);
        if let Some(known) = known
            && let Some(meaning) = known.iter_mut().find(|meaning| meaning.facts == *facts)
        {
            meaning.command = command;
            return;
        }
        let bytes = cost(name, facts);
        let full = self.bytes + bytes > BYTES_MAX
            || match self.meanings.get(name) {
                Some(known) => known.len() >= MEANINGS_MAX,
                None => self.meanings.len() >= NAMES_MAX,
            };
        if full {
            tracing::warn!("a session prepares too many names by SQL: their EXECUTE is sql:other now");
            self.overflows.inc();
            (self.meanings, self.bytes, self.overflowed) = (HashMap::new(), 0, Some(command));
            return;
        }
        self.bytes += bytes;
        self.meanings.entry(name.into()).or_default().push(Meaning { facts: facts.clone(), command });
    }

    /// The upstream confirmed that a command dropped the statement of this name, or all of them.
    pub fn drop(&mut self, command: u64, name: Option<&[u8]>) {
        let name = match name.map(str::from_utf8) {
            None => None,
            Some(Ok(name)) if self.meanings.contains_key(name) => Some(name.into()),
            Some(_) => return,
        };
        if self.dropped.len() < DROPPED_MAX {
            self.dropped.push(Dropped { command, name });
        }
    }

    /// The upstream is idle: no portal is left.
    pub fn idle(&mut self) {
        for Dropped { command, name } in std::mem::take(&mut self.dropped) {
            match name {
                Some(name) => self.forget(&name, command),
                None => {
                    let names: Vec<_> = self.meanings.keys().cloned().collect();
                    names.iter().for_each(|name| self.forget(name, command));
                    self.overflowed = self.overflowed.filter(|last| *last >= command);
                }
            }
        }
    }

    /// Forgets what commands before this one prepared under a name.
    fn forget(&mut self, name: &str, command: u64) {
        let Some(known) = self.meanings.get_mut(name) else { return };
        for gone in known.extract_if(.., |meaning| meaning.command < command) {
            self.bytes = self.bytes.saturating_sub(cost(name, &gone.facts));
        }
        if known.is_empty() {
            self.meanings.remove(name);
        }
    }

    /// The facts of each statement that a name can stand for: none if no statement got the name. `None` if
    /// the name can stand for anything, because a bound was reached.
    pub fn of(&self, name: &str) -> Option<impl ExactSizeIterator<Item = &Facts>> {
        let known = self.meanings.get(name).map_or(&[][..], Vec::as_slice);
        self.overflowed.is_none().then(|| known.iter().map(|meaning| &meaning.facts))
    }
}

/// How many bytes a statement takes under a name.
fn cost(name: &str, facts: &Facts) -> usize {
    name.len() + facts.weight().memory_bytes()
}

/// All that any of these do, as one command. What is added to the first of them has a bound, because a few
/// bytes add it; more is `sql:other`.
pub fn joined<'a>(each: impl IntoIterator<Item = &'a Facts>) -> Facts {
    let mut each = each.into_iter();
    let Some(mut all) = each.next().cloned() else { return Facts::of_sql(Action::SqlOther) };
    let items_max = all.weight().items().saturating_add(agent_sql::PREPARED_FACTS_MAX).min(ITEMS_MAX);
    for facts in each {
        all.join(facts);
        if all.weight().items() > items_max {
            return Facts::of_sql(Action::SqlOther);
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names() -> Names {
        Names::new(IntCounter::new("overflows", "overflows").unwrap())
    }

    fn read(sql: &str) -> Facts {
        agent_sql::analyze(sql.as_bytes()).facts
    }

    fn known(names: &Names, name: &str) -> Vec<Facts> {
        names.of(name).unwrap().cloned().collect()
    }

    #[test]
    fn a_name_keeps_the_facts_of_each_of_its_statements_once() {
        let mut names = names();
        for sql in ["SELECT 1", "DELETE FROM t", "SELECT 1"] {
            names.add("p", &read(sql), 1);
        }
        assert_eq!(known(&names, "p"), [read("SELECT 1"), read("DELETE FROM t")]);
        assert_eq!(known(&names, "q"), []);
    }

    #[test]
    fn what_was_dropped_is_forgotten_once_the_upstream_is_idle_and_nothing_else_is() {
        let mut names = names();
        names.add("p", &read("SELECT 1"), 1);
        names.add("p", &read("DELETE FROM t"), 3);
        names.add("q", &read("SELECT 1"), 1);
        names.drop(2, Some(b"p"));
        assert_eq!(known(&names, "p").len(), 2);
        names.idle();
        assert_eq!(known(&names, "p"), [read("DELETE FROM t")]);
        // Prepared again by a later command, with the same facts: it is not the one that was dropped.
        names.add("q", &read("SELECT 1"), 4);
        names.drop(4, None);
        names.idle();
        assert_eq!(known(&names, "p"), []);
        assert_eq!(known(&names, "q"), [read("SELECT 1")]);
        names.drop(5, None);
        names.idle();
        assert_eq!((names.bytes, names.meanings.len()), (0, 0));
    }

    #[test]
    fn dropped_names_make_room_and_dropping_all_ends_an_overflow() {
        let mut names = names();
        let mut command = 0;
        for i in 0..2 * NAMES_MAX {
            let name = format!("p{i}");
            names.add(&name, &read("SELECT 1"), command + 1);
            names.drop(command + 2, Some(name.as_bytes()));
            names.idle();
            command += 2;
        }
        assert_eq!(names.overflows.get(), 0);
        (0..=NAMES_MAX).for_each(|i| names.add(&format!("p{i}"), &read("SELECT 1"), command));
        names.drop(command, None);
        names.idle();
        assert!(names.of("p").is_none());
        names.drop(command + 1, None);
        names.idle();
        assert_eq!(known(&names, "p"), []);
    }

    #[test]
    fn past_any_bound_every_name_can_stand_for_anything() {
        let mut many_names = names();
        (0..=NAMES_MAX).for_each(|i| many_names.add(&format!("p{i}"), &read("SELECT 1"), 1));
        let mut many_meanings = names();
        (0..=MEANINGS_MAX).for_each(|i| many_meanings.add("p", &read(&format!("TABLE t{i}")), 1));
        let mut long = names();
        for i in 0..10 {
            let tables: Vec<_> = (0..1_000).map(|table| format!("t{i}_{table:0>56}")).collect();
            long.add("p", &read(&format!("SELECT 1 FROM {}", tables.join(", "))), 1);
        }
        for names in [many_names, many_meanings, long] {
            assert!(names.of("p").is_none());
            assert!(names.bytes <= BYTES_MAX);
            assert_eq!(names.overflows.get(), 1);
        }
    }
}
