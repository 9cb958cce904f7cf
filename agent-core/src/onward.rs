//! What a protocol's session hands out for its upstream.
//!
//! A [`Permit`](crate::ruling::Permit) makes a session hand a command out, as a [`Forward`] or a [`Replace`].
//! A session's side towards its upstream (`Side<Upstream>` in the agent) writes nothing else: bytes of the
//! client's that no machine has handed out have no way there. An adapter can't make one:
//!
//! ```compile_fail,E0451
//! use agent_core::onward::Forward;
//! fn forward_all(input: &[u8]) -> Forward {
//!     Forward { bytes: input.len() }
//! }
//! ```
//!
//! ```compile_fail,E0451
//! use agent_core::onward::Replace;
//! fn forward_all(input: &[u8]) -> Replace<'_> {
//!     Replace { consumed: input.len(), bytes: input }
//! }
//! ```

/// The first bytes of the buffer that the session was shown: they go to the upstream as they are.
#[derive(Debug)]
#[must_use = "what a session hands out and nobody sends is lost"]
pub struct Forward {
    bytes: usize,
}

impl Forward {
    pub(crate) fn new(bytes: usize) -> Self {
        Self { bytes }
    }

    /// How many bytes.
    pub fn bytes(&self) -> usize {
        self.bytes
    }
}

/// Bytes that go to the upstream in place of the first bytes of the buffer.
#[derive(Debug)]
#[must_use = "what a session hands out and nobody sends is lost"]
pub struct Replace<'a> {
    consumed: usize,
    bytes: &'a [u8],
}

impl<'a> Replace<'a> {
    pub(crate) fn new(consumed: usize, bytes: &'a [u8]) -> Self {
        Self { consumed, bytes }
    }

    /// How many bytes to remove from the buffer's start; may be 0.
    pub fn consumed(&self) -> usize {
        self.consumed
    }

    /// What to send in their place; may be empty.
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }
}
