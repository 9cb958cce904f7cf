//! Poison: the message that goes to the upstream in place of a denied one, and what the client is told when
//! the upstream refuses it.
//!
//! If lineal answered a denied command with an error of its own making, the client and the upstream would be
//! in different transaction states, and earlier writes of the same pipeline would commit. So the upstream
//! itself must fail, at exactly this message. Nothing of a denied message, except a statement's name, may
//! reach the upstream.

use super::wire::{self, Severity};

/// A statement that PostgreSQL always refuses: with 42883 (no such function), or 25P02 in a failed
/// transaction. It has to parse, because a syntax error would be reported before the transaction's state is
/// looked at.
const STATEMENT: &[u8] = b"SELECT pg_catalog.lineal_denied_()";

/// The name of a portal and of a statement that never exist: no Bind or Parse may create them. If SQL
/// declares a cursor or prepares a statement of this name, the poison succeeds, and
/// [`super::UpstreamFault::PoisonAccepted`] ends the session.
pub(super) const RESERVED_NAME: &[u8] = b"lineal_denied_";

/// What the client is told about a denied command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Denial {
    /// The SQLSTATE: 42501 (insufficient_privilege) for a denial by policy.
    pub sqlstate: [u8; 5],
    /// The message, e.g. ``lineal: denied by policy NAME: reason``.
    pub message: Box<str>,
    /// More for the reader, e.g. which access was refused.
    pub detail: Option<Box<str>>,
    /// What the reader can do about it.
    pub hint: Option<Box<str>>,
}

impl Denial {
    /// A denial with SQLSTATE 42501.
    pub fn new(message: impl Into<Box<str>>) -> Self {
        Self { sqlstate: *b"42501", message: message.into(), detail: None, hint: None }
    }

    /// Appends the ErrorResponse that the client gets in place of the upstream's. It has no position,
    /// internal query, file or line: they would describe the poison.
    pub(super) fn put(&self, out: &mut Vec<u8>, severity: Severity) {
        let (detail, hint) = (self.detail.as_deref(), self.hint.as_deref());
        wire::put_error(out, severity, self.sqlstate, &self.message, detail, hint);
    }
}

/// Appends the poison for a Query.
pub(super) fn put_query(out: &mut Vec<u8>) {
    wire::put(out, b'Q', &[STATEMENT, &[0]]);
}

/// Appends the poison for a Parse. It keeps the statement's name: an unnamed Parse drops the unnamed
/// statement even if it fails, and a Bind that follows must not find the earlier statement.
pub(super) fn put_parse(out: &mut Vec<u8>, name: &[u8]) {
    wire::put(out, b'P', &[name, &[0], STATEMENT, &[0], &[0, 0]]);
}

/// Appends the poison for a Bind: it binds a statement that never exists to the unnamed portal.
pub(super) fn put_bind(out: &mut Vec<u8>) {
    wire::put(out, b'B', &[&[0], RESERVED_NAME, &[0], &[0; 2], &[0; 2], &[0; 2]]);
}

/// Appends the poison for an Execute: it executes a portal that never exists.
pub(super) fn put_execute(out: &mut Vec<u8>) {
    wire::put(out, b'E', &[RESERVED_NAME, &[0], &[0, 0, 0, 0]]);
}

/// Appends the poison for a FunctionCall: it calls OID 0, without arguments.
pub(super) fn put_function_call(out: &mut Vec<u8>) {
    wire::put(out, b'F', &[&[0; 4], &[0; 2], &[0; 2], &[0; 2]]);
}
