//! The steps that a session tells its executor to take: [`ClientStep`] with the client's bytes,
//! [`UpstreamStep`] with the upstream's.
//!
//! Both borrow from the session. The two halves therefore return [`ClientNext`] and [`UpstreamNext`], which
//! say the same without borrowing, and the session's public methods turn these into steps.

use super::{cancel::CancelKey, question::Question};

/// What to do after looking at the client's bytes. "The buffer" is the one that was passed in.
#[derive(Debug)]
pub enum ClientStep<'a> {
    /// The session can go on only when the buffer holds this many bytes.
    NeedMore {
        /// Bytes in all, from the start of the buffer.
        bytes_min: usize,
    },
    /// Nothing to do until the upstream has sent something, or the ruling asked for has come. Do not read
    /// more from the client meanwhile.
    Wait,
    /// Send the first `bytes` of the buffer upstream as they are, and remove them.
    Forward {
        /// How many bytes.
        bytes: usize,
    },
    /// Remove `consumed` bytes, and send `upstream` in their place. Either may be empty.
    Replace {
        /// How many bytes to remove.
        consumed: usize,
        /// What to send upstream.
        upstream: &'a [u8],
    },
    /// Remove `consumed` bytes, and answer the client with `client`.
    Reply {
        /// How many bytes to remove.
        consumed: usize,
        /// What to send to the client.
        client: &'a [u8],
    },
    /// Remove `consumed` bytes, answer `S` and negotiate TLS as its server. The next call's buffer begins
    /// with what the client sends through TLS. This one holds nothing else.
    Tls {
        /// How many bytes to remove.
        consumed: usize,
    },
    /// Decide, record, and rule: [`super::Session::allow`], [`super::Session::deny`], or for a StartupMessage
    /// [`super::Session::admit`]. Nothing is consumed.
    Judge {
        /// The command's number in this session.
        command: u64,
        /// What to decide.
        question: Question<'a>,
        /// How many bytes in front of the message may be sent already; see [`super::Session::take_ready`].
        ready_bytes: usize,
    },
    /// The connection is a CancelRequest, and nothing else. Pass it on if the key is one of this job's; close
    /// in any case, without an answer.
    Cancel {
        /// The key presented.
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
    /// Remove `consumed` bytes, and send `client` to the client in their place; it may be empty.
    Replace {
        /// How many bytes to remove.
        consumed: usize,
        /// What to send to the client.
        client: &'a [u8],
    },
}

/// A [`ClientStep`] without what it borrows.
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

/// An [`UpstreamStep`] without what it borrows.
#[derive(Debug)]
pub(super) enum UpstreamNext {
    NeedMore(usize),
    Forward(usize),
    /// What to send is in the session's `rewritten`.
    Replace {
        consumed: usize,
    },
}
