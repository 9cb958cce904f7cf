//! Which text a statement name or portal stands for, at every moment between request and reply.
//!
//! A client may send Parse, Bind and Execute before any reply. The server runs them in order and, after an
//! error, skips everything up to the next Sync. So while a Parse is unanswered, the name stands for its text
//! if nothing has been sent since that would run after its failure, that is, if no Sync has followed it;
//! otherwise for its text *or* what the name stood for before. [`Names::candidates`] answers all that are
//! possible, newest first, and an Execute is forwarded only if each of them is allowed.

use std::{collections::HashMap, sync::Arc};

/// PostgreSQL keeps this many bytes of a statement's or portal's name (`NAMEDATALEN` - 1): longer names that
/// begin alike are one name.
pub const NAME_BYTES_MAX: usize = 63;
/// Unanswered meanings that one name may have: as many as requests may be unanswered, for a client that
/// pipelines gives the unnamed portal a new meaning with each of them.
pub const CANDIDATES_MAX: usize = 4_096;

/// What the server keeps of a name.
pub fn kept(name: &[u8]) -> &[u8] {
    name.get(..NAME_BYTES_MAX).unwrap_or(name)
}

/// A number that grows with every message sent to the server.
pub type Seq = u64;

struct Meaning<M> {
    seq: Seq,
    confirmed: bool,
    means: Arc<M>,
}

/// The meanings of names of one kind: statements, or portals.
pub struct Names<M> {
    names: HashMap<Box<[u8]>, Vec<Meaning<M>>>,
    max: usize,
}

/// There are too many names, or too many unanswered meanings of one.
#[derive(Debug, PartialEq, Eq)]
pub struct Full;

impl<M> Names<M> {
    /// No names yet, and at most `max`.
    pub fn new(max: usize) -> Self {
        Self { names: HashMap::new(), max }
    }

    /// Notes a request that gives `name` a meaning.
    pub fn sent(&mut self, name: &[u8], seq: Seq, means: Arc<M>) -> Result<(), Full> {
        let name = kept(name);
        let full = self.names.len() >= self.max;
        match self.names.get_mut(name) {
            Some(meanings) if meanings.len() >= CANDIDATES_MAX => return Err(Full),
            Some(meanings) => meanings.push(Meaning { seq, confirmed: false, means }),
            None if full => return Err(Full),
            None => {
                self.names.insert(name.into(), vec![Meaning { seq, confirmed: false, means }]);
            }
        }
        Ok(())
    }

    /// The request succeeded: whatever the name meant before is gone.
    pub fn confirm(&mut self, name: &[u8], seq: Seq) {
        if let Some(meanings) = self.names.get_mut(kept(name)) {
            meanings.retain(|meaning| meaning.seq >= seq);
            if let Some(meaning) = meanings.iter_mut().find(|meaning| meaning.seq == seq) {
                meaning.confirmed = true;
            }
        }
    }

    /// The request failed or was skipped.
    pub fn failed(&mut self, name: &[u8], seq: Seq) {
        self.retain(name, |meaning| meaning.seq != seq);
    }

    /// A Close, the `seq`th message, succeeded: only what was given later remains.
    pub fn closed(&mut self, name: &[u8], seq: Seq) {
        self.retain(name, |meaning| meaning.seq > seq);
    }

    /// Everything confirmed is gone: portals at the end of a transaction.
    pub fn forget_confirmed(&mut self) {
        self.names.retain(|_, meanings| {
            meanings.retain(|meaning| !meaning.confirmed);
            !meanings.is_empty()
        });
    }

    /// What the name can mean to a request sent now, newest first. `last_sync` is the last Sync sent.
    pub fn candidates(&self, name: &[u8], last_sync: Seq) -> impl Iterator<Item = &Arc<M>> {
        let mut decided = false;
        self.names
            .get(kept(name))
            .into_iter()
            .flat_map(|meanings| meanings.iter().rev())
            .take_while(move |meaning| {
                let possible = !decided;
                decided |= meaning.confirmed || meaning.seq > last_sync;
                possible
            })
            .map(|meaning| &meaning.means)
    }

    fn retain(&mut self, name: &[u8], keep: impl Fn(&Meaning<M>) -> bool) {
        let name = kept(name);
        if let Some(meanings) = self.names.get_mut(name) {
            meanings.retain(keep);
            if meanings.is_empty() {
                self.names.remove(name);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(names: &Names<&'static str>, last_sync: Seq, expect: &[&str]) {
        let found: Vec<&str> = names.candidates(b"s", last_sync).map(|means| **means).collect();
        assert_eq!(found, expect);
    }

    #[test]
    fn an_unanswered_parse_is_the_only_meaning_until_a_sync_follows() {
        let mut names = Names::new(8);
        names.sent(b"s", 1, Arc::new("old")).unwrap();
        names.confirm(b"s", 1);
        names.sent(b"s", 5, Arc::new("new")).unwrap();
        check(&names, 2, &["new"]);
        check(&names, 6, &["new", "old"]);
    }

    #[test]
    fn a_failed_parse_leaves_the_old_meaning() {
        let mut names = Names::new(8);
        names.sent(b"s", 1, Arc::new("old")).unwrap();
        names.confirm(b"s", 1);
        names.sent(b"s", 5, Arc::new("new")).unwrap();
        names.failed(b"s", 5);
        check(&names, 6, &["old"]);
    }

    #[test]
    fn a_close_between_two_parses_removes_the_first_only() {
        let mut names = Names::new(8);
        names.sent(b"s", 1, Arc::new("old")).unwrap();
        names.sent(b"s", 3, Arc::new("new")).unwrap();
        names.closed(b"s", 2);
        check(&names, 0, &["new"]);
    }

    #[test]
    fn names_that_the_server_cannot_tell_apart_are_one() {
        let mut names = Names::new(8);
        let long = [b"x".repeat(63), b"one".to_vec()].concat();
        let other = [b"x".repeat(63), b"two".to_vec()].concat();
        names.sent(&long, 1, Arc::new("text")).unwrap();
        assert_eq!(names.candidates(&other, 0).count(), 1);
    }

    #[test]
    fn names_and_meanings_are_bounded() {
        let mut names = Names::new(2);
        assert_eq!(names.sent(b"a", 1, Arc::new("")), Ok(()));
        assert_eq!(names.sent(b"b", 2, Arc::new("")), Ok(()));
        assert_eq!(names.sent(b"c", 3, Arc::new("")), Err(Full));
        for seq in 0..CANDIDATES_MAX as u64 - 1 {
            names.sent(b"a", 10 + seq, Arc::new("")).unwrap();
        }
        assert_eq!(names.sent(b"a", 99, Arc::new("")), Err(Full));
    }
}
