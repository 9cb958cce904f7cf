//! The upstream's half: its messages go to the client as they are, in runs, and are read only where they say
//! something about the session. Three are rewritten: the error that answers poison, a list of authentication
//! mechanisms, and the refusal of a client whose certificate the server does not see.
//!
//! No message is held whole: a DataRow of a gigabyte passes through a fixed buffer. Nothing here may forward
//! a message that answers nothing the client asked. `message` says how much of a message is looked at;
//! `authentication`, `settings` and `reply` take the messages of the three phases in turn.

use self::message::{Message, Pass, looked_at};
use super::{
    fault::{UpstreamFault, Violation, unexpected},
    state::{Phase, Remainder, Session},
    step::UpstreamNext,
    wire::{HEADER_BYTES, Header},
};

mod authentication;
mod error;
mod message;
mod reply;
mod settings;

impl Session {
    /// Goes through the upstream's bytes as far as possible. `run` counts the bytes that can be forwarded,
    /// even if a fault comes behind them.
    pub(super) fn advance_upstream(
        &mut self,
        buf: &[u8],
        run: &mut usize,
    ) -> Result<UpstreamNext, Violation> {
        let run_or = |run: usize, next| if run > 0 { UpstreamNext::Forward(run) } else { next };
        loop {
            let rest = buf.get(*run..).unwrap_or_default();
            if self.upstream_rest.bytes > 0 {
                let bytes = self.upstream_rest.bytes.min(rest.len());
                if bytes == 0 {
                    return Ok(run_or(*run, UpstreamNext::NeedMore(1)));
                }
                self.upstream_rest.bytes -= bytes;
                if self.upstream_rest.dropped {
                    self.rewritten.clear();
                    return Ok(UpstreamNext::Replace { consumed: bytes });
                }
                *run += bytes;
                continue;
            }
            let Some(header) = Header::read(rest) else {
                return Ok(run_or(*run, UpstreamNext::NeedMore(HEADER_BYTES)));
            };
            let Header { tag, length } = header;
            let body_bytes = header.body_bytes().ok_or(UpstreamFault::MessageLength { tag, length })?;
            let wanted = HEADER_BYTES + body_bytes.min(looked_at(tag));
            let Some(start) = rest.get(..wanted) else {
                return Ok(run_or(*run, UpstreamNext::NeedMore(wanted)));
            };
            // The run must be sent before a message that may be rewritten.
            if *run > 0 && self.may_be_rewritten(tag) {
                return Ok(UpstreamNext::Forward(*run));
            }
            let body = start.get(HEADER_BYTES..).unwrap_or_default();
            let message = Message { header, body, body_bytes };
            match self.upstream_message(&message)? {
                Pass::Forward => {
                    self.upstream_rest = Remainder { bytes: message.bytes(), dropped: false };
                }
                Pass::Rewrite => {
                    let consumed = message.bytes().min(rest.len());
                    self.upstream_rest = Remainder { bytes: message.bytes() - consumed, dropped: true };
                    return Ok(UpstreamNext::Replace { consumed });
                }
            }
        }
    }

    /// Whether a message of this type may have to be rewritten.
    fn may_be_rewritten(&self, tag: u8) -> bool {
        match tag {
            b'E' => self.replies.poison().is_some() || matches!(self.phase, Phase::Authentication(_)),
            b'R' => self.upstream_encrypted,
            _ => false,
        }
    }

    /// Takes one message, in whichever phase the session is.
    fn upstream_message(&mut self, message: &Message<'_>) -> Result<Pass, Violation> {
        let Header { tag, length } = message.header;
        if self.upstream_over {
            return Err(UpstreamFault::AfterFatal.into());
        }
        if tag == b'D' && self.replies.receive_row(message.bytes() as u64) {
            return Ok(Pass::Forward);
        }
        if looked_at(tag) > 0 && message.is_cut() && !matches!(tag, b'E' | b'S' | b'R') {
            return Err(UpstreamFault::MessageLength { tag, length }.into());
        }
        match (tag, &self.phase) {
            (_, Phase::Startup(_) | Phase::Admission) => Err(unexpected(tag, "nothing had been sent to it")),
            (b'E', _) => self.error(message),
            (b'N', _) => Ok(Pass::Forward),
            (_, Phase::Authentication(_)) => self.authentication_message(tag, message.body),
            // "can be sent at any time" (manual, Asynchronous Operations).
            (b'A', _) => Ok(Pass::Forward),
            (b'S', _) => self.parameter_status(message),
            (_, Phase::Settings) => self.settings_message(tag, message.body),
            (_, Phase::Open | Phase::Ended) => self.reply(message),
        }
    }
}
