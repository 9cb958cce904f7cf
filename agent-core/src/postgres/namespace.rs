//! What a name means at the server: one namespace for prepared statements, one for portals.
//!
//! The client may send Parse, Bind and Execute in one go, long before any reply tells whether the first of
//! them worked. An Execute must nevertheless be judged by what the server will run. The argument, on which
//! the whole attribution rests:
//!
//! 1. The server handles messages in order, and after an error skips everything up to the next Sync. So if
//!    it reaches an Execute, every Parse, Bind and Close before it *in the same segment* (since the last
//!    Sync) has worked, and the newest of them that touches a name says what the name means. That is
//!    `tentative`.
//! 2. For a change in an *earlier* segment, not yet answered, nothing is known: it may have failed and been
//!    skipped, and the Sync in between ended the skipping. Then the answer is [`Lookup::Unsettled`]: wait.
//!    The wait ends, because that segment's Sync is on its way and the server answers a Sync without being
//!    asked again.
//! 3. With nothing unanswered, what the replies confirmed (`settled`) is what the server has, except for
//!    what SQL did to the same names (`DEALLOCATE`, `PREPARE`, `CLOSE`, `DECLARE`). A name that SQL removed
//!    makes the server fail: harmless. A name that SQL gave a new meaning after the registry learnt the old
//!    one is marked: both are then candidates.
//! 4. A name that is not here may still be known to the server, from SQL: [`Lookup::Absent`] is a question
//!    for the executor, never a licence.
//!
//! The server compares names by their first 63 bytes (`NAMEDATALEN - 1`; its hash tables cut longer keys),
//! and so does this file: otherwise two spellings of one statement could be told apart here and not there.

use std::collections::HashMap;

/// How many bytes of a name the server looks at.
const NAME_BYTES: usize = 63;

/// The part of a name that counts.
pub(super) fn key(name: &[u8]) -> &[u8] {
    name.get(..NAME_BYTES).unwrap_or(name)
}

/// The order in which changes were sent.
pub(super) type Order = u64;

/// What is known of one name.
#[derive(Debug)]
struct Slot<V> {
    /// What the server confirmed, and when that was sent.
    settled: Option<(Order, V)>,
    /// What the newest unanswered change makes of the name; its segment.
    tentative: Option<(Order, u64, Option<V>)>,
    /// How many changes of this name are unanswered.
    unsettled: u32,
    /// When SQL last gave the name a meaning.
    sql: Order,
}

impl<V> Default for Slot<V> {
    fn default() -> Self {
        Self { settled: None, tentative: None, unsettled: 0, sql: 0 }
    }
}

/// What a name means to a message that is about to be sent.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Lookup<'a, V> {
    /// This, if the server gets that far; or, where `or_sql`, something SQL made since.
    Known { value: &'a V, or_sql: bool },
    /// Nothing the protocol made; perhaps something SQL made.
    Absent,
    /// An earlier segment's reply will tell.
    Unsettled,
}

/// The namespace is full.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Full;

/// Names and their meanings.
#[derive(Debug)]
pub(super) struct Namespace<V> {
    /// The unnamed statement or portal is in nearly every message: no hashing for it.
    unnamed: Slot<V>,
    named: HashMap<Box<[u8]>, Slot<V>>,
    names_max: usize,
    clock: Order,
    /// When SQL may last have given any name a meaning.
    sql_any: Order,
}

impl<V: Clone> Namespace<V> {
    /// An empty namespace of at most `names_max` names.
    pub(super) fn new(names_max: usize) -> Self {
        Self { unnamed: Slot::default(), named: HashMap::new(), names_max, clock: 0, sql_any: 0 }
    }

    /// Whether a change of this name would find room.
    pub(super) fn has_room(&self, name: &[u8]) -> bool {
        let name = key(name);
        name.is_empty() || self.named.len() < self.names_max || self.named.contains_key(name)
    }

    /// Notes a change that is about to be sent in `segment`: to `value`, or away.
    pub(super) fn change(&mut self, name: &[u8], segment: u64, value: Option<V>) -> Result<Order, Full> {
        if !self.has_room(name) {
            return Err(Full);
        }
        self.clock += 1;
        let order = self.clock;
        let name = key(name);
        let slot = if name.is_empty() {
            &mut self.unnamed
        } else if self.named.contains_key(name) {
            self.named.get_mut(name).ok_or(Full)?
        } else {
            self.named.entry(name.into()).or_default()
        };
        slot.tentative = Some((order, segment, value));
        slot.unsettled += 1;
        Ok(order)
    }

    /// The server confirmed a change. Answers come in the order of the changes.
    pub(super) fn settle(&mut self, name: &[u8], order: Order, value: Option<V>) {
        self.update(name, |slot| {
            slot.settled = value.map(|value| (order, value));
            slot.answered();
        });
    }

    /// The server refused or skipped a change: what was there before still is.
    pub(super) fn revoke(&mut self, name: &[u8]) {
        self.update(name, Slot::answered);
    }

    /// The server dropped what it had confirmed under this name.
    pub(super) fn forget(&mut self, name: &[u8]) {
        self.update(name, |slot| slot.settled = None);
    }

    /// The server dropped all it had confirmed.
    pub(super) fn forget_all(&mut self) {
        self.unnamed.settled = None;
        if !self.named.is_empty() {
            self.named.retain(|_, slot| {
                slot.settled = None;
                slot.unsettled > 0
            });
        }
    }

    /// A statement about to be sent may give this name, or any name, a meaning by SQL.
    pub(super) fn note_sql(&mut self, name: Option<&[u8]>) {
        self.clock += 1;
        match name {
            None => self.sql_any = self.clock,
            // Absence already stands for "perhaps SQL made it": only known names need the mark.
            Some(name) => {
                let now = self.clock;
                self.update(name, |slot| slot.sql = now);
            }
        }
    }

    /// What the name means to a message sent in `segment`.
    pub(super) fn look_up(&self, name: &[u8], segment: u64) -> Lookup<'_, V> {
        let name = key(name);
        let slot = if name.is_empty() { Some(&self.unnamed) } else { self.named.get(name) };
        let Some(slot) = slot else { return Lookup::Absent };
        let or_sql = |order: Order| !name.is_empty() && slot.sql.max(self.sql_any) > order;
        match (&slot.tentative, &slot.settled) {
            (Some((order, sent_in, value)), _) if *sent_in == segment => match value {
                Some(value) => Lookup::Known { value, or_sql: or_sql(*order) },
                None => Lookup::Absent,
            },
            (Some(_), _) => Lookup::Unsettled,
            (None, Some((order, value))) => Lookup::Known { value, or_sql: or_sql(*order) },
            (None, None) => Lookup::Absent,
        }
    }

    fn update(&mut self, name: &[u8], change: impl FnOnce(&mut Slot<V>)) {
        let name = key(name);
        if name.is_empty() {
            change(&mut self.unnamed);
        } else if let Some(slot) = self.named.get_mut(name) {
            change(slot);
            if slot.settled.is_none() && slot.unsettled == 0 {
                self.named.remove(name);
            }
        }
    }
}

impl<V> Slot<V> {
    /// One change was answered. The newest one is `tentative`, and answers come in order, so it stays until
    /// the last.
    fn answered(&mut self) {
        self.unsettled = self.unsettled.saturating_sub(1);
        if self.unsettled == 0 {
            self.tentative = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known<'a>(value: &'a &'static str) -> Lookup<'a, &'static str> {
        Lookup::Known { value, or_sql: false }
    }

    #[test]
    fn within_a_segment_the_newest_change_counts() {
        let mut names = Namespace::new(4);
        names.change(b"x", 0, Some("a")).unwrap();
        assert_eq!(names.look_up(b"x", 0), known(&"a"));
        names.change(b"x", 0, None).unwrap();
        assert_eq!(names.look_up(b"x", 0), Lookup::Absent);
        names.change(b"x", 0, Some("b")).unwrap();
        assert_eq!(names.look_up(b"x", 0), known(&"b"));
    }

    #[test]
    fn a_change_of_an_earlier_segment_counts_only_once_answered() {
        let mut names = Namespace::new(4);
        let a = names.change(b"x", 0, Some("a")).unwrap();
        assert_eq!(names.look_up(b"x", 1), Lookup::Unsettled);
        names.settle(b"x", a, Some("a"));
        assert_eq!(names.look_up(b"x", 1), known(&"a"));
    }

    #[test]
    fn a_refused_change_leaves_the_old_meaning() {
        let mut names = Namespace::new(4);
        let a = names.change(b"x", 0, Some("a")).unwrap();
        names.settle(b"x", a, Some("a"));
        names.change(b"x", 1, Some("b")).unwrap();
        assert_eq!(names.look_up(b"x", 2), Lookup::Unsettled);
        names.revoke(b"x");
        assert_eq!(names.look_up(b"x", 2), known(&"a"));
    }

    #[test]
    fn names_that_the_server_cannot_tell_apart_are_one_name() {
        let mut names = Namespace::new(4);
        let long = [b'a'; 70];
        let order = names.change(&long, 0, Some("a")).unwrap();
        names.settle(&long, order, Some("a"));
        assert_eq!(names.look_up(&[b'a'; 63], 1), known(&"a"));
        assert_eq!(names.look_up(&[b'a'; 62], 1), Lookup::Absent);
        let gone = names.change(&[b'a'; 64], 1, None).unwrap();
        names.settle(&[b'a'; 64], gone, None);
        assert_eq!(names.look_up(&long, 2), Lookup::Absent);
    }

    #[test]
    fn a_name_that_sql_may_have_reused_since_has_two_candidates() {
        let mut names = Namespace::new(4);
        let a = names.change(b"x", 0, Some("a")).unwrap();
        names.note_sql(Some(b"x"));
        // The confirmation is of the older change: it does not clear the mark.
        names.settle(b"x", a, Some("a"));
        assert_eq!(names.look_up(b"x", 1), Lookup::Known { value: &"a", or_sql: true });
        let b = names.change(b"x", 1, Some("b")).unwrap();
        names.settle(b"x", b, Some("b"));
        assert_eq!(names.look_up(b"x", 2), known(&"b"));
        names.note_sql(None);
        assert_eq!(names.look_up(b"x", 2), Lookup::Known { value: &"b", or_sql: true });
    }

    #[test]
    fn names_that_mean_nothing_take_no_room() {
        let mut names = Namespace::new(1);
        let a = names.change(b"x", 0, Some("a")).unwrap();
        assert_eq!(names.change(b"y", 0, Some("b")), Err(Full));
        names.settle(b"x", a, Some("a"));
        let gone = names.change(b"x", 1, None).unwrap();
        names.settle(b"x", gone, None);
        assert!(names.change(b"y", 2, Some("b")).is_ok());
        names.revoke(b"y");
        assert!(names.has_room(b"z"));
    }

    #[test]
    fn the_unnamed_one_is_never_made_by_sql() {
        let mut names = Namespace::new(1);
        let a = names.change(b"", 0, Some("a")).unwrap();
        names.settle(b"", a, Some("a"));
        names.note_sql(None);
        assert_eq!(names.look_up(b"", 1), known(&"a"));
        names.forget(b"");
        assert_eq!(names.look_up(b"", 1), Lookup::Absent);
    }
}
