//! Questions that can't be answered at once, and what they wait for.

use agent_core::postgres::Unsettled;

use super::reading::{Read, Unread};
use crate::proxy::{
    aside::AsideError,
    session::judge::{Decided, Undecided},
};

/// Why a question has no answer yet.
pub enum NotYet {
    /// What would run can't be told before the upstream has sent something.
    Unsettled,
    /// Something must be done first that would hold up the session's thread.
    Work(Box<Work>),
}

/// Work that would hold up the session's thread.
pub enum Work {
    /// A long text is to be read.
    Read(Unread),
    /// A decision is to be made on many accesses.
    Decide(Undecided),
}

/// What came of [`Work`].
pub enum Done {
    Read(Read),
    Decided(Decided),
    /// It could not be done: why.
    Failed(AsideError),
}

/// What has been done so far for the question at hand.
#[derive(Default)]
pub struct Progress {
    pub read: Vec<Read>,
    pub decided: Option<Decided>,
    pub failed: Option<AsideError>,
}

impl Work {
    /// Does it. Needs the stack that the SQL grammar does.
    pub fn run(self) -> Done {
        match self {
            Self::Read(unread) => Done::Read(unread.read()),
            Self::Decide(undecided) => Done::Decided(undecided.decide()),
        }
    }
}

impl Progress {
    /// Adds what came of a piece of work.
    pub fn add(&mut self, done: Done) {
        match done {
            Done::Read(read) => self.read.push(read),
            Done::Decided(decided) => self.decided = Some(decided),
            Done::Failed(error) => self.failed = Some(error),
        }
    }
}

impl From<Unsettled> for NotYet {
    fn from(Unsettled: Unsettled) -> Self {
        Self::Unsettled
    }
}

impl From<Unread> for NotYet {
    fn from(unread: Unread) -> Self {
        Self::Work(Box::new(Work::Read(unread)))
    }
}

impl From<Box<Undecided>> for NotYet {
    fn from(undecided: Box<Undecided>) -> Self {
        Self::Work(Box::new(Work::Decide(*undecided)))
    }
}
