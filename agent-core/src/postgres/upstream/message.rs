//! One message of the upstream's: as much of it as is looked at, and what becomes of it.

use crate::postgres::{
    limits::Limits,
    wire::{HEADER_BYTES, Header},
};

const BODY_WINDOW_BYTES: usize = Limits::UPSTREAM_BUFFER_BYTES - HEADER_BYTES;

/// A message whose header, and as much of its body as is looked at, has arrived.
pub(super) struct Message<'a> {
    pub(super) header: Header,
    /// The start of its body: all of it, or as much as is looked at.
    pub(super) body: &'a [u8],
    /// The length of all of its body.
    pub(super) body_bytes: usize,
}

impl Message<'_> {
    /// Its length, header included.
    pub(super) fn bytes(&self) -> usize {
        HEADER_BYTES + self.body_bytes
    }

    /// Whether its body is longer than what is looked at.
    pub(super) fn is_cut(&self) -> bool {
        self.body_bytes > self.body.len()
    }
}

/// What becomes of a message.
pub(super) enum Pass {
    /// It goes to the client as it is.
    Forward,
    /// The session's `rewritten` goes to the client in its place.
    Rewrite,
}

/// How many bytes of a message's body are looked at. The rest is streamed.
pub(super) fn looked_at(tag: u8) -> usize {
    match tag {
        b'C' | b'E' | b'K' | b'R' | b'S' | b'Z' | b'v' => BODY_WINDOW_BYTES,
        _ => 0,
    }
}
