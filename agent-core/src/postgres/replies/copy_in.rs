//! What `COPY … FROM STDIN` does to the queue of awaited replies.
//!
//! From CopyInResponse on, the COPY reads the client's messages. It takes CopyData, ends at CopyDone or
//! CopyFail, drops Sync and Flush "for the convenience of client libraries", and treats any other message as
//! a protocol error that ends the session. libpq sends such a Sync whenever it runs a COPY by the extended
//! protocol.
//!
//! When a COPY fails, nothing tells how far it had read: see `uncertain_syncs.rs`. If a command stood among
//! the Syncs, it would be uncertain which commands ran, so the session must end then.

use super::{expect::Expect, queue::Replies, reply::Copying, uncertain_syncs::UncertainSyncs};
use crate::postgres::fault::{ClientFault, Violation};

impl Replies {
    /// Whether a message of type `tag` that asks for an answer may be sent now. To be asked before the
    /// executor is asked about the message.
    pub(in crate::postgres) fn accepts(&self, tag: u8) -> Result<(), ClientFault> {
        if self.is_reading_copy_in() {
            return Err(ClientFault::DuringCopy { tag });
        }
        match self.queue.back() {
            Some(Expect::UncertainSyncs(syncs)) if syncs.skipping => Err(ClientFault::BehindFailedCopy),
            _ => Ok(()),
        }
    }

    /// Whether the next message sent would be read by a COPY.
    fn is_reading_copy_in(&self) -> bool {
        self.front.copy == Copying::In && !self.queue.iter().any(|expect| matches!(expect, Expect::CopyEnd))
    }

    /// The COPY succeeded: it has read everything up to CopyDone, and dropped the Syncs in between. Returns
    /// false if the client has not ended it.
    pub(super) fn copy_in_complete(&mut self) -> bool {
        let dropped = self.syncs_behind_front();
        if !matches!(self.queue.get(dropped + 1), Some(Expect::CopyEnd)) {
            return false;
        }
        self.queue.drain(1..dropped + 2);
        true
    }

    /// The COPY of a Query failed. ReadyForQuery follows for the Query, and the commands behind it run in any
    /// case.
    pub(super) fn copy_in_failed_in_query(&mut self) {
        let dropped_max = self.syncs_behind_front();
        if dropped_max > 0 {
            self.queue.drain(1..=dropped_max);
            self.insert_uncertain(dropped_max, false);
        }
    }

    /// The COPY of an Execute failed, and PostgreSQL skips up to a Sync. Returns whether it is uncertain up
    /// to which.
    pub(super) fn copy_in_failed_in_execute(&mut self) -> Result<bool, Violation> {
        let dropped_max = self.syncs_behind_front();
        if dropped_max == 0 {
            return Ok(false);
        }
        self.queue.drain(1..=dropped_max);
        let certain = self.insert_uncertain(dropped_max, true);
        // A command stands before the first Sync that is certain to be answered. It is skipped if the COPY
        // dropped the Syncs before it, and runs if not.
        if certain == 0 && self.queue.len() > 2 {
            return Err(ClientFault::BehindFailedCopy.into());
        }
        Ok(true)
    }

    /// Puts an [`UncertainSyncs`] behind the front entry. It takes in the Syncs that directly follow, because
    /// their answers could not be told from its own. Returns how many these are.
    fn insert_uncertain(&mut self, dropped_max: usize, skipping: bool) -> u32 {
        let mut certain = 0;
        loop {
            match self.queue.get(1) {
                Some(Expect::CopyEnd) => {}
                Some(Expect::Sync) => certain += 1,
                _ => break,
            }
            self.queue.remove(1);
        }
        let dropped_max = u32::try_from(dropped_max).unwrap_or(u32::MAX);
        let skipping = skipping && certain == 0;
        self.queue.insert(1, Expect::UncertainSyncs(UncertainSyncs { dropped_max, certain, skipping }));
        certain
    }

    /// How many Syncs directly follow the front entry.
    fn syncs_behind_front(&self) -> usize {
        self.queue.iter().skip(1).take_while(|expect| matches!(expect, Expect::Sync)).count()
    }
}
