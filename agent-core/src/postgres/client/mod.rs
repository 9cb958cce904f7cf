//! The client's half: which of its messages are forwarded as they are, which are asked about, and which are
//! dropped or replaced.
//!
//! No message that can run a command may be forwarded from here before its ruling. `bounds` says how long
//! messages may be, `authentication` relays the answers of that phase, `commands` reads the messages that
//! carry commands, `ruling` carries rulings out, and `ready` keeps the run of bytes that may be sent.

use self::bounds::NAME_BYTES_MAX;
use super::{
    fault::{ClientFault, Misuse, Violation},
    replies::Expect,
    startup::{self, FirstPacket},
    state::{Phase, Remainder, Session, Subject},
    step::ClientNext,
    wire::{self, Fields, HEADER_BYTES, Header},
};

mod authentication;
mod bounds;
mod commands;
mod ready;
mod ruling;

impl Session {
    /// Goes through the client's bytes as far as possible.
    pub(super) fn advance_client(&mut self, buf: &[u8]) -> Result<ClientNext, Violation> {
        if buf.len() < self.ready_bytes {
            return Err(Misuse::Buffer.into());
        }
        loop {
            let rest = buf.get(self.ready_bytes..).unwrap_or_default();
            let next = if self.client_rest.bytes > 0 {
                self.client_remainder(rest.len())
            } else if self.pending.is_some() {
                self.rule(rest)?
            } else {
                self.client_message(rest)?
            };
            if let Some(next) = next {
                return Ok(next);
            }
        }
    }

    /// Goes on with a message of which only the start was read, by at most `available` bytes. `None` if they
    /// joined the ready bytes.
    fn client_remainder(&mut self, available: usize) -> Option<ClientNext> {
        let bytes = self.client_rest.bytes.min(available);
        if bytes == 0 {
            return Some(self.flush_or(ClientNext::NeedMore(1)));
        }
        if self.client_rest.dropped {
            if self.ready_bytes > 0 {
                return Some(ClientNext::Forward(self.take_ready()));
            }
            self.client_rest.bytes -= bytes;
            self.composed.clear();
            return Some(ClientNext::Replace { consumed: bytes });
        }
        self.client_rest.bytes -= bytes;
        self.ready_bytes += bytes;
        None
    }

    /// Looks at the message at the start of `rest`. `None` if it is forwarded or dropped without a question.
    fn client_message(&mut self, rest: &[u8]) -> Result<Option<ClientNext>, Violation> {
        match &self.phase {
            Phase::Ended => Ok(Some(self.flush_or(ClientNext::End))),
            Phase::Admission | Phase::Settings => Ok(Some(self.flush_or(ClientNext::Wait))),
            Phase::Startup(_) => self.first_packet(rest).map(Some),
            Phase::Authentication(_) => self.authentication_answer(rest),
            Phase::Open => match Header::read(rest) {
                Some(header) => self.command_message(header, rest),
                None => Ok(Some(self.flush_or(ClientNext::NeedMore(HEADER_BYTES)))),
            },
        }
    }

    /// Looks at the packet, without a type byte, that the connection begins with.
    fn first_packet(&mut self, rest: &[u8]) -> Result<ClientNext, Violation> {
        let Phase::Startup(requests) = &mut self.phase else { return Ok(ClientNext::Wait) };
        Ok(match startup::read(rest, self.limits.startup_bytes_max, requests)? {
            FirstPacket::NeedMore(bytes) => ClientNext::NeedMore(bytes),
            FirstPacket::Declined { bytes } => {
                self.composed.clear();
                self.composed.push(b'N');
                ClientNext::Reply { consumed: bytes }
            }
            FirstPacket::Tls { bytes } => ClientNext::Tls { consumed: bytes },
            FirstPacket::Cancel { key, .. } => {
                self.phase = Phase::Ended;
                ClientNext::Cancel(key)
            }
            FirstPacket::Terminate => {
                self.phase = Phase::Ended;
                ClientNext::End
            }
            FirstPacket::Startup { startup, bytes } => {
                self.phase = Phase::Admission;
                self.ask(Subject::Startup(Box::new(startup)), bytes)
            }
        })
    }

    /// Looks at a message of the command phase.
    fn command_message(&mut self, header: Header, rest: &[u8]) -> Result<Option<ClientNext>, Violation> {
        let tag = header.tag;
        let Some(body_bytes_max) = bounds::command_body_bytes_max(tag) else {
            return Err(ClientFault::MessageType { tag, phase: "in the command phase" }.into());
        };
        let body = bounds::body_bytes(header, body_bytes_max)?;
        let bytes = HEADER_BYTES + body;

        // "the backend discards messages until Sync" after an error, and poison is certain to cause an error,
        // unless it is itself discarded. A message that the upstream will discard is neither asked about nor
        // sent.
        if !matches!(tag, b'S' | b'X') && (self.denied_segment || self.replies.is_skipping()) {
            self.client_rest = Remainder { bytes, dropped: true };
            return Ok(None);
        }
        // COPY's messages are not read as text, and the upstream reports its settings only after a Sync.
        if !matches!(tag, b'd' | b'c' | b'f' | b'H' | b'S' | b'X') && self.waits_for_settings() {
            return Ok(Some(self.flush_or(ClientNext::Wait)));
        }
        if let Some(next) = self.throttle(tag) {
            return Ok(Some(next));
        }
        match tag {
            b'd' | b'H' => {}
            b'c' | b'f' => self.replies.push(Expect::CopyEnd),
            b'X' => self.phase = Phase::Ended,
            b'S' => {
                self.segment += 1;
                self.denied_segment = false;
                self.replies.push(Expect::Sync);
            }
            _ => return self.command(tag, body, rest),
        }
        self.forward(bytes);
        Ok(None)
    }

    /// Whether a command must wait for the upstream to report its settings. It can't within the segment of
    /// the command that changes them, because its Sync is still to come.
    fn waits_for_settings(&self) -> bool {
        self.awaited_settings.is_some_and(|awaited| awaited.segment != Some(self.segment))
    }

    /// Looks at a message whose fields have to be read.
    fn command(&mut self, tag: u8, body: usize, rest: &[u8]) -> Result<Option<ClientNext>, Violation> {
        self.replies.accepts(tag)?;
        let bytes = HEADER_BYTES + body;
        let wanted = match tag {
            b'B' => self.bind_bytes_wanted(body),
            b'Q' | b'P' | b'F' if bytes > self.limits.message_bytes_max => body.min(NAME_BYTES_MAX + 1),
            _ => body,
        };
        let wanted = HEADER_BYTES + wanted;
        let Some(message) = rest.get(..wanted) else {
            return Ok(Some(self.flush_or(ClientNext::NeedMore(wanted))));
        };
        let fields = Fields::new(message.get(HEADER_BYTES..).unwrap_or_default());
        match tag {
            b'Q' => self.query(fields, bytes).map(Some),
            b'P' => self.parse(fields, bytes).map(Some),
            b'F' => self.function_call(fields, bytes).map(Some),
            b'E' => self.execute(fields, bytes).map(Some),
            b'B' => self.bind(fields, bytes),
            b'D' => self.describe(fields, bytes),
            _ => self.close(fields, bytes),
        }
    }

    /// Holds the client back while too many replies are awaited. PostgreSQL keeps replies until a Sync or
    /// Flush, and the client's own Sync may be far behind: so a Flush is inserted, once each time.
    fn throttle(&mut self, tag: u8) -> Option<ClientNext> {
        let awaited = self.replies.len();
        let bound = match (tag, self.throttled) {
            (b'd' | b'H' | b'X', _) => return None,
            // A COPY that the upstream reads cannot go on without its end.
            (b'c' | b'f', _) => self.limits.pipeline_max.saturating_mul(2),
            (_, true) => self.limits.pipeline_max / 2,
            (_, false) => self.limits.pipeline_max,
        };
        if awaited <= bound {
            self.throttled = false;
            return None;
        }
        if self.ready_bytes > 0 {
            return Some(ClientNext::Forward(self.take_ready()));
        }
        if std::mem::replace(&mut self.throttled, true) {
            return Some(ClientNext::Wait);
        }
        self.composed.clear();
        wire::put(&mut self.composed, b'H', &[]);
        Some(ClientNext::Replace { consumed: 0 })
    }
}
