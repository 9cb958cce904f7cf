//! The steps that a session tells its executor to take: [`ClientStep`] with the client's bytes,
//! [`UpstreamStep`] with the upstream's.
//!
//! A step borrows the bytes to send from the session, so code that still changes the session can't pass one
//! on. The session's halves (`client` and `upstream`) therefore return [`ClientNext`] and [`UpstreamNext`],
//! which say the same without borrowing. [`Session::client`](super::Session::client) and
//! [`Session::upstream`](super::Session::upstream) turn these into steps.

use super::{cancel::CancelKey, meanings::Meanings, question::Question};
use crate::onward::{Forward, Replace};

/// What to do after looking at the client's bytes. "The buffer" is the one that was passed in.
#[derive(Debug)]
pub enum ClientStep<'a> {
    /// The session can go on only when the buffer holds this many bytes.
    NeedMore {
        /// Bytes in all, from the start of the buffer.
        bytes_min: usize,
    },
    /// There is nothing to do until the upstream has sent something, or the executor has given the ruling
    /// that the session asked for. Do not read more from the client meanwhile.
    Wait,
    /// Send the first bytes of the buffer upstream as they are, and remove them.
    Forward(Forward),
    /// Remove bytes from the buffer, and send others upstream in their place.
    Replace(Replace<'a>),
    /// Remove `consumed` bytes, and answer the client with `client`.
    Reply {
        /// How many bytes to remove.
        consumed: usize,
        /// What to send to the client.
        client: &'a [u8],
    },
    /// Remove `consumed` bytes, which are all that the buffer holds. Send the client the byte `S`, and do the
    /// TLS handshake in the server's role. The next call's buffer begins with what the client sends through
    /// TLS (PostgreSQL manual, "SSL Session Encryption").
    Tls {
        /// How many bytes to remove.
        consumed: usize,
    },
    /// Decide and record, then give the ruling: [`super::Session::allow`] or [`super::Session::deny`]; for a
    /// StartupMessage, [`super::Session::admit`] or [`super::Session::admit_logged_in`] in place of `allow`.
    /// Or, if it can't be decided yet, [`super::Session::postpone`]. Nothing is removed from the buffer.
    Judge {
        /// The command's number in this session, from 1.
        command: u64,
        /// What to decide.
        question: Question<'a>,
        /// What names mean to the upstream, for what SQL runs by a name.
        meanings: Meanings<'a>,
        /// How many bytes of the buffer stand in front of the message. They may be sent whatever the ruling.
        ready_bytes: usize,
        /// The command may only be denied: one before it may change how the server reads text, and the server
        /// has not yet reported its settings.
        settings_awaited: bool,
    },
    /// The connection carries a CancelRequest, and nothing else. Pass the request on if the key is one of
    /// this job's. Close the connection in any case, without an answer.
    Cancel {
        /// The key that the client presents.
        key: CancelKey,
    },
    /// Nothing more is taken from the client: it sent Terminate, or its startup was refused.
    End,
}

/// What to do after looking at the upstream's bytes. "The buffer" is the one that was passed in.
#[derive(Debug)]
pub enum UpstreamStep<'a> {
    /// The session can go on only when the buffer holds this many bytes: never more than
    /// [`super::Limits::UPSTREAM_BUFFER_BYTES`].
    NeedMore {
        /// Bytes in all, from the start of the buffer.
        bytes_min: usize,
    },
    /// Send the first `bytes` of the buffer to the client as they are, and remove them.
    Forward {
        /// How many bytes.
        bytes: usize,
    },
    /// Remove `consumed` bytes, and send `client` to the client in their place; `client` may be empty.
    Replace {
        /// How many bytes to remove.
        consumed: usize,
        /// What to send to the client.
        client: &'a [u8],
    },
}

/// A [`ClientStep`] without what the step borrows.
#[derive(Debug)]
pub(super) enum ClientNext {
    NeedMore(usize),
    Wait,
    Forward(usize),
    /// What to send is in the session's `composed`.
    Replace {
        consumed: usize,
    },
    /// What to answer is in the session's `composed`.
    Reply {
        consumed: usize,
    },
    Tls {
        consumed: usize,
    },
    /// The question is about the session's `pending` message.
    Judge,
    Cancel(CancelKey),
    End,
}

/// An [`UpstreamStep`] without what the step borrows.
#[derive(Debug)]
pub(super) enum UpstreamNext {
    NeedMore(usize),
    Forward(usize),
    /// What to send is in the session's `rewritten`.
    Replace {
        consumed: usize,
    },
}
