//! The upstream's half: its messages go to the client as they are, in runs, and are read only where they
//! say something about the session. The one exception is the error that answers a stand-in.
//!
//! No message is held whole: a DataRow of a gigabyte passes through a fixed buffer. Nothing here may
//! forward a message that answers nothing the client asked.

use super::event::{CancelKey, Event, ServerError, Tag, Transaction};
use super::fault::{UpstreamFault, Violation};
use super::namespace::Namespace;
use super::replies::{Answered, BindMade, Expect, Fate, ParseMade, Reply, unexpected};
use super::session::{Answer, Phase, Rest, Session, outcome};
use super::startup::MINOR_VERSION_MAX;
use super::statements::{Portal, Statement};
use super::wire::{self, Fields, HEADER_BYTES, Header, Severity};

/// The authentication request that lists SASL mechanisms.
const SASL: u32 = 10;

/// How much of a message is looked at. The buffer must hold as much; what is longer is streamed.
pub(super) const WINDOW_BYTES: usize = 4096;
const BODY_WINDOW_BYTES: usize = WINDOW_BYTES - HEADER_BYTES;

/// What to do after looking at the upstream's bytes. "The buffer" is what was passed in.
#[derive(Debug)]
pub enum UpstreamStep<'a> {
    /// The buffer must hold this many bytes before there is more to say; never more than
    /// [`super::Limits::UPSTREAM_BUFFER_BYTES`].
    NeedMore {
        /// Bytes in all, from the start of the buffer.
        bytes_min: usize,
    },
    /// Send the first `bytes` of the buffer to the client as they are, and remove them.
    Forward {
        /// How many.
        bytes: usize,
    },
    /// Remove `consumed` bytes, and send `client` to the client in their place; it may be empty.
    Replace {
        /// How many bytes to remove.
        consumed: usize,
        /// What to send.
        client: &'a [u8],
    },
}

/// What [`Session::upstream`] will hand out.
#[derive(Debug)]
pub(super) enum UpstreamNext {
    NeedMore(usize),
    Forward(usize),
    /// What to send is in `to_client`.
    Replace {
        consumed: usize,
    },
}

/// What becomes of a message.
enum Pass {
    Forward,
    /// `to_client` takes its place.
    Rewrite,
}

impl Session {
    /// Goes through the upstream's bytes as far as possible; `run` counts those that can be forwarded, also
    /// where a fault comes behind them.
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
                    self.to_client.clear();
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
            let Some(message) = rest.get(..wanted) else {
                return Ok(run_or(*run, UpstreamNext::NeedMore(wanted)));
            };
            let body = message.get(HEADER_BYTES..).unwrap_or_default();
            let bytes = HEADER_BYTES + body_bytes;
            // What may be sent as it is goes before what may be written over.
            let rewritten = match tag {
                b'E' => self.replies.poison().is_some(),
                b'R' => self.channel_bound,
                _ => false,
            };
            if *run > 0 && rewritten {
                return Ok(UpstreamNext::Forward(*run));
            }
            match self.upstream_message(header, body, body_bytes)? {
                Pass::Forward => self.upstream_rest = Rest { bytes, dropped: false },
                Pass::Rewrite => {
                    let consumed = bytes.min(rest.len());
                    self.upstream_rest = Rest { bytes: bytes - consumed, dropped: true };
                    return Ok(UpstreamNext::Replace { consumed });
                }
            }
        }
    }

    /// Takes one message; `body` is as much of it as is looked at.
    fn upstream_message(
        &mut self,
        header: Header,
        body: &[u8],
        body_bytes: usize,
    ) -> Result<Pass, Violation> {
        let tag = header.tag;
        if self.upstream_over {
            return Err(UpstreamFault::AfterFatal.into());
        }
        if tag == b'D' && self.replies.receive_row((HEADER_BYTES + body_bytes) as u64) {
            return Ok(Pass::Forward);
        }
        if looked_at(tag) > 0 && body_bytes > body.len() && !matches!(tag, b'E' | b'S' | b'R') {
            return Err(UpstreamFault::MessageLength { tag, length: header.length }.into());
        }
        match (tag, &self.phase) {
            (_, Phase::Startup(_) | Phase::Admission) => {
                return Err(unexpected(tag, "nothing had been sent to it"));
            }
            (b'E', _) => return self.error(body, body_bytes),
            (b'N', _) => return Ok(Pass::Forward),
            (_, Phase::Authentication(_)) => return self.authentication_message(tag, body),
            // "can be sent at any time" (manual, Asynchronous Operations).
            (b'A', _) => return Ok(Pass::Forward),
            (b'S', _) => return self.parameter_status(body, body_bytes),
            (b'K', Phase::Settings) => {
                let mut fields = Fields::new(body);
                let key = fields.int32().and_then(|pid| CancelKey::new(pid, fields.rest()));
                let key = key.ok_or(UpstreamFault::Malformed { tag, what: "a key has 4 to 256 bytes" })?;
                self.events.push_back(Event::CancelKey(key));
                return Ok(Pass::Forward);
            }
            (b'Z', Phase::Settings) => {
                if !self.settings.client_encoding {
                    return Err(UpstreamFault::SettingUnreported("client_encoding").into());
                }
                if !self.settings.standard_conforming_strings {
                    return Err(UpstreamFault::SettingUnreported("standard_conforming_strings").into());
                }
                self.events.push_back(Event::Ready(transaction(body)?));
                self.phase = Phase::Open;
                return Ok(Pass::Forward);
            }
            (_, Phase::Settings) => return Err(unexpected(tag, "starting up")),
            (_, Phase::Open | Phase::Ended) => {}
        }
        let empty = |reply| if body_bytes == 0 { Some(reply) } else { None };
        let reply = match tag {
            b'D' => Some(Reply::DataRow),
            b'd' => Some(Reply::CopyData),
            b'1' => empty(Reply::ParseComplete),
            b'2' => empty(Reply::BindComplete),
            b'3' => empty(Reply::CloseComplete),
            b'n' => empty(Reply::NoData),
            b's' => empty(Reply::Suspended),
            b'I' => empty(Reply::Empty),
            b'c' => empty(Reply::CopyDone),
            b't' => Some(Reply::ParameterDescription),
            b'T' => Some(Reply::RowDescription),
            b'G' => Some(Reply::CopyIn),
            b'H' => Some(Reply::CopyOut),
            b'V' => Some(Reply::FunctionResult),
            b'C' => Fields::new(body).string().map(|text| Reply::CommandComplete(Tag::new(text))),
            b'Z' => return self.ready(transaction(body)?, body_bytes),
            b'W' => return Err(UpstreamFault::CopyBoth.into()),
            _ => return Err(unexpected(tag, "in the command phase")),
        };
        let reply =
            reply.ok_or(UpstreamFault::Malformed { tag, what: "its fields do not fit its length" })?;
        self.receive(reply, tag, body_bytes)?;
        Ok(Pass::Forward)
    }

    /// Hands a reply to the queue, and draws the consequences of what it finishes.
    fn receive(&mut self, reply: Reply, tag: u8, body_bytes: usize) -> Result<(), Violation> {
        let Self { replies, statements, portals, events, .. } = self;
        let mut gone = |expect: Expect, answered: Answered, fate: Fate| {
            let done = fate != Fate::Skipped && answered.error.is_none();
            settle(&expect, done, fate, statements, portals);
            if let Some(outcome) = outcome(expect, answered, fate) {
                events.push_back(Event::Outcome(outcome));
            }
        };
        replies.receive(reply, tag, (HEADER_BYTES + body_bytes) as u64, &mut gone)
    }

    fn ready(&mut self, transaction: Transaction, body_bytes: usize) -> Result<Pass, Violation> {
        self.receive(Reply::Ready, b'Z', body_bytes)?;
        if transaction == Transaction::Idle {
            // Portals live as long as their transaction; cursors WITH HOLD are made by SQL only.
            self.portals.forget_all();
        }
        self.events.push_back(Event::Ready(transaction));
        Ok(Pass::Forward)
    }

    fn error(&mut self, body: &[u8], body_bytes: usize) -> Result<Pass, Violation> {
        let (error, fatal) = read_error(body)?;
        // Before the command phase every error ends the connection, whatever it calls itself.
        if fatal || matches!(self.phase, Phase::Authentication(_) | Phase::Settings) {
            self.upstream_over = true;
            self.events.push_back(Event::Fatal(error));
            return Ok(Pass::Forward);
        }
        let pass = match self.replies.poison() {
            Some(denial) => {
                self.to_client.clear();
                denial.put(&mut self.to_client, Severity::Error);
                Pass::Rewrite
            }
            None => Pass::Forward,
        };
        self.receive(Reply::Error(error), b'E', body_bytes)?;
        Ok(pass)
    }

    fn authentication_message(&mut self, tag: u8, body: &[u8]) -> Result<Pass, Violation> {
        let Phase::Authentication(authentication) = &mut self.phase else {
            return Err(unexpected(tag, "authenticating"));
        };
        let malformed = |what| UpstreamFault::Malformed { tag, what };
        let mut fields = Fields::new(body);
        match tag {
            b'v' if !authentication.begun => {
                authentication.begun = true;
                let version = fields.int32().ok_or(malformed("no version"))?;
                let options = fields.int32().ok_or(malformed("no options"))?;
                // The manual says minor version; the server sends the whole one. Either way the lower half
                // counts.
                if version & 0xffff > u32::from(MINOR_VERSION_MAX) {
                    return Err(UpstreamFault::Negotiation("it settled on a version newer than 3.2").into());
                }
                authentication.version_above = false;
                // Each refused option is listed; one that is missing would be in force.
                authentication.options = authentication.options.saturating_sub(options as usize);
                Ok(Pass::Forward)
            }
            b'R' => {
                authentication.begun = true;
                if authentication.version_above {
                    return Err(UpstreamFault::Negotiation("it took a version newer than 3.2").into());
                }
                if authentication.options > 0 {
                    return Err(UpstreamFault::Negotiation("it took a protocol option").into());
                }
                let request = fields.int32().ok_or(malformed("no request"))?;
                if authentication.settled && request != 0 {
                    return Err(UpstreamFault::AskedAgain.into());
                }
                // A request while the client still owes an answer would make the next answer ambiguous.
                if authentication.answer == Answer::Due {
                    return Err(unexpected(tag, "awaiting the client's answer"));
                }
                authentication.answer = match request {
                    0 => {
                        self.phase = Phase::Settings;
                        self.events.push_back(Event::Authenticated);
                        return Ok(Pass::Forward);
                    }
                    // Cleartext, MD5, GSS, SSPI, SASL, SASL continued.
                    3 | 5 | 7 | 9 | 10 | 11 => Answer::Due,
                    // GSS continued: the last token needs no answer.
                    8 => Answer::Optional,
                    // SASL final.
                    12 => Answer::None,
                    other => return Err(UpstreamFault::Authentication(other).into()),
                };
                if request == SASL && self.channel_bound {
                    return self.without_channel_binding(fields);
                }
                Ok(Pass::Forward)
            }
            _ => Err(unexpected(tag, "authenticating")),
        }
    }

    /// AuthenticationSASL: names of mechanisms behind the request, then an empty one. Those that bind the proof to the
    /// upstream's certificate are kept from a client that sees another one.
    fn without_channel_binding(&mut self, mut fields: Fields<'_>) -> Result<Pass, Violation> {
        let malformed = UpstreamFault::Malformed { tag: b'R', what: "its mechanisms do not end" };
        let all = fields.rest();
        let mut kept = Vec::with_capacity(all.len());
        loop {
            let name = fields.string().ok_or_else(|| malformed.clone())?;
            if name.is_empty() {
                break;
            }
            if !name.ends_with(b"-PLUS") {
                kept.extend_from_slice(name);
                kept.push(0);
            }
        }
        if kept.is_empty() {
            let all = String::from_utf8_lossy(all).replace('\0', " ");
            return Err(UpstreamFault::Mechanisms(all.trim().chars().take(64).collect()).into());
        }
        kept.push(0);
        if kept.len() == all.len() {
            return Ok(Pass::Forward);
        }
        if let Phase::Authentication(authentication) = &mut self.phase {
            authentication.bound_withheld = true;
        }
        self.to_client.clear();
        wire::put(&mut self.to_client, b'R', &[&SASL.to_be_bytes(), &kept]);
        Ok(Pass::Rewrite)
    }

    /// ParameterStatus: two settings decide how text is read, so they must stay as the analysis takes them
    /// to be.
    fn parameter_status(&mut self, body: &[u8], body_bytes: usize) -> Result<Pass, Violation> {
        let mut fields = Fields::new(body);
        let name =
            fields.string().ok_or(UpstreamFault::Malformed { tag: b'S', what: "its name does not end" })?;
        let value = fields.string();
        let shown = |value: Option<&[u8]>| {
            let value = String::from_utf8_lossy(value.unwrap_or(b"?")).chars().take(64).collect::<String>();
            value.into_boxed_str()
        };
        if name == b"client_encoding" {
            if !matches!(value, Some(b"UTF8" | b"SQL_ASCII")) {
                let (name, value) = ("client_encoding", shown(value));
                return Err(UpstreamFault::Setting { name, value, accepted: "UTF8 or SQL_ASCII" }.into());
            }
            self.settings.client_encoding = true;
        }
        if name == b"standard_conforming_strings" {
            if value != Some(b"on") {
                let (name, value) = ("standard_conforming_strings", shown(value));
                return Err(UpstreamFault::Setting { name, value, accepted: "on" }.into());
            }
            self.settings.standard_conforming_strings = true;
        }
        match value {
            Some(value) if body_bytes == body.len() => {
                if !fields.is_empty() {
                    return Err(UpstreamFault::Malformed { tag: b'S', what: "bytes behind its value" }.into());
                }
                self.events.push_back(Event::Parameter {
                    name: String::from_utf8_lossy(name).into(),
                    value: String::from_utf8_lossy(value).into(),
                });
            }
            // Too long to look at.
            _ if body_bytes > body.len() => {}
            _ => return Err(UpstreamFault::Malformed { tag: b'S', what: "its value does not end" }.into()),
        }
        Ok(Pass::Forward)
    }
}

/// How many bytes of a message's body are looked at.
fn looked_at(tag: u8) -> usize {
    match tag {
        b'C' | b'E' | b'K' | b'R' | b'S' | b'Z' | b'v' => BODY_WINDOW_BYTES,
        _ => 0,
    }
}

fn transaction(body: &[u8]) -> Result<Transaction, UpstreamFault> {
    match body {
        b"I" => Ok(Transaction::Idle),
        b"T" => Ok(Transaction::Open),
        b"E" => Ok(Transaction::Failed),
        _ => Err(UpstreamFault::Malformed { tag: b'Z', what: "no such transaction status" }),
    }
}

/// What a finished or skipped Parse, Bind or Close did to its name.
fn settle(
    expect: &Expect,
    done: bool,
    fate: Fate,
    statements: &mut Namespace<Statement>,
    portals: &mut Namespace<Portal>,
) {
    match expect {
        Expect::Parse { name, made, .. } => {
            match made {
                ParseMade::Statement(order, statement) if done => {
                    statements.settle(name, *order, Some(statement.clone()));
                }
                ParseMade::Statement(..) => statements.revoke(name),
                ParseMade::Poison(_) => {}
            }
            // The server drops the unnamed statement before it looks at the new text.
            if !done && fate != Fate::Skipped && name.is_empty() {
                statements.forget(name);
            }
        }
        Expect::Bind { portal, made: BindMade::Portal(order, made), .. } => {
            if done {
                portals.settle(portal, *order, Some(made.clone()));
            } else {
                portals.revoke(portal);
            }
        }
        Expect::CloseStatement { name, order } if done => statements.settle(name, *order, None),
        Expect::CloseStatement { name, .. } => statements.revoke(name),
        Expect::ClosePortal { name, order } if done => portals.settle(name, *order, None),
        Expect::ClosePortal { name, .. } => portals.revoke(name),
        _ => {}
    }
}

/// Reads the start of an ErrorResponse: what it says, and whether it ends the session.
fn read_error(body: &[u8]) -> Result<(ServerError, bool), UpstreamFault> {
    const NO_CODE: UpstreamFault = UpstreamFault::Malformed { tag: b'E', what: "no severity or SQLSTATE" };
    let mut fields = Fields::new(body);
    let (mut severity, mut sqlstate, mut message) = (None, None, &b""[..]);
    while let Some(code @ 1..) = fields.byte() {
        // The message may be longer than what is looked at.
        let Some(text) = fields.string() else {
            if code == b'M' {
                message = fields.rest();
            }
            break;
        };
        match code {
            // V is S without translation, since PostgreSQL 9.6.
            b'V' => severity = Some(text),
            b'S' => severity = severity.or(Some(text)),
            b'C' => sqlstate = <[u8; 5]>::try_from(text).ok(),
            b'M' => message = text,
            _ => {}
        }
    }
    let (severity, sqlstate) = (severity.ok_or(NO_CODE)?, sqlstate.ok_or(NO_CODE)?);
    let message = message.get(..ServerError::MESSAGE_BYTES_MAX).unwrap_or(message);
    let message = String::from_utf8_lossy(message).into();
    Ok((ServerError { sqlstate, message }, matches!(severity, b"FATAL" | b"PANIC")))
}
