//! What the upstream reports about its session: settings, the cancellation key, and that it is ready.
//!
//! Two settings decide how text is read. The session must never reach the command phase, nor stay in it,
//! unless both are reported with a value under which lineal reads statements as PostgreSQL does.

use super::message::{Message, Pass};
use crate::postgres::{
    cancel::CancelKey,
    encoding::Encoding,
    event::{Event, Transaction},
    fault::{UpstreamFault, Violation, unexpected},
    reading::keeps_reading,
    state::{Phase, Session},
    wire::Fields,
};

/// How many characters of a setting's value a fault shows.
const VALUE_CHARS_SHOWN: usize = 64;

impl Session {
    /// Takes a message between AuthenticationOk and the first ReadyForQuery.
    pub(super) fn settings_message(&mut self, tag: u8, body: &[u8]) -> Result<Pass, Violation> {
        match tag {
            b'K' => {
                let mut fields = Fields::new(body);
                let key = fields.int32().and_then(|pid| CancelKey::new(pid, fields.rest()));
                let key = key.ok_or(UpstreamFault::Malformed { tag, what: "a key has 4 to 256 bytes" })?;
                self.events.push_back(Event::CancelKey(key));
                Ok(Pass::Forward)
            }
            b'Z' => {
                if !self.settings.client_encoding {
                    return Err(UpstreamFault::SettingUnreported("client_encoding").into());
                }
                if !self.settings.standard_conforming_strings {
                    return Err(UpstreamFault::SettingUnreported("standard_conforming_strings").into());
                }
                self.events.push_back(Event::Ready(transaction(body)?));
                self.phase = Phase::Open;
                Ok(Pass::Forward)
            }
            _ => Err(unexpected(tag, "starting up")),
        }
    }

    /// Takes a ParameterStatus, which may come at any time after authentication.
    pub(super) fn parameter_status(&mut self, message: &Message<'_>) -> Result<Pass, Violation> {
        let malformed = |what| UpstreamFault::Malformed { tag: b'S', what };
        let mut fields = Fields::new(message.body);
        let name = fields.string().ok_or(malformed("its name does not end"))?;
        let value = fields.string();
        match name {
            b"client_encoding" => {
                if !is_read("client_encoding", value) {
                    return Err(unreadable("client_encoding", value, "UTF8 or SQL_ASCII").into());
                }
                self.settings.client_encoding = true;
            }
            b"standard_conforming_strings" => {
                if !is_read("standard_conforming_strings", value) {
                    return Err(unreadable("standard_conforming_strings", value, "on").into());
                }
                self.settings.standard_conforming_strings = true;
            }
            b"server_encoding" => {
                self.settings.server_encoding = Encoding::reported(value.unwrap_or_default())
            }
            _ => {}
        }
        // The end of a message that is longer than what is looked at is not checked.
        if !message.is_cut() {
            if value.is_none() {
                return Err(malformed("its value does not end").into());
            }
            if !fields.is_empty() {
                return Err(malformed("bytes after its value").into());
            }
        }
        Ok(Pass::Forward)
    }
}

/// Whether lineal reads statements as PostgreSQL does under a setting's reported value. PostgreSQL reports an
/// encoding by its own name, but `UNICODE` as it was written; PgBouncer reports what its client wrote.
fn is_read(name: &str, value: Option<&[u8]>) -> bool {
    value.and_then(|value| str::from_utf8(value).ok()).is_some_and(|value| keeps_reading(name, value))
}

/// The fault of a setting under which lineal cannot read statements.
fn unreadable(name: &'static str, value: Option<&[u8]>, accepted: &'static str) -> UpstreamFault {
    let value = String::from_utf8_lossy(value.unwrap_or(b"?"));
    let value = value.chars().take(VALUE_CHARS_SHOWN).collect::<String>().into_boxed_str();
    UpstreamFault::Setting { name, value, accepted }
}

/// Reads the transaction status of a ReadyForQuery.
pub(super) fn transaction(body: &[u8]) -> Result<Transaction, UpstreamFault> {
    match body {
        b"I" => Ok(Transaction::Idle),
        b"T" => Ok(Transaction::Open),
        b"E" => Ok(Transaction::Failed),
        _ => Err(UpstreamFault::Malformed { tag: b'Z', what: "no such transaction status" }),
    }
}
