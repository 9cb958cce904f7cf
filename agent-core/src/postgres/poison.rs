//! Denial by poison substitution: what goes to the upstream in place of a denied message, and what the
//! client is told when the upstream refuses it.
//!
//! An error made up here, without the upstream's knowledge, would leave the two in different transaction
//! states, and earlier writes of the same pipeline would commit. So the server itself must fail, at exactly
//! this message. Nothing of a denied message, except a statement's name, may reach the upstream.

use super::wire::{self, Severity};

/// It parses (a syntax error would be reported before the state of the transaction is looked at), and
/// the server cannot resolve it: 42883, or 25P02 in a failed transaction.
const STATEMENT: &[u8] = b"SELECT pg_catalog.lineal_denied_()";

/// A portal that never exists, nor does a statement of that name: no Bind or Parse may create it. Should SQL make a
/// cursor or statement of this name, the stand-in succeeds, and [`super::UpstreamFault::PoisonAccepted`] ends the session.
pub(super) const PORTAL: &[u8] = b"lineal_denied_";

/// What the client is told about a denied command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Denial {
    /// The SQLSTATE, 42501 (insufficient_privilege) for a policy's denial.
    pub sqlstate: [u8; 5],
    /// The message, e.g. ``lineal: denied by policy NAME: reason``.
    pub message: Box<str>,
    /// More for the reader, e.g. which access was refused.
    pub detail: Option<Box<str>>,
    /// What could be done about it.
    pub hint: Option<Box<str>>,
}

impl Denial {
    /// A denial under SQLSTATE 42501.
    pub fn new(message: impl Into<Box<str>>) -> Self {
        Self { sqlstate: *b"42501", message: message.into(), detail: None, hint: None }
    }

    /// Appends the ErrorResponse that the client gets in place of the upstream's. Position, internal query,
    /// file and line would speak of the stand-in, so there are none.
    pub(super) fn put(&self, out: &mut Vec<u8>, severity: Severity) {
        let (detail, hint) = (self.detail.as_deref(), self.hint.as_deref());
        wire::put_error(out, severity, self.sqlstate, &self.message, detail, hint);
    }
}

/// Appends the stand-in for a Query.
pub(super) fn put_query(out: &mut Vec<u8>) {
    wire::put(out, b'Q', &[STATEMENT, &[0]]);
}

/// Appends the stand-in for a Parse. The name stays: an unnamed Parse drops the unnamed statement even
/// where it fails, and a Bind that follows must not find the statement of before.
pub(super) fn put_parse(out: &mut Vec<u8>, name: &[u8]) {
    wire::put(out, b'P', &[name, &[0], STATEMENT, &[0], &[0, 0]]);
}

/// Appends the stand-in for a Bind: of a statement that never exists, to the unnamed portal.
pub(super) fn put_bind(out: &mut Vec<u8>) {
    wire::put(out, b'B', &[&[0], PORTAL, &[0], &[0; 2], &[0; 2], &[0; 2]]);
}

/// Appends the stand-in for an Execute.
pub(super) fn put_execute(out: &mut Vec<u8>) {
    wire::put(out, b'E', &[PORTAL, &[0], &[0, 0, 0, 0]]);
}

/// Appends the stand-in for a FunctionCall: OID 0, no arguments.
pub(super) fn put_function_call(out: &mut Vec<u8>) {
    wire::put(out, b'F', &[&[0; 4], &[0; 2], &[0; 2], &[0; 2]]);
}
