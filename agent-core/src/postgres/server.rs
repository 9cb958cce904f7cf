//! The server's half of a session: which request each answer belongs to, and what of it the client sees.

use super::{
    poison,
    replies::{Command, Expect, Outcome},
    session::{Phase, Session},
    violation::Violation,
    wire::{HEADER_BYTES, Header, error_field, read_cstr, read_u32},
};

/// What to do with what the server sent.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct UpstreamStep {
    /// So many bytes are forwarded as they came.
    pub forward: usize,
    /// What stands in the place of the bytes behind them.
    pub replaced: Option<Replaced>,
    /// Bytes that must be there, from the first one not dealt with, before this is called again.
    pub bytes_min: usize,
}

/// Bytes of the server that the client doesn't see as they came.
#[derive(Debug, PartialEq, Eq)]
pub struct Replaced {
    /// How many.
    pub bytes: usize,
    /// What the client sees.
    pub with: Vec<u8>,
}

/// Something that the executor may want to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The key by which this session's statements can be cancelled: process id and secret, as sent.
    Key(Box<[u8]>),
    /// The session takes commands; in or out of a transaction.
    Ready {
        /// `I`, `T` or `E`.
        status: u8,
    },
    /// A command is over.
    Outcome(Outcome),
}

/// What is known of the answer under way.
#[derive(Debug, Default)]
pub struct ServerState {
    /// Transaction status at the last ReadyForQuery.
    pub status: u8,
    /// Bytes left of a message that is forwarded in pieces.
    rest: usize,
    rows_seen: u64,
    rows: Option<u64>,
    bytes: u64,
    error: Option<(Box<str>, Box<str>)>,
}

impl<N> Session<N> {
    /// Takes in what the server sent; events are appended.
    pub fn upstream(&mut self, buf: &[u8], events: &mut Vec<Event>) -> Result<UpstreamStep, Violation> {
        if let Some(violation) = &self.poisoned {
            return Err(violation.clone());
        }
        let step = self.read_server(buf, events);
        if let Err(violation) = &step {
            self.poisoned = Some(violation.clone());
        }
        step
    }

    /// Whether the server's last message is through, so that one of lineal's own may follow.
    pub fn at_boundary(&self) -> bool {
        self.server.rest == 0
    }

    fn read_server(&mut self, buf: &[u8], events: &mut Vec<Event>) -> Result<UpstreamStep, Violation> {
        let mut forward = 0;
        loop {
            let rest = buf.get(forward..).unwrap_or_default();
            if self.server.rest > 0 {
                let bytes = self.server.rest.min(rest.len());
                self.server.rest -= bytes;
                forward += bytes;
                if self.server.rest > 0 {
                    return Ok(UpstreamStep { forward, replaced: None, bytes_min: 1 });
                }
                continue;
            }
            let header = match Header::read(rest) {
                None => return Ok(UpstreamStep { forward, replaced: None, bytes_min: HEADER_BYTES }),
                Some(None) => return Err(Violation::Server("a message has an impossible length")),
                Some(Some(header)) => header,
            };
            // Data and descriptions pass by their headers; the rest is read.
            let streamed = matches!(header.kind, b'D' | b'd' | b'T' | b't' | b'V' | b'N' | b'A');
            let there = header.total.min(rest.len());
            if !streamed && there < header.total {
                if header.total > self.limits.server_message_bytes_max {
                    return Err(Violation::Server("a message is longer than any of its type should be"));
                }
                return Ok(UpstreamStep { forward, replaced: None, bytes_min: header.total });
            }
            let body = rest.get(HEADER_BYTES..there).unwrap_or_default();
            self.server.bytes += header.total as u64;
            match self.answer(header, body, events)? {
                None => {
                    self.server.rest = header.total - there;
                    forward += there;
                }
                Some(with) => {
                    let replaced = Some(Replaced { bytes: header.total, with });
                    return Ok(UpstreamStep { forward, replaced, bytes_min: 0 });
                }
            }
        }
    }

    /// One message of the server; answers what the client sees instead, if anything.
    fn answer(
        &mut self,
        header: Header,
        body: &[u8],
        events: &mut Vec<Event>,
    ) -> Result<Option<Vec<u8>>, Violation> {
        let unexplained = Violation::ServerMessage { kind: header.kind.into() };
        if matches!(self.phase, Phase::Opening | Phase::Starting) {
            return Err(unexplained);
        }
        match header.kind {
            b'N' | b'A' => Ok(None),
            b'S' => self.parameter(body).map(|()| None),
            b'E' => self.error(body, events),
            b'Z' => self.ready(body, events, unexplained).map(|()| None),
            b'R' | b'K' | b'v' => {
                if !matches!(self.replies.front(), Some(Expect::Startup)) {
                    return Err(unexplained);
                }
                match header.kind {
                    b'R' => self.authentication(body)?,
                    b'K' => events.push(Event::Key(body.into())),
                    _ => {}
                }
                Ok(None)
            }
            _ => self.reply(header, body, events, unexplained).map(|()| None),
        }
    }

    /// An answer to a query or an extended request.
    fn reply(
        &mut self,
        header: Header,
        body: &[u8],
        events: &mut Vec<Event>,
        unexplained: Violation,
    ) -> Result<(), Violation> {
        let runs = |front: &Expect| matches!(front, Expect::Query(_) | Expect::Execute(_));
        match header.kind {
            b'D' => {
                self.replies.fit(runs).ok_or(unexplained)?;
                self.server.rows_seen += 1;
            }
            b'd' | b'c' | b'H' => {
                self.replies.fit(runs).ok_or(unexplained)?;
            }
            b'1' => {
                let parse = self.replies.take(|front| matches!(front, Expect::Parse { denied: None, .. }));
                let Some(Expect::Parse { seq, name, .. }) = parse else { return Err(unexplained) };
                self.statements.confirm(&name, seq);
            }
            b'2' => {
                let bind = self.replies.take(|front| matches!(front, Expect::Bind { .. }));
                let Some(Expect::Bind { seq, portal }) = bind else { return Err(unexplained) };
                self.portals.confirm(&portal, seq);
            }
            b'3' => {
                let close = self.replies.take(|front| matches!(front, Expect::Close { .. }));
                let Some(Expect::Close { seq, portal, name }) = close else { return Err(unexplained) };
                if portal {
                    self.portals.closed(&name, seq);
                } else {
                    self.statements.closed(&name, seq);
                }
            }
            b't' => {
                self.replies.fit(|front| matches!(front, Expect::Describe)).ok_or(unexplained)?;
            }
            b'n' => {
                self.replies.take(|front| matches!(front, Expect::Describe)).ok_or(unexplained)?;
            }
            b'T' => {
                let fits = |front: &Expect| matches!(front, Expect::Describe | Expect::Query(_));
                if matches!(self.replies.fit(fits).ok_or(unexplained)?, Expect::Describe) {
                    self.replies.take(fits);
                }
            }
            b'C' | b'I' | b's' => {
                let front = self.replies.fit(runs).ok_or(unexplained)?;
                let over = matches!(front, Expect::Execute(_));
                let rows = if header.kind == b'C' { rows_of(body) } else { Some(self.server.rows_seen) };
                self.server.rows = match (self.server.rows, rows) {
                    (Some(before), Some(more)) => Some(before + more),
                    (before, more) => before.or(more),
                };
                self.server.rows_seen = 0;
                self.end_copy();
                if over && let Some(Expect::Execute(command)) = self.replies.take(runs) {
                    self.finish(&command, events);
                }
            }
            b'G' => {
                self.replies.fit(runs).ok_or(unexplained)?;
                let ended = self.replies.copy_in().map_err(|()| {
                    Violation::Client("it sent more requests behind a COPY that waits for its data")
                })?;
                self.copying_in = !ended;
            }
            b'V' => {
                self.replies.fit(|front| matches!(front, Expect::Function(_))).ok_or(unexplained)?;
            }
            // CopyBoth belongs to replication, which is refused; so is what no version of the protocol has.
            _ => return Err(unexplained),
        }
        Ok(())
    }

    /// The COPY is over, with whatever result.
    fn end_copy(&mut self) {
        self.copying_in = false;
        self.dropped_sync = false;
    }

    fn error(&mut self, body: &[u8], events: &mut Vec<Event>) -> Result<Option<Vec<u8>>, Violation> {
        let text = |field| String::from_utf8_lossy(error_field(body, field).unwrap_or_default()).into_owned();
        // The untranslated severity, which 9.6 and later send. Anything worse ends the connection.
        let fatal = matches!(error_field(body, b'V'), Some(b"FATAL" | b"PANIC"));
        let extended = match self.replies.front() {
            None | Some(Expect::Startup | Expect::Sync { .. } | Expect::CopyEnd) => return Ok(None),
            Some(Expect::Query(_) | Expect::Function(_)) => false,
            Some(
                Expect::Parse { .. }
                | Expect::Bind { .. }
                | Expect::Describe
                | Expect::Close { .. }
                | Expect::Execute(_),
            ) => true,
        };
        if self.copying_in && self.dropped_sync {
            return Err(Violation::Client("it sent a Sync into COPY data that the server then refused"));
        }
        self.end_copy();
        let denial = match self.replies.front() {
            Some(Expect::Query(command) | Expect::Function(command) | Expect::Execute(command)) => {
                command.denial.clone()
            }
            Some(Expect::Parse { denied: Some(command), .. }) => command.denial.clone(),
            _ => None,
        };
        let denial = denial.filter(|_| !fatal);
        self.server.error = Some(match &denial {
            Some(denial) => (poison::SQLSTATE.into(), denial.clone()),
            None => (text(b'C').into(), text(b'M').into()),
        });
        if extended {
            let (skipped, sync) = self.replies.skip_to_sync();
            // Without a Sync on its way the server waits for one, and ignores everything before it.
            self.skipping = !sync && !fatal;
            let mut skipped = skipped.into_iter();
            if let Some(failed) = skipped.next() {
                self.drop_expectation(failed, events);
            }
            let reason = "an earlier error of the same pipeline made the server skip this command";
            for expect in skipped {
                self.server.error = Some(("".into(), reason.into()));
                self.drop_expectation(expect, events);
            }
        }
        Ok(denial.map(|denial| poison::error(&denial)))
    }

    /// A request that failed or was skipped.
    fn drop_expectation(&mut self, expect: Expect, events: &mut Vec<Event>) {
        match expect {
            Expect::Parse { seq, name, denied } => {
                self.statements.failed(&name, seq);
                if let Some(command) = denied {
                    self.finish(&command, events);
                }
            }
            Expect::Bind { seq, portal } => self.portals.failed(&portal, seq),
            Expect::Execute(command) | Expect::Query(command) | Expect::Function(command) => {
                self.finish(&command, events);
            }
            Expect::Startup
            | Expect::Describe
            | Expect::Close { .. }
            | Expect::Sync { .. }
            | Expect::CopyEnd => {}
        }
    }

    fn ready(
        &mut self,
        body: &[u8],
        events: &mut Vec<Event>,
        unexplained: Violation,
    ) -> Result<(), Violation> {
        let [status @ (b'I' | b'T' | b'E')] = *body else {
            return Err(Violation::Server("a ReadyForQuery is malformed"));
        };
        match self.replies.take_ready().ok_or(unexplained)? {
            Expect::Startup if self.phase != Phase::Over => self.phase = Phase::Ready,
            Expect::Query(command) | Expect::Function(command) => self.finish(&command, events),
            _ => {}
        }
        self.end_copy();
        self.server.status = status;
        if status == b'I' {
            self.portals.forget_confirmed();
        }
        self.reset_tally();
        events.push(Event::Ready { status });
        Ok(())
    }

    fn finish(&mut self, command: &Command, events: &mut Vec<Event>) {
        events.push(Event::Outcome(Outcome {
            command: command.number,
            rows: self.server.rows.take(),
            bytes: std::mem::take(&mut self.server.bytes),
            error: self.server.error.take(),
        }));
        self.reset_tally();
    }

    fn reset_tally(&mut self) {
        self.server.rows = None;
        self.server.rows_seen = 0;
        self.server.bytes = 0;
        self.server.error = None;
    }

    /// Authentication requests (manual, "Message Formats", Authentication…).
    fn authentication(&mut self, body: &[u8]) -> Result<(), Violation> {
        let code = read_u32(body).ok_or(Violation::Server("an authentication request is malformed"))?;
        let password = match code {
            0 | 12 => false,         // Ok, SASLFinal
            3 | 5 | 10 | 11 => true, // cleartext, MD5, SASL, SASLContinue
            _ => return Err(Violation::Server("it wants an authentication that lineal does not relay")),
        };
        if self.phase != Phase::Over {
            self.phase = Phase::Authenticating { password };
        }
        Ok(())
    }

    /// Settings that say how text is read must stay as the analysis assumes them.
    fn parameter(&self, body: &[u8]) -> Result<(), Violation> {
        let malformed = Violation::Server("a ParameterStatus is malformed");
        let (name, rest) = read_cstr(body).ok_or_else(|| malformed.clone())?;
        let (value, _) = read_cstr(rest).ok_or(malformed)?;
        let (name, good): (_, &[&[u8]]) = match name {
            b"standard_conforming_strings" => ("standard_conforming_strings", &[b"on"]),
            b"client_encoding" => ("client_encoding", &[b"UTF8", b"SQL_ASCII"]),
            _ => return Ok(()),
        };
        if good.contains(&value) {
            return Ok(());
        }
        Err(Violation::Setting { name, value: String::from_utf8_lossy(value).into_owned() })
    }
}

/// The number at the end of a command tag: `SELECT 5`, `INSERT 0 5`.
fn rows_of(body: &[u8]) -> Option<u64> {
    let (tag, _) = read_cstr(body)?;
    str::from_utf8(tag).ok()?.rsplit(' ').next()?.parse().ok()
}
