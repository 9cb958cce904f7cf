//! What a text runs besides itself: SQL `EXECUTE` runs a prepared statement by its name, `FETCH` a portal.
//!
//! SQL `PREPARE` and the protocol's Parse share one space of names. What Parse named is asked of the machine,
//! at the moment of the decision; what `PREPARE` named is in [`Names`].

use std::{borrow::Cow, collections::HashSet, sync::Arc};

use agent_core::{
    facts::{Action, Facts},
    postgres::{Candidates, Meanings},
};

use super::{
    later::NotYet,
    names::{Names, joined},
    reading::{Reader, Reading},
};

/// How many names one text, with all that it runs, may run by. Statements that execute statements could
/// otherwise cost any time. With more, what it runs is `sql:other`.
const LOOKUPS_MAX: usize = 1_024;

/// A text with all that it runs.
pub struct Whole<'a> {
    /// What all of it does.
    pub facts: Cow<'a, Facts>,
    /// What is run by name may give names a meaning by `PREPARE`.
    pub prepares: bool,
    /// What is run by name may make cursors.
    pub declares: bool,
}

/// Finds what a text runs by name.
pub struct Executed<'a> {
    pub reader: &'a mut Reader,
    /// What SQL `PREPARE` named.
    pub prepared: &'a mut Names,
    pub meanings: Meanings<'a>,
    /// The command that runs the text.
    pub command: u64,
}

/// What has been found so far.
#[derive(Default)]
struct Found {
    facts: Vec<Facts>,
    /// The statements of the protocol's that were found, by their numbers.
    statements: HashSet<u64>,
    /// Of these, the ones that are still to be searched.
    unsearched: Vec<Arc<Reading>>,
    prepares: bool,
    declares: bool,
}

impl Found {
    /// It can't be told what runs.
    fn anything(&mut self) {
        self.facts.push(Facts::of_sql(Action::SqlOther));
        (self.prepares, self.declares) = (true, true);
    }
}

impl Executed<'_> {
    /// A text with all that it runs. The names that it gives by `PREPARE` are noted.
    ///
    /// # Errors
    /// It is not known yet what a name stands for, or what is in the text that it stands for.
    pub fn whole<'r>(&mut self, reading: &'r Arc<Reading>) -> Result<Whole<'r>, NotYet> {
        let analysis = &reading.analysis;
        self.note_prepares(reading);
        if analysis.executes.is_empty() && analysis.fetches.is_empty() {
            return Ok(Whole { facts: Cow::Borrowed(&analysis.facts), prepares: false, declares: false });
        }
        let mut found = Found { facts: vec![analysis.facts.clone()], ..Found::default() };
        found.unsearched.push(Arc::clone(reading));
        let mut lookups = 0;
        while let Some(reading) = found.unsearched.pop() {
            let Reading { analysis, .. } = &*reading;
            lookups += analysis.executes.len() + analysis.fetches.len();
            if lookups > LOOKUPS_MAX {
                found.anything();
                break;
            }
            for name in &analysis.executes {
                self.execute(name, &mut found)?;
            }
            for name in &analysis.fetches {
                // What isn't a portal of the protocol's is a cursor: its query was decided when it was
                // declared.
                if let Some(candidates) = self.meanings.portal(name)? {
                    self.run(candidates, &mut found)?;
                }
            }
        }
        let Found { facts, prepares, declares, .. } = found;
        Ok(Whole { facts: Cow::Owned(joined(&facts)), prepares, declares })
    }

    /// Notes the names that a text gives by `PREPARE`.
    fn note_prepares(&mut self, reading: &Reading) {
        for (name, facts) in &reading.analysis.prepares {
            self.prepared.add(name, facts, self.command);
        }
    }

    /// `EXECUTE` of a name.
    fn execute(&mut self, name: &str, found: &mut Found) -> Result<(), NotYet> {
        let parsed = self.meanings.statement(name)?;
        match self.prepared.of(name) {
            Some(meanings) if meanings.len() > 0 || parsed.is_some() => found.facts.extend(meanings.cloned()),
            // The server will most likely not know it either; it is denied if it could be anything.
            _ => found.anything(),
        }
        self.run(Candidates { parsed, ..Candidates::default() }, found)
    }

    /// What Parse or Bind left under a name.
    fn run(&mut self, candidates: Candidates<'_>, found: &mut Found) -> Result<(), NotYet> {
        if let Some(statement) = candidates.parsed
            && found.statements.insert(statement.id())
        {
            let reading = self.reader.read_statement(statement, self.meanings.encoding())?;
            self.note_prepares(&reading);
            found.facts.push(reading.analysis.facts.clone());
            found.prepares |= !reading.analysis.prepares.is_empty();
            found.declares |= reading.declares;
            found.unsearched.push(reading);
        }
        if let Some(name) = candidates.sql_prepared {
            match str::from_utf8(name).ok().and_then(|name| self.prepared.of(name)) {
                Some(meanings) if meanings.len() > 0 => found.facts.extend(meanings.cloned()),
                _ => found.anything(),
            }
        }
        Ok(())
    }
}
