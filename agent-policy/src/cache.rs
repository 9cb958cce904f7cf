//! Decisions already made in one session, by the facts they were made on.
//!
//! The key is the whole of the facts. All else that a decision depends on is fixed for the cache's life or
//! keeps the decision out: bundle, subject, upstream, database and user belong to the session that the cache
//! owns; the time and the approvals are the two fields of the context that facts do not hold, and where a
//! policy that can speak to one of the actions may read either, nothing is kept.

use std::collections::HashMap;
use std::sync::Arc;

use agent_core::decision::Decision;
use agent_core::facts::{Facts, Resource};

use crate::session::Session;

/// How many decisions a cache keeps: half of them looked up lately, half before that.
const DECISIONS_MAX: usize = 256;

/// How many bytes of names a kept decision's facts may hold; a job writes them, and a session keeps
/// [`DECISIONS_MAX`] of them.
const NAME_BYTES_MAX: usize = 2_048;

/// How many names, likewise.
const NAMES_MAX: usize = 64;

/// A decision and what it was made on, as the audit trail has both.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decided {
    /// The decision.
    pub decision: Decision,
    /// The resources, one for each of the facts' accesses: [`Session::resources`].
    pub resources: Vec<String>,
}

/// A session that remembers its decisions. A new bundle or credential is a new session, and a new cache.
pub struct DecisionCache {
    session: Session,
    recent: HashMap<Facts, Arc<Decided>>,
    older: HashMap<Facts, Arc<Decided>>,
    forgotten: u64,
}

impl DecisionCache {
    /// An empty cache for a session.
    pub fn new(session: Session) -> Self {
        Self { session, recent: HashMap::new(), older: HashMap::new(), forgotten: 0 }
    }

    /// The session whose decisions these are.
    pub fn session(&self) -> &Session {
        &self.session
    }

    /// [`Session::decide`], from memory where that cannot differ.
    pub fn decide(&mut self, facts: &Facts, now_unix: i64, approvals: &[&str]) -> Arc<Decided> {
        if let Some(decided) = self.recent.get(facts) {
            return Arc::clone(decided);
        }
        if let Some((facts, decided)) = self.older.remove_entry(facts) {
            self.keep(facts, Arc::clone(&decided));
            return decided;
        }
        let decision = self.session.decide(facts, now_unix, approvals);
        let decided = Arc::new(Decided { decision, resources: self.session.resources(facts) });
        if self.session.is_lasting(facts) && is_small(facts) {
            self.keep(facts.clone(), Arc::clone(&decided));
        }
        decided
    }

    fn keep(&mut self, facts: Facts, decided: Arc<Decided>) {
        if self.recent.len() >= DECISIONS_MAX / 2 {
            let older = std::mem::replace(&mut self.older, std::mem::take(&mut self.recent));
            self.forgotten += older.len() as u64;
        }
        self.recent.insert(facts, decided);
    }

    /// Decisions that were let go of for lack of room.
    pub fn forgotten(&self) -> u64 {
        self.forgotten
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.recent.len() + self.older.len()
    }
}

fn is_small(facts: &Facts) -> bool {
    let tables = facts.accesses.iter().filter_map(|access| match &access.resource {
        Resource::Table(relation) => Some(relation),
        Resource::Upstream | Resource::Database => None,
    });
    let tables = tables.map(|table| table.name.len() + table.schema.as_deref().map_or(0, str::len));
    let sql = facts.sql.iter().flat_map(|sql| sql.functions.iter().chain(&sql.settings));
    let (names, bytes) =
        tables.chain(sql.map(|name| name.len())).fold((0, 0), |(names, bytes), len| (names + 1, bytes + len));
    names <= NAMES_MAX && bytes <= NAME_BYTES_MAX && facts.accesses.len() <= NAMES_MAX
}
