//! What a name means to the upstream. A session has one namespace for prepared statements and one for
//! portals.
//!
//! The client may send Parse, Bind and Execute in one go, long before any reply tells whether the first of
//! them worked. The decision on an Execute must nevertheless be about what PostgreSQL will run. All
//! attribution of statements rests on this argument:
//!
//! 1. PostgreSQL handles messages in order, and after an error skips everything up to the next Sync. So if it
//!    reaches an Execute, every Parse, Bind and Close before it *in the same segment* (since the last Sync)
//!    has worked, and the newest of them that touches a name says what the name means. That is `tentative`.
//! 2. A change in an *earlier* segment that is not answered yet may have failed or been skipped, and the Sync
//!    in between ended the skipping. Its effect is unknown, and the answer is [`Lookup::Unsettled`]: wait.
//!    The wait ends, because that segment's Sync is on its way, and PostgreSQL answers a Sync without a
//!    Flush.
//! 3. Once every change of a name is answered, the name means what the replies confirmed. That is `settled`.
//! 4. After the protocol gave a name a meaning, tentative or settled, SQL may change the name (`DEALLOCATE`,
//!    `PREPARE`, `CLOSE`, `DECLARE`). A name that SQL removed makes PostgreSQL fail, which is harmless. If
//!    SQL may have given the name another meaning, both meanings are candidates (`or_sql`).
//! 5. PostgreSQL may know a name that is not here, from SQL. [`Lookup::Absent`] is a question for the
//!    executor; it must never be taken for an allowance.
//!
//! PostgreSQL compares names by their first 63 bytes (`NAMEDATALEN - 1`; its hash tables cut longer keys),
//! and so does this file. Otherwise two spellings of one name would be two names here and one there.

use std::collections::HashMap;

/// How many bytes of a name PostgreSQL compares.
const NAME_BYTES: usize = 63;

/// The part of a name that PostgreSQL compares.
pub(super) fn key(name: &[u8]) -> &[u8] {
    name.get(..NAME_BYTES).unwrap_or(name)
}

/// A position in the order in which changes were sent.
pub(super) type Order = u64;

/// What is known of one name.
#[derive(Debug)]
struct Slot<V> {
    /// What the upstream confirmed, and when that change was sent.
    settled: Option<(Order, V)>,
    /// The newest unanswered change: when it was sent, in which segment, and what it makes of the name.
    tentative: Option<(Order, u64, Option<V>)>,
    /// How many changes of this name are unanswered.
    unsettled: u32,
    /// When SQL may last have given the name a meaning.
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
    /// This value, if PostgreSQL gets as far as the message; or, if `or_sql`, something that SQL made since.
    Known { value: &'a V, or_sql: bool },
    /// Nothing that the protocol made; perhaps something that SQL made.
    Absent,
    /// Unknown until an earlier segment is answered.
    Unsettled,
}

/// The namespace is full.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Full;

/// Names and their meanings.
#[derive(Debug)]
pub(super) struct Namespace<V> {
    /// The unnamed statement or portal is in nearly every message, so it is not looked up in a hash table.
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

    /// Notes a change that is about to be sent in `segment`: the name gets `value`, or loses its meaning.
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

    /// The upstream confirmed a change. Answers come in the order of the changes.
    pub(super) fn settle(&mut self, name: &[u8], order: Order, value: Option<V>) {
        self.update(name, |slot| {
            slot.settled = value.map(|value| (order, value));
            slot.answered();
        });
    }

    /// The upstream refused or skipped a change: the name keeps its earlier meaning.
    pub(super) fn revoke(&mut self, name: &[u8]) {
        self.update(name, Slot::answered);
    }

    /// The upstream dropped what it had confirmed under this name.
    pub(super) fn forget(&mut self, name: &[u8]) {
        self.update(name, |slot| slot.settled = None);
    }

    /// The upstream dropped all that it had confirmed.
    pub(super) fn forget_all(&mut self) {
        self.unnamed.settled = None;
        if !self.named.is_empty() {
            self.named.retain(|_, slot| {
                slot.settled = None;
                slot.unsettled > 0
            });
        }
    }

    /// Notes that SQL which is about to be sent may give this name a meaning; for `None`, any name.
    pub(super) fn note_sql(&mut self, name: Option<&[u8]>) {
        self.clock += 1;
        match name {
            None => self.sql_any = self.clock,
            // Absence already says "perhaps SQL made it", so only known names need the mark.
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
    /// One change was answered. `tentative` is the newest change and answers come in order, so it stays until
    /// the last answer.
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
    fn names_that_postgresql_cannot_tell_apart_are_one_name() {
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
    fn a_name_that_sql_may_have_reused_has_two_candidates() {
        let mut names = Namespace::new(4);
        let a = names.change(b"x", 0, Some("a")).unwrap();
        names.note_sql(Some(b"x"));
        // This confirms the older change, so it does not clear the mark.
        names.settle(b"x", a, Some("a"));
        assert_eq!(names.look_up(b"x", 1), Lookup::Known { value: &"a", or_sql: true });
        let b = names.change(b"x", 1, Some("b")).unwrap();
        names.settle(b"x", b, Some("b"));
        assert_eq!(names.look_up(b"x", 2), known(&"b"));
        names.note_sql(None);
        assert_eq!(names.look_up(b"x", 2), Lookup::Known { value: &"b", or_sql: true });
    }

    #[test]
    fn names_without_a_meaning_take_no_room() {
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
    fn sql_never_gives_the_unnamed_one_a_meaning() {
        let mut names = Namespace::new(1);
        let a = names.change(b"", 0, Some("a")).unwrap();
        names.settle(b"", a, Some("a"));
        names.note_sql(None);
        assert_eq!(names.look_up(b"", 1), known(&"a"));
        names.forget(b"");
        assert_eq!(names.look_up(b"", 1), Lookup::Absent);
    }
}
