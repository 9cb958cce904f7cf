//! Which of the upstream's messages answers which of the client's: a queue of what is awaited.
//!
//! Every message sent upstream that will be answered has an entry, in order; a reply belongs to the entry
//! at the front. This is what tells a stand-in's error from a genuine one, and a statement that exists from
//! one that was refused. A reply that fits nothing is an error: guessing on would misplace every later one.
//!
//! The rules are the manual's ("Message Flow") and the server's main loop, `PostgresMain`:
//! - An error in an extended-query message makes the server skip everything up to the next Sync, a Query or
//!   FunctionCall among it. An error in a Query, FunctionCall or Sync does not: ReadyForQuery follows.
//! - Each Sync, Query and FunctionCall that is not skipped gets one ReadyForQuery.
//! - While the server reads `COPY … FROM STDIN`, it eats Sync and Flush; outside, it ignores what belongs
//!   to a COPY. What that does to the queue is in `copy_in.rs`.

use std::collections::VecDeque;

use super::event::{ServerError, Tag};
use super::fault::{ClientFault, UpstreamFault, Violation};
use super::namespace::Order;
use super::poison::Denial;
use super::statements::{Portal, Statement};

/// What a client message, once sent, waits for.
#[derive(Debug)]
pub(super) enum Expect {
    Query {
        command: u64,
        poison: Option<Box<Denial>>,
    },
    FunctionCall {
        command: u64,
        poison: Option<Box<Denial>>,
    },
    Parse {
        command: u64,
        name: Box<[u8]>,
        made: ParseMade,
    },
    Bind {
        /// Of one that was asked about.
        command: Option<u64>,
        portal: Box<[u8]>,
        made: BindMade,
    },
    DescribeStatement,
    DescribePortal,
    Execute {
        command: u64,
        poison: Option<Box<Denial>>,
    },
    CloseStatement {
        name: Box<[u8]>,
        order: Order,
    },
    ClosePortal {
        name: Box<[u8]>,
        order: Order,
    },
    Sync,
    /// CopyDone or CopyFail: never answered itself, but it bounds what a COPY can have read.
    CopyEnd,
    /// Syncs of which some may have been eaten by a COPY that failed.
    UncertainSyncs(UncertainSyncs),
}

/// What a Parse will have done.
#[derive(Debug)]
pub(super) enum ParseMade {
    Statement(Order, Statement),
    Poison(Box<Denial>),
}

/// What a Bind will have done.
#[derive(Debug)]
pub(super) enum BindMade {
    Portal(Order, Portal),
    Poison(Box<Denial>),
}

/// Syncs whose number of answers is known only within bounds; see `copy_in.rs`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct UncertainSyncs {
    /// Syncs that may have been eaten.
    pub(super) eaten_max: u32,
    /// Syncs that will be answered.
    pub(super) certain: u32,
    /// Whether the server may be skipping until a Sync that has not been sent yet.
    pub(super) skipping: bool,
}

/// A message of the upstream that answers something.
#[derive(Debug)]
pub(super) enum Reply {
    ParseComplete,
    BindComplete,
    CloseComplete,
    ParameterDescription,
    RowDescription,
    NoData,
    DataRow,
    CommandComplete(Tag),
    Empty,
    Suspended,
    CopyIn,
    CopyOut,
    CopyData,
    CopyDone,
    FunctionResult,
    /// Severity ERROR: after FATAL there is nothing left to await.
    Error(ServerError),
    Ready,
}

/// What the front entry has been answered so far.
#[derive(Debug)]
pub(super) struct Answered {
    /// Rows that tags reported.
    rows_tagged: u64,
    /// Rows seen since the last tag.
    rows_seen: u64,
    /// Bytes of the answer.
    pub(super) bytes: u64,
    pub(super) tag: Tag,
    pub(super) error: Option<ServerError>,
    pub(super) copy: Copying,
    /// A FunctionCall's result or a Describe's ParameterDescription has been seen.
    half: bool,
}

impl Answered {
    /// Rows by tag, or as seen where a result has no tag.
    pub(super) fn rows(&self) -> u64 {
        self.rows_tagged.saturating_add(self.rows_seen)
    }

    fn tagged(&mut self, tag: Tag) {
        self.rows_tagged = self.rows_tagged.saturating_add(tag.rows().unwrap_or(self.rows_seen));
        self.rows_seen = 0;
        self.tag = tag;
        self.copy = Copying::No;
    }
}

impl Default for Answered {
    fn default() -> Self {
        Self {
            rows_tagged: 0,
            rows_seen: 0,
            bytes: 0,
            tag: Tag::EMPTY,
            error: None,
            copy: Copying::No,
            half: false,
        }
    }
}

/// Which COPY the front entry is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Copying {
    No,
    /// From the client.
    In,
    /// To the client.
    Out,
    /// To the client, who has been told that it is over.
    OutDone,
}

/// How an entry left the queue. Whether it failed is in [`Answered::error`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    Answered,
    Suspended,
    /// The server skipped it.
    Skipped,
}

/// The queue.
#[derive(Debug, Default)]
pub(super) struct Replies {
    pub(super) queue: VecDeque<Expect>,
    pub(super) front: Answered,
    /// The server is known to skip everything up to a Sync that has not been sent yet.
    skipping: bool,
}

impl Replies {
    /// How many entries wait.
    pub(super) fn len(&self) -> usize {
        self.queue.len()
    }

    /// Whether the server is known to ignore whatever is sent before the next Sync.
    pub(super) fn is_skipping(&self) -> bool {
        self.skipping
    }

    /// What the client is to be told instead, should the upstream's next word be an error.
    pub(super) fn poison(&self) -> Option<&Denial> {
        let next = match self.queue.front()? {
            // An error cannot answer these Syncs: it would answer what comes behind.
            Expect::UncertainSyncs(syncs) if syncs.may_be_over() => self.queue.get(1)?,
            front => front,
        };
        match next {
            Expect::Query { poison, .. }
            | Expect::FunctionCall { poison, .. }
            | Expect::Execute { poison, .. } => poison.as_deref(),
            Expect::Parse { made: ParseMade::Poison(denial), .. }
            | Expect::Bind { made: BindMade::Poison(denial), .. } => Some(denial),
            _ => None,
        }
    }

    /// Whether a message that asks for an answer may be sent now. To be asked before it is judged.
    pub(super) fn accepts(&self, tag: u8) -> Result<(), ClientFault> {
        if self.is_reading_copy_in() {
            return Err(ClientFault::DuringCopy { tag });
        }
        match self.queue.back() {
            Some(Expect::UncertainSyncs(syncs)) if syncs.skipping => Err(ClientFault::BehindFailedCopy),
            _ => Ok(()),
        }
    }

    /// Awaits the answer to a message that is being sent.
    pub(super) fn push(&mut self, expect: Expect) {
        match (&expect, self.queue.back_mut()) {
            (Expect::Sync, Some(Expect::UncertainSyncs(syncs))) => {
                syncs.certain += 1;
                syncs.skipping = false;
                return;
            }
            (Expect::Sync, _) => self.skipping = false,
            // The server's main loop ignores it.
            (Expect::CopyEnd, None | Some(Expect::UncertainSyncs(_))) => return,
            _ => {}
        }
        self.queue.push_back(expect);
    }

    /// Takes a DataRow, where one is plainly due: large results consist of nothing else. False leaves it to
    /// [`Self::receive`].
    pub(super) fn receive_row(&mut self, bytes: u64) -> bool {
        let due = match self.queue.front() {
            Some(Expect::Query { poison: None, .. }) => self.front.error.is_none(),
            Some(Expect::Execute { poison: None, .. }) => true,
            _ => false,
        };
        if due && self.front.copy == Copying::No {
            self.front.rows_seen += 1;
            self.front.bytes = self.front.bytes.saturating_add(bytes);
            return true;
        }
        false
    }

    /// Takes one message of the upstream's, of `bytes` bytes. Entries it finishes, or shows to have been
    /// skipped, are handed to `gone`.
    pub(super) fn receive(
        &mut self,
        reply: Reply,
        tag: u8,
        bytes: u64,
        gone: &mut impl FnMut(Expect, Answered, Fate),
    ) -> Result<(), Violation> {
        if let Some(Expect::UncertainSyncs(syncs)) = self.queue.front_mut() {
            if matches!(reply, Reply::Ready) {
                syncs.answered();
                if syncs.is_over() {
                    self.next();
                }
                return Ok(());
            }
            // Anything else answers what comes behind: the Syncs left over were eaten.
            if !syncs.may_be_over() {
                return Err(unexpected(tag, "awaiting ReadyForQuery"));
            }
            self.next();
        }
        let Some(expect) = self.queue.front() else {
            return Err(unexpected(tag, "no command was under way"));
        };
        self.front.bytes = self.front.bytes.saturating_add(bytes);
        match expect {
            Expect::Query { poison, .. } => {
                let poisoned = poison.is_some();
                self.simple(reply, tag, poisoned, gone)
            }
            Expect::FunctionCall { poison, .. } => {
                let poisoned = poison.is_some();
                self.function_call(reply, tag, poisoned, gone)
            }
            Expect::Execute { poison, .. } => {
                let poisoned = poison.is_some();
                self.execute(reply, tag, poisoned, gone)
            }
            Expect::Parse { made, .. } => match (reply, made) {
                (Reply::ParseComplete, ParseMade::Statement(..)) => self.finish(Fate::Answered, gone),
                (Reply::ParseComplete, ParseMade::Poison(_)) => Err(UpstreamFault::PoisonAccepted.into()),
                (Reply::Error(error), _) => self.fail(error, gone),
                _ => Err(unexpected(tag, "awaiting ParseComplete")),
            },
            Expect::Bind { made, .. } => match (reply, made) {
                (Reply::BindComplete, BindMade::Portal(..)) => self.finish(Fate::Answered, gone),
                (Reply::BindComplete, BindMade::Poison(_)) => Err(UpstreamFault::PoisonAccepted.into()),
                (Reply::Error(error), _) => self.fail(error, gone),
                _ => Err(unexpected(tag, "awaiting BindComplete")),
            },
            Expect::DescribeStatement => match reply {
                Reply::ParameterDescription if !self.front.half => {
                    self.front.half = true;
                    Ok(())
                }
                Reply::RowDescription | Reply::NoData if self.front.half => self.finish(Fate::Answered, gone),
                Reply::Error(error) => self.fail(error, gone),
                _ => Err(unexpected(tag, "awaiting a statement's description")),
            },
            Expect::DescribePortal => match reply {
                Reply::RowDescription | Reply::NoData => self.finish(Fate::Answered, gone),
                Reply::Error(error) => self.fail(error, gone),
                _ => Err(unexpected(tag, "awaiting a portal's description")),
            },
            Expect::CloseStatement { .. } | Expect::ClosePortal { .. } => match reply {
                Reply::CloseComplete => self.finish(Fate::Answered, gone),
                Reply::Error(error) => self.fail(error, gone),
                _ => Err(unexpected(tag, "awaiting CloseComplete")),
            },
            Expect::Sync => match reply {
                // The implicit transaction ends here, and its deferred constraints may fail.
                Reply::Error(error) if self.front.error.is_none() => {
                    self.front.error = Some(error);
                    Ok(())
                }
                Reply::Ready => self.finish(Fate::Answered, gone),
                _ => Err(unexpected(tag, "awaiting ReadyForQuery")),
            },
            // `next` never leaves the first at the front, and the second was dealt with above.
            Expect::CopyEnd | Expect::UncertainSyncs(_) => Err(unexpected(tag, "no command was under way")),
        }
    }

    /// A Query: any number of results, perhaps an error, then ReadyForQuery.
    fn simple(
        &mut self,
        reply: Reply,
        tag: u8,
        poisoned: bool,
        gone: &mut impl FnMut(Expect, Answered, Fate),
    ) -> Result<(), Violation> {
        if self.front.error.is_some() {
            return match reply {
                Reply::Ready => self.finish(Fate::Answered, gone),
                _ => Err(unexpected(tag, "awaiting ReadyForQuery after an error")),
            };
        }
        match reply {
            Reply::Error(error) => {
                if self.front.copy == Copying::In {
                    self.copy_in_failed_in_query();
                }
                self.front.error = Some(error);
                Ok(())
            }
            _ if poisoned => Err(UpstreamFault::PoisonAccepted.into()),
            Reply::RowDescription | Reply::Empty if self.front.copy == Copying::No => Ok(()),
            Reply::Ready if self.front.copy == Copying::No => self.finish(Fate::Answered, gone),
            reply => self.result(reply, tag).map(|_| ()),
        }
    }

    /// An Execute: one result, without RowDescription, and no ReadyForQuery.
    fn execute(
        &mut self,
        reply: Reply,
        tag: u8,
        poisoned: bool,
        gone: &mut impl FnMut(Expect, Answered, Fate),
    ) -> Result<(), Violation> {
        match reply {
            Reply::Error(error) if self.front.copy == Copying::In => {
                let uncertain = self.copy_in_failed_in_execute()?;
                self.front.error = Some(error);
                if uncertain { self.finish(Fate::Answered, gone) } else { self.skip_to_sync(gone) }
            }
            Reply::Error(error) => self.fail(error, gone),
            _ if poisoned => Err(UpstreamFault::PoisonAccepted.into()),
            Reply::Empty if self.front.copy == Copying::No => self.finish(Fate::Answered, gone),
            Reply::Suspended if self.front.copy == Copying::No => self.finish(Fate::Suspended, gone),
            reply => {
                if self.result(reply, tag)? {
                    self.finish(Fate::Answered, gone)?;
                }
                Ok(())
            }
        }
    }

    /// What a Query and an Execute have in common: rows, COPY, and the tag. True for the tag.
    fn result(&mut self, reply: Reply, tag: u8) -> Result<bool, Violation> {
        let front = &mut self.front;
        match (reply, front.copy) {
            (Reply::DataRow, Copying::No) => front.rows_seen += 1,
            (Reply::CommandComplete(tag), Copying::No | Copying::OutDone) => {
                front.tagged(tag);
                return Ok(true);
            }
            (Reply::CommandComplete(complete), Copying::In) => {
                if !self.copy_in_complete() {
                    return Err(unexpected(tag, "awaiting the end of a COPY from stdin"));
                }
                self.front.tagged(complete);
                return Ok(true);
            }
            (Reply::CopyIn, Copying::No) => front.copy = Copying::In,
            (Reply::CopyOut, Copying::No) => front.copy = Copying::Out,
            (Reply::CopyData, Copying::Out) => front.rows_seen += 1,
            (Reply::CopyDone, Copying::Out) => front.copy = Copying::OutDone,
            _ => return Err(unexpected(tag, "awaiting a command's result")),
        }
        Ok(false)
    }

    fn function_call(
        &mut self,
        reply: Reply,
        tag: u8,
        poisoned: bool,
        gone: &mut impl FnMut(Expect, Answered, Fate),
    ) -> Result<(), Violation> {
        let over = self.front.half || self.front.error.is_some();
        match reply {
            Reply::Ready if over => self.finish(Fate::Answered, gone),
            // Ending the command's own transaction may still fail after its result was sent.
            Reply::Error(error) if self.front.error.is_none() => {
                self.front.error = Some(error);
                Ok(())
            }
            _ if poisoned => Err(UpstreamFault::PoisonAccepted.into()),
            Reply::FunctionResult if !over => {
                self.front.half = true;
                Ok(())
            }
            _ => Err(unexpected(tag, "awaiting a function call's result")),
        }
    }

    /// An extended-query message failed: it is over, and the server skips up to the next Sync.
    fn fail(
        &mut self,
        error: ServerError,
        gone: &mut impl FnMut(Expect, Answered, Fate),
    ) -> Result<(), Violation> {
        self.front.error = Some(error);
        self.skip_to_sync(gone)
    }

    fn skip_to_sync(&mut self, gone: &mut impl FnMut(Expect, Answered, Fate)) -> Result<(), Violation> {
        self.finish(Fate::Answered, gone)?;
        loop {
            match self.queue.front() {
                Some(Expect::Sync | Expect::UncertainSyncs(_)) => return Ok(()),
                None => {
                    self.skipping = true;
                    return Ok(());
                }
                Some(_) => {
                    if let Some(expect) = self.queue.pop_front() {
                        gone(expect, Answered::default(), Fate::Skipped);
                    }
                }
            }
        }
    }

    fn finish(&mut self, fate: Fate, gone: &mut impl FnMut(Expect, Answered, Fate)) -> Result<(), Violation> {
        if let (Some(expect), answered) = self.next() {
            gone(expect, answered, fate);
        }
        Ok(())
    }

    /// Moves on to the next entry.
    fn next(&mut self) -> (Option<Expect>, Answered) {
        let expect = self.queue.pop_front();
        // With no COPY under way, the server's main loop ignores CopyDone and CopyFail.
        while matches!(self.queue.front(), Some(Expect::CopyEnd)) {
            self.queue.pop_front();
        }
        (expect, std::mem::take(&mut self.front))
    }
}

pub(super) fn unexpected(tag: u8, awaiting: &'static str) -> Violation {
    UpstreamFault::Unexpected { tag, awaiting }.into()
}
