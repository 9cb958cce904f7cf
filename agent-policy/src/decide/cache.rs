//! Decisions already made in one session, by the facts they were made on.
//!
//! The key is the whole of the facts. Everything else that a decision depends on is either fixed for the
//! cache's life or keeps the decision out. Bundle, subject, upstream and scope belong to the decider that the
//! cache owns. The time and the approvals are the two parts of the context that facts do not hold: if a
//! policy that can apply to one of the actions may read either, the decision is not kept.

use std::{collections::HashMap, sync::Arc};

use agent_core::facts::Facts;

use super::{decider::Decider, judgement::Judgement};

/// How many decisions a cache keeps: half of them used recently, half before that.
const DECISIONS_MAX: usize = 256;

/// How many bytes of names the facts of a kept decision may hold. The job chooses the names, and a session
/// keeps [`DECISIONS_MAX`] decisions.
const NAME_BYTES_MAX: usize = 2_048;

/// How many names, and how many accesses, the facts of a kept decision may hold.
const NAMES_MAX: usize = 64;

/// A decider that remembers its decisions. A new bundle or credential needs a new decider, and a new cache.
pub struct DecisionCache {
    decider: Arc<Decider>,
    recent: HashMap<Facts, Arc<Judgement>>,
    older: HashMap<Facts, Arc<Judgement>>,
    forgotten: u64,
}

impl DecisionCache {
    /// An empty cache for a decider.
    pub fn new(decider: Decider) -> Self {
        Self { decider: Arc::new(decider), recent: HashMap::new(), older: HashMap::new(), forgotten: 0 }
    }

    /// The decider whose decisions these are.
    pub fn decider(&self) -> &Arc<Decider> {
        &self.decider
    }

    /// [`Decider::decide`], from memory where the decision cannot have changed.
    pub fn decide(&mut self, facts: &Facts, now_unix: i64, approvals: &[&str]) -> Arc<Judgement> {
        if let Some(judgement) = self.recent.get(facts) {
            return Arc::clone(judgement);
        }
        if let Some((facts, judgement)) = self.older.remove_entry(facts) {
            self.keep(facts, Arc::clone(&judgement));
            return judgement;
        }
        let judgement = Arc::new(self.decider.decide(facts, now_unix, approvals));
        if self.decider.is_lasting(facts) && is_small(facts) {
            self.keep(facts.clone(), Arc::clone(&judgement));
        }
        judgement
    }

    fn keep(&mut self, facts: Facts, judgement: Arc<Judgement>) {
        if self.recent.len() >= DECISIONS_MAX / 2 {
            let older = std::mem::replace(&mut self.older, std::mem::take(&mut self.recent));
            self.forgotten += older.len() as u64;
        }
        self.recent.insert(facts, judgement);
    }

    /// How many decisions were dropped for lack of room.
    pub fn forgotten(&self) -> u64 {
        self.forgotten
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.recent.len() + self.older.len()
    }
}

fn is_small(facts: &Facts) -> bool {
    let weight = facts.weight();
    weight.names() <= NAMES_MAX && weight.name_bytes <= NAME_BYTES_MAX && weight.accesses <= NAMES_MAX
}
