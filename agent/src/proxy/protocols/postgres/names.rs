//! What SQL can run by a name: `EXECUTE` a prepared statement, `FETCH` a portal.
//!
//! For each name the facts of every statement that got this name are kept, until the server has dropped it.
//! SQL's `PREPARE` and the protocol's Parse share one space of names, so lineal can't tell for sure which
//! statement the server has under a name: whoever runs the name must be allowed all of them.

use std::collections::HashMap;

use agent_core::facts::Facts;
use prometheus::IntCounter;

/// How many names are kept.
const NAMES_MAX: usize = 1_024;
/// How many statements one name keeps the facts of.
const MEANINGS_MAX: usize = 16;
/// How many bytes the names and facts of one [`Names`] take.
const BYTES_MAX: usize = 1 << 20;

/// Names, each with the facts of what it can stand for, within bounds.
pub struct Names {
    meanings: HashMap<Box<str>, Vec<Meaning>>,
    bytes: usize,
    /// The last command that gave a name.
    last: u64,
    /// A bound was reached: nothing is kept, and any name can stand for anything.
    overflowed: bool,
    overflows: IntCounter,
}

/// What a name can stand for.
struct Meaning {
    facts: Facts,
    /// The last command that gave the name to a statement with these facts.
    command: u64,
}

impl Meaning {
    fn bytes(&self, name: &str) -> usize {
        name.len() + self.facts.weight().memory_bytes()
    }
}

impl Names {
    /// No names yet. `overflows` counts each time a bound is reached.
    pub fn new(overflows: IntCounter) -> Self {
        Self { meanings: HashMap::new(), bytes: 0, last: 0, overflowed: false, overflows }
    }

    /// Adds the facts of a statement that got this name by a command of this number.
    pub fn add(&mut self, name: &str, facts: &Facts, command: u64) {
        self.last = command;
        if self.overflowed {
            return;
        }
        let mut known = self.meanings.get_mut(name).into_iter().flatten();
        if let Some(known) = known.find(|known| known.facts == *facts) {
            known.command = command;
            return;
        }
        let meaning = Meaning { facts: facts.clone(), command };
        let bytes = meaning.bytes(name);
        let full = self.bytes + bytes > BYTES_MAX
            || match self.meanings.get(name) {
                Some(known) => known.len() >= MEANINGS_MAX,
                None => self.meanings.len() >= NAMES_MAX,
            };
        if full {
            tracing::warn!(
                "a session gives statements or portals too many names: \
                 their EXECUTE or FETCH is sql:other now"
            );
            self.overflows.inc();
            (self.meanings, self.bytes, self.overflowed) = (HashMap::new(), 0, true);
            return;
        }
        self.bytes += bytes;
        self.meanings.entry(name.into()).or_default().push(meaning);
    }

    /// The server has dropped what commands up to number `before` gave this name, or any name for `None`.
    pub fn dropped(&mut self, name: Option<&str>, before: u64) {
        match name {
            Some(name) => {
                if let Some(meanings) = self.meanings.get_mut(name) {
                    forget(name, meanings, before, &mut self.bytes);
                    if meanings.is_empty() {
                        self.meanings.remove(name);
                    }
                }
            }
            None => {
                self.meanings.retain(|name, meanings| {
                    forget(name, meanings, before, &mut self.bytes);
                    !meanings.is_empty()
                });
                // What was not kept is gone, too, unless it came later.
                self.overflowed &= self.last > before;
            }
        }
    }

    /// The facts of each statement that a name can stand for: none if no statement got the name. `None` if
    /// the name can stand for anything, because a bound was reached.
    pub fn of(&self, name: &str) -> Option<impl Iterator<Item = &Facts>> {
        let meanings = self.meanings.get(name).into_iter().flatten().map(|meaning| &meaning.facts);
        (!self.overflowed).then_some(meanings)
    }
}

/// Removes what commands up to number `before` gave the name.
fn forget(name: &str, meanings: &mut Vec<Meaning>, before: u64, bytes: &mut usize) {
    meanings.retain(|meaning| {
        let stays = meaning.command > before;
        if !stays {
            *bytes = bytes.saturating_sub(meaning.bytes(name));
        }
        stays
    });
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

    #[test]
    fn a_name_keeps_the_facts_of_each_of_its_statements_once() {
        let mut names = names();
        for sql in ["SELECT 1", "DELETE FROM t", "SELECT 1"] {
            names.add("p", &read(sql), 1);
        }
        assert!(names.of("p").unwrap().eq(&[read("SELECT 1"), read("DELETE FROM t")]));
        assert_eq!(names.of("q").unwrap().count(), 0);
    }

    #[test]
    fn a_name_that_the_server_dropped_keeps_only_what_it_got_later() {
        let mut names = names();
        names.add("p", &read("SELECT 1"), 1);
        names.add("p", &read("DELETE FROM t"), 2);
        names.add("p", &read("SELECT 1"), 3);
        names.add("q", &read("SELECT 1"), 1);
        names.dropped(Some("p"), 2);
        assert!(names.of("p").unwrap().eq(&[read("SELECT 1")]));
        assert_eq!(names.of("q").unwrap().count(), 1);
        names.dropped(None, 3);
        assert_eq!(names.of("p").into_iter().chain(names.of("q")).flatten().count(), 0);
        assert_eq!(names.bytes, 0);
    }

    #[test]
    fn names_that_are_dropped_again_never_add_up() {
        let mut names = names();
        for number in 0..4 * NAMES_MAX as u64 {
            let name = format!("p{number}");
            names.add(&name, &read("SELECT 1"), number);
            names.dropped(Some(&name), number);
        }
        assert!(names.of("p").is_some());
    }

    #[test]
    fn after_a_bound_was_reached_dropping_all_names_makes_a_new_beginning() {
        let mut names = names();
        (0..=NAMES_MAX as u64).for_each(|i| names.add(&format!("p{i}"), &read("SELECT 1"), i));
        names.dropped(None, NAMES_MAX as u64 - 1);
        assert!(names.of("p").is_none(), "one name came later");
        names.dropped(None, NAMES_MAX as u64);
        assert!(names.of("p").is_some());
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
