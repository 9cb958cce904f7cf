//! The upstream's errors: those that end the session, those that answer the client's messages, and those that
//! answer poison.
//!
//! An error that ends the session must reach the client as it is; every other error that answers poison must
//! be rewritten into the denial.

use super::message::{Message, Pass};
use crate::postgres::{
    event::{Event, UpstreamError},
    fault::{UpstreamFault, Violation},
    replies::Reply,
    state::{Phase, Session},
    wire::{self, Fields, Severity},
};

impl Session {
    /// Takes an ErrorResponse.
    pub(super) fn error(&mut self, message: &Message<'_>) -> Result<Pass, Violation> {
        let (error, fatal) = read_error(message.body)?;
        // Before the command phase every error ends the connection, whatever its severity.
        if fatal || matches!(self.phase, Phase::Authentication(_) | Phase::Settings) {
            self.upstream_over = true;
            let remedy = matches!(self.phase, Phase::Authentication(_)) && wants_certificate(&error);
            self.events.push_back(Event::UpstreamFatal(error));
            // A hint of the server's own, which no known version gives here, stays alone.
            return Ok(match message.body.strip_suffix(&[0]) {
                Some(fields) if remedy && !message.is_cut() && !has_field(message.body, b'H') => {
                    self.rewritten.clear();
                    wire::put(&mut self.rewritten, b'E', &[fields, b"H", CERTIFICATE_REMEDY, &[0, 0]]);
                    Pass::Rewrite
                }
                _ => Pass::Forward,
            });
        }
        let pass = match self.replies.poison() {
            Some(denial) => {
                self.rewritten.clear();
                denial.put(&mut self.rewritten, Severity::Error);
                Pass::Rewrite
            }
            None => Pass::Forward,
        };
        self.receive(Reply::Error(error), message)?;
        Ok(pass)
    }
}

/// What a client can do whose certificate the server wants. It cannot be passed on: TLS ends at the agent,
/// which has no key of the client's.
const CERTIFICATE_REMEDY: &[u8] = b"lineal ends the client's TLS, so the server does not see the client's \
    certificate: have the administrator configure a login with a certificate for this upstream, or declare \
    the upstream as tcp.";

/// Whether the server refuses the session because the client has shown no certificate, or not the user's
/// (`auth.c`).
fn wants_certificate(error: &UpstreamError) -> bool {
    error.sqlstate == *b"28000"
        && (error.message.starts_with("connection requires a valid client certificate")
            || error.message.starts_with("certificate authentication failed for user"))
}

/// Whether an ErrorResponse has this field.
fn has_field(body: &[u8], wanted: u8) -> bool {
    let mut fields = Fields::new(body);
    while let Some(code @ 1..) = fields.byte() {
        if code == wanted {
            return true;
        }
        if fields.string().is_none() {
            return false;
        }
    }
    false
}

/// Reads the start of an ErrorResponse: what it says, and whether its severity ends the session. The fields
/// are those of the PostgreSQL manual, "Error and Notice Message Fields".
fn read_error(body: &[u8]) -> Result<(UpstreamError, bool), UpstreamFault> {
    const NO_CODE: UpstreamFault = UpstreamFault::Malformed { tag: b'E', what: "no severity or SQLSTATE" };
    let mut fields = Fields::new(body);
    let (mut severity, mut sqlstate, mut message) = (None, None, &b""[..]);
    while let Some(code @ 1..) = fields.byte() {
        // The field M may be cut, because only the start of a long ErrorResponse is looked at.
        let Some(text) = fields.string() else {
            if code == b'M' {
                message = fields.rest();
            }
            break;
        };
        match code {
            // V is S untranslated. PostgreSQL sends it since 9.6.
            b'V' => severity = Some(text),
            b'S' => severity = severity.or(Some(text)),
            b'C' => sqlstate = <[u8; 5]>::try_from(text).ok(),
            b'M' => message = text,
            _ => {}
        }
    }
    let (severity, sqlstate) = (severity.ok_or(NO_CODE)?, sqlstate.ok_or(NO_CODE)?);
    let message = message.get(..UpstreamError::MESSAGE_BYTES_MAX).unwrap_or(message);
    let message = String::from_utf8_lossy(message).into();
    Ok((UpstreamError { sqlstate, message }, matches!(severity, b"FATAL" | b"PANIC")))
}
