//! The queue of awaited replies: how an entry joins it and leaves it.

use std::collections::VecDeque;

use super::{
    expect::Expect,
    reply::{Answered, Fate},
};
use crate::postgres::{event::UpstreamError, poison::Denial};

/// The queue of awaited replies.
#[derive(Debug, Default)]
pub(in crate::postgres) struct Replies {
    pub(super) queue: VecDeque<Expect>,
    /// What the entry at the front has been answered so far.
    pub(super) front: Answered,
    /// The upstream is known to skip everything up to a Sync that has not been sent yet.
    skipping: bool,
}

impl Replies {
    /// How many entries wait.
    pub(in crate::postgres) fn len(&self) -> usize {
        self.queue.len()
    }

    /// Whether the upstream is known to ignore whatever is sent before the next Sync.
    pub(in crate::postgres) fn is_skipping(&self) -> bool {
        self.skipping
    }

    /// The command that the upstream's next reply answers; `None` if it answers none.
    pub(in crate::postgres) fn command(&self) -> Option<u64> {
        self.queue.front()?.command()
    }

    /// Whether the answer to this command has not ended yet.
    pub(in crate::postgres) fn awaits(&self, command: u64) -> bool {
        self.queue.iter().any(|expect| expect.command() == Some(command))
    }

    /// The denial that the client is to be told instead, if the upstream's next message is an error.
    pub(in crate::postgres) fn poison(&self) -> Option<&Denial> {
        match self.queue.front()? {
            // An error cannot answer these Syncs: it would answer the entry behind.
            Expect::UncertainSyncs(syncs) if syncs.may_be_over() => self.queue.get(1)?.poison(),
            front => front.poison(),
        }
    }

    /// Awaits the answer to a message that is being sent.
    pub(in crate::postgres) fn push(&mut self, expect: Expect) {
        match (&expect, self.queue.back_mut()) {
            (Expect::Sync, Some(Expect::UncertainSyncs(syncs))) => {
                syncs.certain += 1;
                syncs.skipping = false;
                return;
            }
            (Expect::Sync, _) => self.skipping = false,
            // With no COPY under way, PostgreSQL's main loop ignores it.
            (Expect::CopyEnd, None | Some(Expect::UncertainSyncs(_))) => return,
            _ => {}
        }
        self.queue.push_back(expect);
    }

    /// Moves on to the next entry. Returns the one that was at the front, and its answer.
    pub(super) fn next(&mut self) -> (Option<Expect>, Answered) {
        let expect = self.queue.pop_front();
        // With no COPY under way, PostgreSQL's main loop ignores CopyDone and CopyFail.
        while matches!(self.queue.front(), Some(Expect::CopyEnd)) {
            self.queue.pop_front();
        }
        (expect, std::mem::take(&mut self.front))
    }

    /// The front entry is over.
    pub(super) fn finish(&mut self, fate: Fate, gone: &mut impl FnMut(Expect, Answered, Fate)) {
        if let (Some(expect), answered) = self.next() {
            gone(expect, answered, fate);
        }
    }

    /// The front entry, an extended-query message, failed. It is over, and PostgreSQL skips up to the next
    /// Sync.
    pub(super) fn fail(&mut self, error: UpstreamError, gone: &mut impl FnMut(Expect, Answered, Fate)) {
        self.front.error = Some(error);
        self.skip_to_sync(gone);
    }

    /// The front entry is over, and the entries behind it are skipped, up to the next Sync.
    pub(super) fn skip_to_sync(&mut self, gone: &mut impl FnMut(Expect, Answered, Fate)) {
        self.finish(Fate::Answered, gone);
        while !matches!(self.queue.front(), Some(Expect::Sync | Expect::UncertainSyncs(_))) {
            match self.queue.pop_front() {
                Some(expect) => gone(expect, Answered::default(), Fate::Skipped),
                None => {
                    self.skipping = true;
                    return;
                }
            }
        }
    }
}
