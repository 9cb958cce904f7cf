//! Holds matching decisions until their outcomes are known, and gives everything out in the trail's order.
//!
//! An outcome follows its decision at any distance, and a denied command may have none. A decision is settled
//! by its outcome, by its session's end, or, if it was denied, by the outcome of a later command of its
//! session.

use std::collections::{BTreeMap, HashMap, VecDeque};

use super::row::{Joined, OutcomeRow};

/// Decisions that may wait at one time.
const WAITING_MAX: usize = 8_192;
/// Bytes of lines that may wait at one time, roughly.
const WAITING_BYTES_MAX: usize = 64 * 1024 * 1024;

/// A record that matches the search.
pub(super) enum Found {
    /// A decision.
    Decision(Box<Joined>),
    /// A record of another kind, as its line.
    Line(Vec<u8>),
}

/// A match in the queue.
struct Waiting {
    found: Found,
    /// It has its outcome, or will have none.
    settled: bool,
    bytes: usize,
}

/// Matches in the trail's order, the first of them waiting for its outcome.
#[derive(Default)]
pub(super) struct Pending {
    queue: VecDeque<Waiting>,
    /// How many have left the queue. A match's position is counted from the first match ever, so that it
    /// stays valid when others leave.
    left: usize,
    bytes: usize,
    unsettled: usize,
    /// Positions of unsettled decisions, by session and command.
    positions: HashMap<String, BTreeMap<u64, usize>>,
}

impl Pending {
    /// Adds a match that takes about `bytes` of memory.
    pub(super) fn push(&mut self, found: Found, bytes: usize) {
        let settled = match &found {
            Found::Line(_) => true,
            Found::Decision(joined) => {
                let position = self.left + self.queue.len();
                let session = joined.decision.session.clone();
                // A command number used twice in one session: the earlier decision gets no outcome.
                if let Some(before) =
                    self.positions.entry(session).or_default().insert(joined.decision.command, position)
                {
                    self.settle(before, None);
                }
                self.unsettled += 1;
                false
            }
        };
        self.bytes += bytes;
        self.queue.push_back(Waiting { found, settled, bytes });
    }

    /// Joins an outcome to its decision, if that is waiting.
    pub(super) fn outcome(&mut self, outcome: OutcomeRow) {
        let Some(positions) = self.positions.get_mut(&outcome.session) else { return };
        let own = positions.remove(&outcome.command);
        let earlier: Vec<_> =
            positions.range(..outcome.command).map(|(command, position)| (*command, *position)).collect();
        for (command, position) in earlier {
            let denied = matches!(
                self.queue.get(position - self.left).map(|waiting| &waiting.found),
                Some(Found::Decision(joined)) if joined.decision.decision == "deny"
            );
            if denied {
                if let Some(positions) = self.positions.get_mut(&outcome.session) {
                    positions.remove(&command);
                }
                self.settle(position, None);
            }
        }
        if let Some(position) = own {
            self.settle(position, Some(outcome));
        }
    }

    /// Settles the waiting decisions of a session that has ended.
    pub(super) fn session_closed(&mut self, session: &str) {
        for position in self.positions.remove(session).unwrap_or_default().into_values() {
            self.settle(position, None);
        }
    }

    /// Settles everything, at the end of the trail.
    pub(super) fn settle_all(&mut self) {
        for position in std::mem::take(&mut self.positions).into_values().flat_map(BTreeMap::into_values) {
            self.settle(position, None);
        }
    }

    fn settle(&mut self, position: usize, outcome: Option<OutcomeRow>) {
        let Some(waiting) = position.checked_sub(self.left).and_then(|at| self.queue.get_mut(at)) else {
            return;
        };
        if let (Found::Decision(joined), Some(outcome)) = (&mut waiting.found, outcome) {
            joined.outcome = Some(outcome);
        }
        if !waiting.settled {
            waiting.settled = true;
            self.unsettled -= 1;
        }
    }

    /// Takes out the next match, if it is settled.
    pub(super) fn pop(&mut self) -> Option<Found> {
        let waiting = self.queue.pop_front_if(|waiting| waiting.settled)?;
        self.left += 1;
        self.bytes -= waiting.bytes;
        Some(waiting.found)
    }

    /// Whether nothing waits.
    pub(super) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// Whether every waiting decision is settled.
    pub(super) fn is_settled(&self) -> bool {
        self.unsettled == 0
    }

    /// Whether the queue has reached its bound: then the outcomes must be looked for ahead of the search.
    pub(super) fn is_full(&self) -> bool {
        self.queue.len() >= WAITING_MAX || self.bytes >= WAITING_BYTES_MAX
    }
}
