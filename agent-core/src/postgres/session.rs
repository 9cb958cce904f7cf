//! The interface that the executor drives a [`Session`] by; the module's page says how.
//!
//! A fault is final, and no byte that a fault concerns is ever forwarded. The methods that take a ruling
//! stand beside what carries it out, in `client/ruling.rs`.

use std::collections::VecDeque;

use super::{
    event::Event,
    fault::{Violation, fatal_error},
    meanings::Meanings,
    startup::EncryptionRequests,
    state::{Asked, AwaitedSettings, Phase, Remainder, Session, Subject},
    step::{ClientNext, ClientStep, UpstreamNext, UpstreamStep},
};
use crate::onward::{Forward, Replace};

/// The largest capacity that the queue of events keeps once it is empty.
const EVENTS_KEPT: usize = 4;

impl Session {
    /// Makes the session grant an SSLRequest of the client, by [`ClientStep::Tls`]. To be called before the
    /// first byte is looked at.
    pub fn offer_tls(&mut self) {
        if let Phase::Startup(requests) = &mut self.phase {
            requests.tls_offered = true;
        }
    }

    /// The client has begun with TLS (ALPN `postgresql`), and its bytes are those that came through TLS. To
    /// be called before the first byte is looked at.
    pub fn begun_with_tls(&mut self) {
        self.phase = Phase::Startup(EncryptionRequests::ENCRYPTED);
    }

    /// The connection to the upstream is encrypted, with another certificate than the client sees, so SCRAM's
    /// channel binding cannot hold across both. To be called before the StartupMessage is allowed.
    pub fn upstream_encrypted(&mut self) {
        self.upstream_encrypted = true;
    }

    /// Looks at what the client sent. `buf` starts where the last step left off, and holds all that was
    /// received since. The bytes that a step consumes must be gone from the next call's `buf`.
    ///
    /// # Errors
    /// The session is over. Earlier bytes that were allowed have been handed out before.
    pub fn client<'a>(&'a mut self, buf: &'a [u8]) -> Result<ClientStep<'a>, Violation> {
        let next = match &self.fault {
            Some(fault) => Err(fault.clone()),
            None => self.advance_client(buf),
        };
        let next = match next {
            // What was allowed before the fault is sent first. The fault stays, and the next call returns it.
            Err(fault) => {
                self.fault = Some(fault.clone());
                match self.take_ready() {
                    0 => return Err(fault),
                    bytes => ClientNext::Forward(bytes),
                }
            }
            Ok(next) => next,
        };
        Ok(match next {
            ClientNext::NeedMore(bytes_min) => ClientStep::NeedMore { bytes_min },
            ClientNext::Wait => ClientStep::Wait,
            ClientNext::Forward(bytes) => ClientStep::Forward(Forward::new(bytes)),
            ClientNext::Replace { consumed } => ClientStep::Replace(Replace::new(consumed, &self.composed)),
            ClientNext::Reply { consumed } => ClientStep::Reply { consumed, client: &self.composed },
            ClientNext::Tls { consumed } => ClientStep::Tls { consumed },
            ClientNext::Cancel(key) => ClientStep::Cancel { key },
            ClientNext::End => ClientStep::End,
            ClientNext::Judge => match &self.pending {
                Some(pending) => ClientStep::Judge {
                    command: pending.command,
                    question: pending.question(buf.get(self.ready_bytes..).unwrap_or_default()),
                    meanings: Meanings::of(self),
                    ready_bytes: self.ready_bytes,
                    settings_awaited: self.awaited_settings.is_some(),
                },
                None => ClientStep::Wait,
            },
        })
    }

    /// Looks at what the upstream sent; the same rules hold for `buf` as in [`Self::client`]. Drain
    /// [`Self::next_event`] before carrying the step out.
    ///
    /// # Errors
    /// The session is over.
    pub fn upstream<'a>(&'a mut self, buf: &[u8]) -> Result<UpstreamStep<'a>, Violation> {
        if let Some(fault) = &self.fault {
            return Err(fault.clone());
        }
        if let Some(pending) = &mut self.pending
            && pending.asked == Asked::Postponed
        {
            pending.asked = Asked::Due;
        }
        let mut forwarded = 0;
        let next = match self.advance_upstream(buf, &mut forwarded) {
            Ok(next) => next,
            Err(fault) => {
                let fault = self.fail(fault);
                if forwarded == 0 {
                    return Err(fault);
                }
                UpstreamNext::Forward(forwarded)
            }
        };
        Ok(match next {
            UpstreamNext::NeedMore(bytes_min) => UpstreamStep::NeedMore { bytes_min },
            UpstreamNext::Forward(bytes) => UpstreamStep::Forward { bytes },
            UpstreamNext::Replace { consumed } => UpstreamStep::Replace { consumed, client: &self.rewritten },
        })
    }

    /// The next thing that the session found out, in order; `None` if there is no more.
    pub fn next_event(&mut self) -> Option<Event> {
        let event = self.events.pop_front();
        // A long pipeline can end at once; the room that its outcomes took is given back.
        if event.is_none() && self.events.capacity() > EVENTS_KEPT {
            self.events = VecDeque::new();
        }
        event
    }

    /// The statement that awaits its ruling may give `name` (any name, for `None`) a meaning by SQL
    /// `PREPARE`. To be called before the ruling. If the protocol gave the name a meaning before, an Execute
    /// of it has two candidates from now on.
    pub fn sql_prepared(&mut self, name: Option<&[u8]>) {
        self.statements.note_sql(name);
    }

    /// The statement that awaits its ruling, of this number, drops these prepared statements by SQL
    /// `DEALLOCATE`, in this order. To be called before the ruling, and only if it lets the statement pass.
    pub fn sql_deallocates(&mut self, command: u64, names: impl IntoIterator<Item = Box<[u8]>>) {
        self.deallocations.note(command, names);
    }

    /// Like [`Self::sql_prepared`], for SQL `DECLARE` and the names of portals.
    pub fn sql_declared(&mut self, name: Option<&[u8]>) {
        self.portals.note_sql(name);
    }

    /// The statement that awaits its ruling, of this number, may change settings that decide how the server
    /// reads text. To be called before the ruling, and only if it lets the statement pass. No command follows
    /// it then before the upstream is ready again, and so has reported its settings; one of the same segment
    /// is asked about, with [`ClientStep::Judge`] saying that it may not pass.
    pub fn settings_awaited(&mut self, command: u64) {
        let Some(pending) = &self.pending else { return };
        let segment = match pending.subject {
            Subject::Query { .. } | Subject::FunctionCall { .. } => None,
            _ => Some(self.segment),
        };
        self.awaited_settings = Some(AwaitedSettings { command, segment });
    }

    /// Whether what was handed out for the client so far ends where a message ends, so that a message of
    /// lineal's own can follow.
    pub fn at_boundary(&self) -> bool {
        self.upstream_rest.bytes == 0 || self.upstream_rest.dropped
    }

    /// How many messages of the command phase may still be answered by the upstream; 0 only if none is. Syncs
    /// that a failed COPY may have dropped count as one.
    pub fn awaited(&self) -> usize {
        self.replies.len()
    }

    /// Ends the session from lineal's side, as on revocation. Returns the FATAL ErrorResponse for the client.
    /// `None` if it cannot follow what was handed out before: then only closing is left.
    pub fn terminate(&mut self, sqlstate: [u8; 5], message: &str) -> Option<Vec<u8>> {
        self.phase = Phase::Ended;
        self.ready_bytes = 0;
        self.client_rest = Remainder::default();
        self.pending = None;
        (self.at_boundary() && !self.upstream_over).then(|| fatal_error(sqlstate, message))
    }

    /// The connection to the upstream is gone, or about to go: every command that is still unanswered gets
    /// its [`super::Outcome`], with [`super::Ending::Unknown`].
    pub fn finish(&mut self) {
        self.pending = None;
        self.events.extend(self.replies.abandon().into_iter().map(Event::Outcome));
    }

    /// Keeps the first fault, and returns it.
    pub(super) fn fail(&mut self, fault: Violation) -> Violation {
        self.fault.get_or_insert(fault).clone()
    }
}
