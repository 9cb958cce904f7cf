//! Which of the server's answers belongs to which request.
//!
//! PostgreSQL answers requests in order, each extended one with exactly one closing message, and after an
//! error in the extended protocol skips everything up to the next Sync (manual, "Pipelining"). So a queue of
//! what was sent explains every answer; one that it can't explain ends the session.

use std::collections::VecDeque;

use super::statements::Seq;

/// A request whose answer is awaited.
#[derive(Debug)]
pub enum Expect {
    /// The startup message, until the first ReadyForQuery.
    Startup,
    /// A simple query, until ReadyForQuery.
    Query(Command),
    /// A FunctionCall, until ReadyForQuery.
    Function(Command),
    /// A Parse, until ParseComplete.
    Parse {
        /// Its place among the messages.
        seq: Seq,
        /// The statement's name.
        name: Box<[u8]>,
        /// Set when it was denied.
        denied: Option<Command>,
    },
    /// A Bind, until BindComplete.
    Bind {
        /// Its place among the messages.
        seq: Seq,
        /// The portal's name.
        portal: Box<[u8]>,
    },
    /// A Describe, until RowDescription or NoData.
    Describe,
    /// A Close, until CloseComplete.
    Close {
        /// Its place among the messages.
        seq: Seq,
        /// Whether it closes a portal.
        portal: bool,
        /// The name.
        name: Box<[u8]>,
    },
    /// An Execute, until CommandComplete, EmptyQueryResponse or PortalSuspended.
    Execute(Command),
    /// A Sync, until ReadyForQuery. A server that was reading COPY data ignored it, and nothing tells: then it
    /// is `doubtful`, and given up when an answer fits what follows it only.
    Sync {
        /// May have been ignored.
        doubtful: bool,
    },
    /// A CopyDone or CopyFail that was sent before the server asked for data: answered by nothing.
    CopyEnd,
}

/// A command that policy was asked about.
#[derive(Debug)]
pub struct Command {
    /// Its number.
    pub number: u64,
    /// What the client is told, if it was denied.
    pub denial: Option<Box<str>>,
}

/// What came of a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// The command's number.
    pub command: u64,
    /// Rows returned or affected.
    pub rows: Option<u64>,
    /// Bytes that the server sent for it.
    pub bytes: u64,
    /// SQLSTATE and message; the SQLSTATE is empty for a command that the server skipped.
    pub error: Option<(Box<str>, Box<str>)>,
}

/// Requests in the order they were sent.
#[derive(Debug, Default)]
pub struct Replies {
    queue: VecDeque<Expect>,
}

impl Replies {
    /// Notes a request.
    pub fn push(&mut self, expect: Expect) {
        self.queue.push_back(expect);
    }

    /// How many answers are awaited.
    pub fn len(&self) -> usize {
        self.queue.len()
    }

    /// Whether nothing is awaited.
    pub fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// The request that is being answered.
    pub fn front(&mut self) -> Option<&mut Expect> {
        self.skip_copy_ends();
        self.queue.front_mut()
    }

    /// The request being answered, if `fits` says that the answer at hand can be its; doubtful Syncs before it
    /// are given up.
    pub fn fit(&mut self, fits: impl Fn(&Expect) -> bool) -> Option<&mut Expect> {
        loop {
            self.skip_copy_ends();
            match self.queue.front() {
                Some(front) if fits(front) => return self.queue.front_mut(),
                Some(Expect::Sync { doubtful: true }) => {
                    self.queue.pop_front();
                }
                _ => return None,
            }
        }
    }

    /// Like [`Self::fit`], and takes it off the queue.
    pub fn take(&mut self, fits: impl Fn(&Expect) -> bool) -> Option<Expect> {
        self.fit(fits)?;
        self.queue.pop_front()
    }

    /// ReadyForQuery: takes what it answers off the queue. If that was a doubtful Sync, the next one becomes
    /// doubtful in its place: one of the two was ignored.
    pub fn take_ready(&mut self) -> Option<Expect> {
        let taken = self.take(|front| {
            matches!(front, Expect::Startup | Expect::Query(_) | Expect::Function(_) | Expect::Sync { .. })
        })?;
        if matches!(taken, Expect::Sync { doubtful: true })
            && let Some(Expect::Sync { doubtful }) = self.queue.front_mut()
        {
            *doubtful = true;
        }
        Some(taken)
    }

    /// After an error in the extended protocol: takes everything before the next Sync. Answers what was taken,
    /// and whether there is such a Sync.
    pub fn skip_to_sync(&mut self) -> (Vec<Expect>, bool) {
        let sync = self.queue.iter().position(|expect| matches!(expect, Expect::Sync { .. }));
        let skipped = self.queue.drain(..sync.unwrap_or(self.queue.len())).collect();
        (skipped, sync.is_some())
    }

    /// The server asks for COPY data. Answers whether the client's end of data was sent already; `Err` if more
    /// was sent behind the COPY than Syncs, which such a server takes for a broken protocol.
    pub fn copy_in(&mut self) -> Result<bool, ()> {
        for expect in self.queue.iter_mut().skip(1) {
            match expect {
                Expect::CopyEnd => return Ok(true),
                Expect::Sync { doubtful } => *doubtful = true,
                _ => return Err(()),
            }
        }
        Ok(false)
    }

    fn skip_copy_ends(&mut self) {
        while matches!(self.queue.front(), Some(Expect::CopyEnd)) {
            self.queue.pop_front();
        }
    }
}
