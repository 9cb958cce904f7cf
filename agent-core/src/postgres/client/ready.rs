//! The ready bytes: a run at the start of the client's buffer that may be sent. A message joins it, or waits
//! behind it for its ruling.
//!
//! Query, Parse, Execute, FunctionCall and a Bind that names its portal must never join it except through
//! `ruling.rs`, with an Allow in hand.

use crate::postgres::{
    state::{Asked, Pending, Remainder, Session, Subject},
    step::ClientNext,
};

impl Session {
    /// Takes the ready bytes: so many are to be sent from the start of the buffer, and removed from it.
    pub(in crate::postgres) fn take_ready(&mut self) -> usize {
        std::mem::take(&mut self.ready_bytes)
    }

    /// Sends the ready bytes if there are any; otherwise does `next`.
    pub(super) fn flush_or(&mut self, next: ClientNext) -> ClientNext {
        match self.take_ready() {
            0 => next,
            bytes => ClientNext::Forward(bytes),
        }
    }

    /// Lets a message of `bytes` bytes join the ready bytes, as they arrive.
    pub(super) fn forward(&mut self, bytes: usize) {
        self.client_rest = Remainder { bytes, dropped: false };
    }

    /// Holds a message of `bytes` bytes back, and asks for a ruling on it.
    pub(super) fn ask(&mut self, subject: Subject, bytes: usize) -> ClientNext {
        self.commands += 1;
        self.pending =
            Some(Pending { command: self.commands, subject, bytes, asked: Asked::Yes, ruling: None });
        ClientNext::Judge
    }
}
