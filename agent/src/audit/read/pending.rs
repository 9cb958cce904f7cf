//! Holds found decisions until their outcomes are known, and gives everything out in the trail's order.
//!
//! An outcome follows its decision, at any distance; a denied command may have none. A decision is settled
//! by its outcome, by its session's end, or, if it was denied, by the outcome of a later command.

use std::collections::{BTreeMap, HashMap, VecDeque};

use super::row::{Joined, OutcomeRow};

/// Decisions that may wait at one time.
const WAITING_MAX: usize = 8_192;
/// Bytes of lines that may wait at one time, roughly.
const WAITING_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Something found.
pub(super) enum Found {
    /// A decision.
    Decision(Box<Joined>),
    /// A record of another kind, as its line.
    Line(Vec<u8>),
}

struct Waiting {
    found: Found,
    settled: bool,
    bytes: usize,
}

#[derive(Default)]
pub(super) struct Pending {
    queue: VecDeque<Waiting>,
    /// How many have left the queue: what makes a place in it a lasting number.
    left: usize,
    bytes: usize,
    unsettled: usize,
    /// Places of unsettled decisions, by session and command.
    places: HashMap<String, BTreeMap<u64, usize>>,
}

impl Pending {
    /// Takes a find of about so many bytes.
    pub(super) fn push(&mut self, found: Found, bytes: usize) {
        let settled = match &found {
            Found::Line(_) => true,
            Found::Decision(joined) => {
                let place = self.left + self.queue.len();
                let session = joined.decision.session.clone();
                // A number used twice in one session: the earlier decision keeps what it has.
                if let Some(before) =
                    self.places.entry(session).or_default().insert(joined.decision.command, place)
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

    /// Joins an outcome with its decision, if that is waiting.
    pub(super) fn outcome(&mut self, outcome: OutcomeRow) {
        let Some(places) = self.places.get_mut(&outcome.session) else { return };
        let own = places.remove(&outcome.command);
        let earlier: Vec<_> =
            places.range(..outcome.command).map(|(command, place)| (*command, *place)).collect();
        for (command, place) in earlier {
            let denied = matches!(
                self.queue.get(place - self.left).map(|waiting| &waiting.found),
                Some(Found::Decision(joined)) if joined.decision.decision == "deny"
            );
            if denied {
                if let Some(places) = self.places.get_mut(&outcome.session) {
                    places.remove(&command);
                }
                self.settle(place, None);
            }
        }
        if let Some(place) = own {
            self.settle(place, Some(outcome));
        }
    }

    /// Settles what still waits of a session that has ended.
    pub(super) fn session_closed(&mut self, session: &str) {
        for place in self.places.remove(session).unwrap_or_default().into_values() {
            self.settle(place, None);
        }
    }

    /// Settles everything: the trail has no more to say.
    pub(super) fn settle_all(&mut self) {
        for place in std::mem::take(&mut self.places).into_values().flat_map(BTreeMap::into_values) {
            self.settle(place, None);
        }
    }

    fn settle(&mut self, place: usize, outcome: Option<OutcomeRow>) {
        let Some(waiting) = place.checked_sub(self.left).and_then(|at| self.queue.get_mut(at)) else {
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

    /// The next find, once it is settled.
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

    /// Whether every decision that waits has its outcome, or will have none.
    pub(super) fn is_settled(&self) -> bool {
        self.unsettled == 0
    }

    /// Whether as much waits as may: then the outcomes have to be looked for ahead.
    pub(super) fn is_full(&self) -> bool {
        self.queue.len() >= WAITING_MAX || self.bytes >= WAITING_BYTES_MAX
    }
}
