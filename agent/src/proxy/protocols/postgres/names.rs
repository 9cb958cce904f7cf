//! What SQL `PREPARE` names.
//!
//! For each name the facts of every statement that ever got this name are kept: whether a `PREPARE` or a
//! `DEALLOCATE` took effect is not followed. Whoever runs the name must be allowed all of them.

use std::collections::HashMap;

use agent_core::facts::{Action, Facts};
use prometheus::IntCounter;

/// How many names are kept.
const NAMES_MAX: usize = 1_024;
/// How many statements one name keeps the facts of.
const MEANINGS_MAX: usize = 16;
/// How many bytes the names and facts of one [`Names`] take.
const BYTES_MAX: usize = 1 << 20;

/// Names, each with the facts of what it can stand for, within bounds.
pub struct Names {
    meanings: HashMap<Box<str>, Vec<Facts>>,
    bytes: usize,
    /// A bound was reached: nothing is kept, and any name can stand for anything.
    overflowed: bool,
    overflows: IntCounter,
}

impl Names {
    /// No names yet. `overflows` counts each time a bound is reached.
    pub fn new(overflows: IntCounter) -> Self {
        Self { meanings: HashMap::new(), bytes: 0, overflowed: false, overflows }
    }

    /// Adds the facts of a statement that got this name.
    pub fn add(&mut self, name: &str, facts: &Facts) {
        if self.overflowed || self.meanings.get(name).is_some_and(|known| known.contains(facts)) {
            return;
        }
        let bytes = name.len() + facts.weight().memory_bytes();
        let full = self.bytes + bytes > BYTES_MAX
            || match self.meanings.get(name) {
                Some(known) => known.len() >= MEANINGS_MAX,
                None => self.meanings.len() >= NAMES_MAX,
            };
        if full {
            tracing::warn!("a session prepares too many names by SQL: their EXECUTE is sql:other now");
            self.overflows.inc();
            (self.meanings, self.bytes, self.overflowed) = (HashMap::new(), 0, true);
            return;
        }
        self.bytes += bytes;
        self.meanings.entry(name.into()).or_default().push(facts.clone());
    }

    /// The facts of each statement that a name can stand for: none if no statement got the name. `None` if
    /// the name can stand for anything, because a bound was reached.
    pub fn of(&self, name: &str) -> Option<&[Facts]> {
        (!self.overflowed).then(|| self.meanings.get(name).map_or(&[][..], Vec::as_slice))
    }
}

/// All that any of these do, as one command; too much of it is `sql:other`.
pub fn joined<'a>(each: impl IntoIterator<Item = &'a Facts>) -> Facts {
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
            names.add("p", &read(sql));
        }
        assert_eq!(names.of("p").unwrap(), [read("SELECT 1"), read("DELETE FROM t")]);
        assert_eq!(names.of("q").unwrap(), []);
    }

    #[test]
    fn past_any_bound_every_name_can_stand_for_anything() {
        let mut many_names = names();
        (0..=NAMES_MAX).for_each(|i| many_names.add(&format!("p{i}"), &read("SELECT 1")));
        let mut many_meanings = names();
        (0..=MEANINGS_MAX).for_each(|i| many_meanings.add("p", &read(&format!("TABLE t{i}"))));
        let mut long = names();
        for i in 0..10 {
            let tables: Vec<_> = (0..1_000).map(|table| format!("t{i}_{table:0>56}")).collect();
            long.add("p", &read(&format!("SELECT 1 FROM {}", tables.join(", "))));
        }
        for names in [many_names, many_meanings, long] {
            assert!(names.of("p").is_none());
            assert!(names.bytes <= BYTES_MAX);
            assert_eq!(names.overflows.get(), 1);
        }
    }
}
