//! `COPY … FROM STDIN` and the queue of replies.
//!
//! From CopyInResponse on, it is the COPY that reads the client's messages: it takes CopyData, ends at
//! CopyDone or CopyFail, eats Sync and Flush "for the convenience of client libraries", and treats anything
//! else as a protocol error that ends the session. libpq sends such a Sync every time it runs a COPY by the
//! extended protocol.
//!
//! When a COPY fails, nothing tells how far it had read. A Sync sent before CopyDone is answered if it had
//! not been read, and not answered if it had. Of Syncs alone, only the number of ReadyForQuery messages
//! depends on that: [`UncertainSyncs`] holds the bounds. With a command among them it would be uncertain
//! which commands ran, so then the session ends.

use super::fault::{ClientFault, Violation};
use super::replies::{Copying, Expect, Replies, UncertainSyncs};

impl UncertainSyncs {
    /// A ReadyForQuery came.
    pub(super) fn answered(&mut self) {
        // No Sync was sent after the failure, so the answer is to one sent before it: the skipping is over.
        self.skipping = false;
        if self.certain > 0 {
            self.certain -= 1;
        } else {
            self.eaten_max = self.eaten_max.saturating_sub(1);
        }
    }

    /// Whether the next reply may belong to what comes behind.
    pub(super) fn may_be_over(self) -> bool {
        self.certain == 0 && !self.skipping
    }

    /// Whether no further ReadyForQuery can come.
    pub(super) fn is_over(self) -> bool {
        self.certain == 0 && self.eaten_max == 0
    }
}

impl Replies {
    /// Whether the next thing sent would be read by a COPY.
    pub(super) fn is_reading_copy_in(&self) -> bool {
        self.front.copy == Copying::In && !self.queue.iter().any(|expect| matches!(expect, Expect::CopyEnd))
    }

    /// The COPY ended well: it has read everything up to CopyDone, and eaten the Syncs in between. False if
    /// the client has not ended it.
    pub(super) fn copy_in_complete(&mut self) -> bool {
        let eaten = self.syncs_behind_front();
        if !matches!(self.queue.get(eaten + 1), Some(Expect::CopyEnd)) {
            return false;
        }
        self.queue.drain(1..eaten + 2);
        true
    }

    /// The COPY of a Query failed. ReadyForQuery follows for the Query; commands behind run in any case.
    pub(super) fn copy_in_failed_in_query(&mut self) {
        let eaten_max = self.syncs_behind_front();
        if eaten_max > 0 {
            self.queue.drain(1..=eaten_max);
            self.insert_uncertain(eaten_max, false);
        }
    }

    /// The COPY of an Execute failed. The server skips up to a Sync: true where it is uncertain up to
    /// which.
    pub(super) fn copy_in_failed_in_execute(&mut self) -> Result<bool, Violation> {
        let eaten_max = self.syncs_behind_front();
        if eaten_max == 0 {
            return Ok(false);
        }
        self.queue.drain(1..=eaten_max);
        let certain = self.insert_uncertain(eaten_max, true);
        // A command before a Sync that is certain: skipped if the Syncs were eaten, run if they were not.
        if certain == 0 && self.queue.len() > 2 {
            return Err(ClientFault::BehindFailedCopy.into());
        }
        Ok(true)
    }

    /// Puts an [`UncertainSyncs`] behind the front, together with the Syncs that directly follow, whose
    /// answers could not be told from its own. Returns how many these are.
    fn insert_uncertain(&mut self, eaten_max: usize, skipping: bool) -> u32 {
        let mut certain = 0;
        loop {
            match self.queue.get(1) {
                Some(Expect::CopyEnd) => {}
                Some(Expect::Sync) => certain += 1,
                _ => break,
            }
            self.queue.remove(1);
        }
        let eaten_max = u32::try_from(eaten_max).unwrap_or(u32::MAX);
        let skipping = skipping && certain == 0;
        self.queue.insert(1, Expect::UncertainSyncs(UncertainSyncs { eaten_max, certain, skipping }));
        certain
    }

    /// How many Syncs directly follow the front entry.
    fn syncs_behind_front(&self) -> usize {
        self.queue.iter().skip(1).take_while(|expect| matches!(expect, Expect::Sync)).count()
    }
}
