//! The client's half of a session: what each of its messages asks for, and what is forwarded.
//!
//! The rule that everything here serves: a Query, Parse, Execute or FunctionCall reaches the server only
//! through [`Session::allow`]. There is no other way to have its bytes forwarded.

use std::sync::Arc;

use super::{
    poison,
    replies::{Command, Expect, Replies},
    startup::{self, Opening, Startup},
    statements::{Full, Names, Seq},
    violation::Violation,
    wire::{HEADER_BYTES, Header, read_cstr, read_u32},
};

/// Longest message that the server takes (`MaxAllocSize`); it hangs up on a longer one.
const MESSAGE_BYTES_MAX: usize = 0x3fff_ffff;

/// The bounds of one session.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Longest statement text that is judged; a longer one is denied without being kept.
    pub statement_bytes_max: usize,
    /// Longest message that only names things, and how far into a Bind its names must end.
    pub naming_bytes_max: usize,
    /// Requests whose answers are awaited; the client isn't read beyond.
    pub pipeline_max: usize,
    /// Statements by name.
    pub statements_max: usize,
    /// Portals by name.
    pub portals_max: usize,
    /// Longest message of the server that is read whole: errors, mostly.
    pub server_message_bytes_max: usize,
    /// Longest Bind whose parameters are kept for the trail.
    pub parameters_bytes_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            statement_bytes_max: 1 << 20,
            naming_bytes_max: 4 << 10,
            pipeline_max: 4_096,
            statements_max: 4_096,
            portals_max: 1_024,
            server_message_bytes_max: 1 << 20,
            parameters_bytes_max: 16 << 10,
        }
    }
}

/// A prepared statement that was allowed.
#[derive(Debug)]
pub struct Statement<N> {
    /// Its text.
    pub text: Box<[u8]>,
    /// What the executor noted when it allowed the Parse.
    pub note: N,
}

/// What a Bind made: a portal over a statement.
#[derive(Debug)]
pub struct Bound<N> {
    /// The statement's name.
    pub statement: Box<[u8]>,
    /// What that name can stand for; empty when no Parse ever gave it a meaning.
    pub candidates: Vec<Arc<Statement<N>>>,
    /// The parameters.
    pub parameters: Parameters,
}

/// A Bind's parameters.
#[derive(Debug, Default)]
pub struct Parameters {
    /// Values in order, `None` for null, each with whether it is in binary format.
    pub values: Vec<(Option<Box<[u8]>>, bool)>,
    /// The Bind was longer than [`Limits::parameters_bytes_max`], or malformed: the values aren't here.
    pub omitted: bool,
}

/// What policy must be asked.
#[derive(Debug)]
pub enum Question<'a, N> {
    /// A simple query: one text, any number of statements.
    Query {
        /// The text.
        text: &'a [u8],
    },
    /// A statement to prepare.
    Parse {
        /// Its name.
        name: &'a [u8],
        /// Its text.
        text: &'a [u8],
    },
    /// A portal to execute. It runs one of these, newest first; all of them must be allowed. None at all means
    /// that the session never saw the portal made.
    Execute {
        /// What the portal can be.
        portals: Vec<Arc<Bound<N>>>,
    },
    /// A function to call by its OID.
    Function {
        /// The OID.
        oid: u32,
    },
    /// A statement longer than [`Limits::statement_bytes_max`]: it can only be denied.
    Oversized {
        /// How long its message is.
        bytes: usize,
    },
}

/// What to do with what the client sent.
#[derive(Debug)]
pub struct ClientStep<'a, N> {
    /// So many bytes are forwarded as they came; the rest of the step is about the bytes behind them.
    pub forward: usize,
    /// What comes next.
    pub then: Then<'a, N>,
}

/// What to do with the client's next bytes.
#[derive(Debug)]
pub enum Then<'a, N> {
    /// Read more: the next message is this long, as far as can be told.
    More {
        /// Bytes that must be there, from the first one not forwarded.
        bytes_min: usize,
    },
    /// Read on when the server has answered.
    Wait,
    /// So many bytes go nowhere.
    Drop {
        /// How many.
        bytes: usize,
    },
    /// So many bytes are answered here.
    Reply {
        /// How many.
        bytes: usize,
        /// The answer.
        answer: &'static [u8],
    },
    /// The client asks for a session; if it may have one, [`Session::start`] and forward these bytes.
    Start {
        /// How many.
        bytes: usize,
        /// What it asks for.
        startup: Startup,
    },
    /// The client asks to cancel what another connection runs; this one ends here.
    Cancel {
        /// How many.
        bytes: usize,
    },
    /// Policy must be asked. After [`Session::allow`] these bytes are forwarded, after [`Session::deny`] what
    /// that wrote.
    Ask {
        /// How many.
        bytes: usize,
        /// The command's number.
        command: u64,
        /// What is asked.
        question: Question<'a, N>,
    },
}

/// Where a session stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Nothing but requests for encryption so far.
    Opening,
    /// The startup message is there, and nothing decided yet.
    Starting,
    /// The server authenticates the client; `password` when it waits for a message of that kind.
    Authenticating { password: bool },
    /// Commands.
    Ready,
    /// The client has said goodbye.
    Over,
}

/// What was asked and not answered yet.
enum Asked<N> {
    Query,
    Parse {
        name: Box<[u8]>,
        text: Box<[u8]>,
    },
    Execute,
    Function,
    /// Its message's remaining bytes go nowhere.
    Oversized {
        parse: Option<Box<[u8]>>,
        rest: usize,
    },
    _Note(std::marker::PhantomData<N>),
}

/// One session. `N` is what the executor notes with each prepared statement.
pub struct Session<N> {
    pub(super) limits: Limits,
    pub(super) phase: Phase,
    pub(super) replies: Replies,
    pub(super) statements: Names<Statement<N>>,
    pub(super) portals: Names<Bound<N>>,
    pub(super) seq: Seq,
    pub(super) last_sync: Seq,
    pub(super) copying_in: bool,
    /// The client's Syncs while it was sending COPY data; the server ignores them, so they were dropped.
    pub(super) dropped_sync: bool,
    /// The server ignores everything until a Sync that hasn't been sent yet.
    pub(super) skipping: bool,
    pub(super) poisoned: Option<Violation>,
    next_command: u64,
    asked: Option<(u64, Asked<N>)>,
    /// Bytes left of a message that is forwarded or dropped in pieces.
    client_rest: usize,
    client_rest_dropped: bool,
    denied_portal: Box<[u8]>,
    pub(super) server: super::server::ServerState,
}

impl<N> Session<N> {
    /// A session at its start. `nonce` is random: it names the portal that stands for denied ones.
    pub fn new(limits: Limits, nonce: u64) -> Self {
        Self {
            limits,
            phase: Phase::Opening,
            replies: Replies::default(),
            statements: Names::new(limits.statements_max),
            portals: Names::new(limits.portals_max),
            seq: 0,
            last_sync: 0,
            copying_in: false,
            dropped_sync: false,
            skipping: false,
            poisoned: None,
            next_command: 1,
            asked: None,
            client_rest: 0,
            client_rest_dropped: false,
            denied_portal: poison::portal_name(nonce),
            server: super::server::ServerState::default(),
        }
    }

    /// Takes in what the client sent. One error ends the session for good.
    pub fn client<'a>(&mut self, buf: &'a [u8]) -> Result<ClientStep<'a, N>, Violation> {
        if let Some(violation) = &self.poisoned {
            return Err(violation.clone());
        }
        let step = self.read_client(buf);
        if let Err(violation) = &step {
            self.poisoned = Some(violation.clone());
        }
        step
    }

    /// The client may have its session: its startup message is forwarded.
    pub fn start(&mut self) {
        if self.phase == Phase::Starting {
            self.phase = Phase::Authenticating { password: false };
            self.replies.push(Expect::Startup);
        }
    }

    /// The command that was asked about is allowed; its bytes are forwarded as they came. `note` is kept with
    /// a statement to prepare.
    pub fn allow(&mut self, note: N) -> Result<(), Violation> {
        let Some((number, asked)) = self.asked.take() else { return Ok(()) };
        let seq = self.next_seq();
        let command = Command { number, denial: None };
        match asked {
            Asked::Query => self.replies.push(Expect::Query(command)),
            Asked::Execute => self.replies.push(Expect::Execute(command)),
            Asked::Function => self.replies.push(Expect::Function(command)),
            Asked::Parse { name, text } => {
                let statement = Arc::new(Statement { text, note });
                self.statements.sent(&name, seq, statement).map_err(|Full| Violation::Bound {
                    what: "prepared statements",
                    max: self.limits.statements_max,
                })?;
                self.replies.push(Expect::Parse { seq, name, denied: None });
            }
            Asked::Oversized { .. } | Asked::_Note(_) => {
                return Err(Violation::Client("a statement too long to be judged was sent on"));
            }
        }
        Ok(())
    }

    /// The command that was asked about is denied: its bytes go nowhere, and what must be sent in their place
    /// is appended to `out`. The client will be told `message`.
    pub fn deny(&mut self, message: &str, out: &mut Vec<u8>) {
        let Some((number, asked)) = self.asked.take() else { return };
        let seq = self.next_seq();
        let command = Command { number, denial: Some(message.into()) };
        let mut parse = |session: &mut Self, name: Box<[u8]>, command| {
            poison::parse(out, &name);
            session.replies.push(Expect::Parse { seq, name, denied: Some(command) });
        };
        match asked {
            Asked::Parse { name, .. } => parse(self, name, command),
            Asked::Oversized { parse: Some(name), rest } => {
                parse(self, name, command);
                (self.client_rest, self.client_rest_dropped) = (rest, true);
            }
            Asked::Query => {
                poison::query(out);
                self.replies.push(Expect::Query(command));
            }
            Asked::Oversized { parse: None, rest } => {
                poison::query(out);
                self.replies.push(Expect::Query(command));
                (self.client_rest, self.client_rest_dropped) = (rest, true);
            }
            Asked::Execute => {
                poison::execute(out, &self.denied_portal);
                self.replies.push(Expect::Execute(command));
            }
            Asked::Function => {
                poison::function_call(out);
                self.replies.push(Expect::Function(command));
            }
            Asked::_Note(_) => {}
        }
    }

    /// What a statement's name can stand for, for SQL's own `EXECUTE`.
    pub fn prepared(&self, name: &[u8]) -> Vec<Arc<Statement<N>>> {
        self.statements.candidates(name, self.seq + 1).map(Arc::clone).collect()
    }

    /// Whether nothing is under way: no request unanswered, no transaction open.
    pub fn is_idle(&self) -> bool {
        self.phase == Phase::Ready && self.replies.is_empty() && self.server.status == b'I'
    }

    fn next_seq(&mut self) -> Seq {
        self.seq += 1;
        self.seq
    }

    fn read_client<'a>(&mut self, buf: &'a [u8]) -> Result<ClientStep<'a, N>, Violation> {
        if self.asked.is_some() {
            return Ok(ClientStep { forward: 0, then: Then::Wait });
        }
        if matches!(self.phase, Phase::Opening | Phase::Starting) {
            return self.open(buf);
        }
        let mut forward = 0;
        loop {
            let rest = buf.get(forward..).unwrap_or_default();
            if self.client_rest > 0 {
                let bytes = self.client_rest.min(rest.len());
                if bytes == 0 {
                    return Ok(ClientStep { forward, then: Then::More { bytes_min: 1 } });
                }
                self.client_rest -= bytes;
                if self.client_rest_dropped {
                    return Ok(ClientStep { forward, then: Then::Drop { bytes } });
                }
                forward += bytes;
                continue;
            }
            let header = match Header::read(rest) {
                None => return Ok(ClientStep { forward, then: Then::More { bytes_min: HEADER_BYTES } }),
                Some(None) => return Err(Violation::Client("a message has an impossible length")),
                Some(Some(header)) => header,
            };
            match self.message(header, rest)? {
                Message::Forward(bytes) => forward += bytes,
                Message::Then(then) => return Ok(ClientStep { forward, then }),
            }
        }
    }

    fn open<'a>(&mut self, buf: &'a [u8]) -> Result<ClientStep<'a, N>, Violation> {
        if self.phase == Phase::Starting {
            return Ok(ClientStep { forward: 0, then: Then::Wait });
        }
        let then = match startup::read(buf)? {
            Opening::More { bytes_min } => Then::More { bytes_min },
            Opening::Encryption { bytes } => Then::Reply { bytes, answer: b"N" },
            Opening::Cancel { bytes } => {
                self.phase = Phase::Over;
                Then::Cancel { bytes }
            }
            Opening::Start { bytes, startup } => {
                self.phase = Phase::Starting;
                Then::Start { bytes, startup }
            }
        };
        Ok(ClientStep { forward: 0, then })
    }

    /// One message of the client, of which `bytes` holds at least the header.
    fn message<'a>(&mut self, header: Header, bytes: &'a [u8]) -> Result<Message<'a, N>, Violation> {
        if header.total > MESSAGE_BYTES_MAX {
            let bytes_max = MESSAGE_BYTES_MAX;
            return Err(Violation::ClientOversized { what: "a message", bytes: header.total, bytes_max });
        }
        let unexpected = |when| Violation::ClientMessage { kind: header.kind.into(), when };
        match self.phase {
            Phase::Over => return Err(unexpected("after its goodbye")),
            Phase::Authenticating { password } => {
                return match header.kind {
                    b'X' => self.goodbye(header, bytes),
                    b'p' if password => {
                        if header.total > 64 << 10 {
                            let bytes_max = 64 << 10;
                            let what = "a password message";
                            return Err(Violation::ClientOversized { what, bytes: header.total, bytes_max });
                        }
                        if bytes.len() < header.total {
                            return Ok(more(header.total));
                        }
                        self.phase = Phase::Authenticating { password: false };
                        Ok(Message::Forward(header.total))
                    }
                    // Sent ahead of the server's word, as some clients do: it is read when they are through.
                    _ => Ok(Message::Then(Then::Wait)),
                };
            }
            Phase::Opening | Phase::Starting | Phase::Ready => {}
        }
        if self.replies.len() >= self.limits.pipeline_max {
            return Ok(Message::Then(Then::Wait));
        }
        match header.kind {
            b'd' => Ok(self.stream(header, bytes)),
            b'c' | b'f' => {
                if self.copying_in {
                    self.copying_in = false;
                } else if !self.replies.is_empty() {
                    self.replies.push(Expect::CopyEnd);
                }
                Ok(self.stream(header, bytes))
            }
            b'X' => self.goodbye(header, bytes),
            b'H' | b'S' if self.copying_in => {
                self.dropped_sync |= header.kind == b'S';
                Ok(self.discard(header, bytes))
            }
            _ if self.copying_in => Err(unexpected("while it sends COPY data")),
            b'S' => {
                self.skipping = false;
                self.last_sync = self.next_seq();
                self.replies.push(Expect::Sync { doubtful: false });
                Ok(self.stream(header, bytes))
            }
            b'Q' | b'P' | b'B' | b'D' | b'C' | b'E' | b'F' | b'H' if self.skipping => {
                Ok(self.discard(header, bytes))
            }
            b'H' => Ok(self.stream(header, bytes)),
            b'Q' => self.query(header, bytes),
            b'P' => self.parse(header, bytes),
            b'B' => self.bind(header, bytes),
            b'D' | b'C' => self.describe_or_close(header, bytes),
            b'E' => self.execute(header, bytes),
            b'F' => self.function_call(header, bytes),
            _ => Err(unexpected("here")),
        }
    }

    fn query<'a>(&mut self, header: Header, bytes: &'a [u8]) -> Result<Message<'a, N>, Violation> {
        if header.total > self.limits.statement_bytes_max + HEADER_BYTES + 1 {
            return Ok(self.oversized(header, None));
        }
        let Some(body) = bytes.get(HEADER_BYTES..header.total) else { return Ok(more(header.total)) };
        let (text, after) = read_cstr(body).ok_or(Violation::Client("a query has no end"))?;
        if !after.is_empty() {
            return Err(Violation::Client("a query goes on behind its end"));
        }
        Ok(self.ask(header.total, Asked::Query, Question::Query { text }))
    }

    fn parse<'a>(&mut self, header: Header, bytes: &'a [u8]) -> Result<Message<'a, N>, Violation> {
        let malformed = || Violation::Client("a Parse is malformed");
        // The statement's text, its name, and 16-bit counts of parameter types.
        let longest = self.limits.statement_bytes_max + self.limits.naming_bytes_max + 4 * 65_535;
        if header.total > longest {
            let name = self.leading_name(header, bytes, 0)?;
            let Some((name, _)) = name else {
                return Ok(more(self.limits.naming_bytes_max.min(header.total)));
            };
            let name = name.into();
            return Ok(self.oversized(header, Some(name)));
        }
        let Some(body) = bytes.get(HEADER_BYTES..header.total) else { return Ok(more(header.total)) };
        let (name, after) = read_cstr(body).ok_or_else(malformed)?;
        let (text, types) = read_cstr(after).ok_or_else(malformed)?;
        let count = types.first_chunk().map(|count| u16::from_be_bytes(*count)).ok_or_else(malformed)?;
        if types.len() != 2 + 4 * usize::from(count) {
            return Err(malformed());
        }
        if text.len() > self.limits.statement_bytes_max {
            let name = name.into();
            return Ok(self.oversized(header, Some(name)));
        }
        let asked = Asked::Parse { name: name.into(), text: text.into() };
        Ok(self.ask(header.total, asked, Question::Parse { name, text }))
    }

    fn bind<'a>(&mut self, header: Header, bytes: &'a [u8]) -> Result<Message<'a, N>, Violation> {
        let kept = header.total <= self.limits.parameters_bytes_max;
        if kept && bytes.len() < header.total {
            return Ok(more(header.total));
        }
        let longest = self.limits.naming_bytes_max.min(header.total);
        let Some((portal, at)) = self.leading_name(header, bytes, 0)? else { return Ok(more(longest)) };
        let Some((statement, at)) = self.leading_name(header, bytes, at)? else { return Ok(more(longest)) };
        if super::statements::kept(portal) == &*self.denied_portal {
            return Err(Violation::Client("a portal has a name that is kept for denials"));
        }
        let parameters = match bytes.get(HEADER_BYTES + at..header.total) {
            Some(rest) if kept => {
                Parameters::read(rest).unwrap_or(Parameters { values: vec![], omitted: true })
            }
            _ => Parameters { values: Vec::new(), omitted: true },
        };
        let candidates = self.statements.candidates(statement, self.last_sync).map(Arc::clone).collect();
        let bound = Arc::new(Bound { statement: statement.into(), candidates, parameters });
        let seq = self.next_seq();
        self.portals
            .sent(portal, seq, bound)
            .map_err(|Full| Violation::Bound { what: "portals", max: self.limits.portals_max })?;
        self.replies.push(Expect::Bind { seq, portal: portal.into() });
        Ok(self.stream(header, bytes))
    }

    fn describe_or_close<'a>(
        &mut self,
        header: Header,
        bytes: &'a [u8],
    ) -> Result<Message<'a, N>, Violation> {
        let body = match self.naming(header, bytes)? {
            Some(body) => body,
            None => return Ok(more(header.total)),
        };
        let malformed = || Violation::Client("a Describe or Close is malformed");
        let (kind, name) = body.split_first().ok_or_else(malformed)?;
        let (name, after) = read_cstr(name).ok_or_else(malformed)?;
        if !after.is_empty() || !matches!(kind, b'S' | b'P') {
            return Err(malformed());
        }
        let seq = self.next_seq();
        self.replies.push(if header.kind == b'D' {
            Expect::Describe
        } else {
            Expect::Close { seq, portal: *kind == b'P', name: name.into() }
        });
        Ok(Message::Forward(header.total))
    }

    fn execute<'a>(&mut self, header: Header, bytes: &'a [u8]) -> Result<Message<'a, N>, Violation> {
        let body = match self.naming(header, bytes)? {
            Some(body) => body,
            None => return Ok(more(header.total)),
        };
        let (portal, rows) = read_cstr(body).ok_or(Violation::Client("an Execute is malformed"))?;
        if rows.len() != 4 {
            return Err(Violation::Client("an Execute is malformed"));
        }
        let portals = self.portals.candidates(portal, self.last_sync).map(Arc::clone).collect();
        Ok(self.ask(header.total, Asked::Execute, Question::Execute { portals }))
    }

    fn function_call<'a>(&mut self, header: Header, bytes: &'a [u8]) -> Result<Message<'a, N>, Violation> {
        if header.total > self.limits.statement_bytes_max {
            let bytes_max = self.limits.statement_bytes_max;
            return Err(Violation::ClientOversized {
                what: "a FunctionCall",
                bytes: header.total,
                bytes_max,
            });
        }
        let Some(body) = bytes.get(HEADER_BYTES..header.total) else { return Ok(more(header.total)) };
        let oid = read_u32(body).ok_or(Violation::Client("a FunctionCall is malformed"))?;
        Ok(self.ask(header.total, Asked::Function, Question::Function { oid }))
    }

    fn goodbye<'a>(&mut self, header: Header, bytes: &'a [u8]) -> Result<Message<'a, N>, Violation> {
        if header.total != HEADER_BYTES {
            return Err(Violation::Client("a Terminate has a body"));
        }
        self.phase = Phase::Over;
        Ok(self.stream(header, bytes))
    }

    /// The body of a message that only names things.
    fn naming<'a>(&self, header: Header, bytes: &'a [u8]) -> Result<Option<&'a [u8]>, Violation> {
        let bytes_max = self.limits.naming_bytes_max;
        if header.total > bytes_max {
            return Err(Violation::ClientOversized { what: "a name", bytes: header.total, bytes_max });
        }
        Ok(bytes.get(HEADER_BYTES..header.total))
    }

    /// The name that starts `at` bytes into a message's body, and where it ends; `None` while it isn't all there.
    fn leading_name<'a>(
        &self,
        header: Header,
        bytes: &'a [u8],
        at: usize,
    ) -> Result<Option<(&'a [u8], usize)>, Violation> {
        let bytes_max = self.limits.naming_bytes_max.min(header.total);
        let there = bytes.get(HEADER_BYTES + at..bytes.len().min(bytes_max)).unwrap_or_default();
        match read_cstr(there) {
            Some((name, _)) => Ok(Some((name, at + name.len() + 1))),
            None if bytes.len() < bytes_max => Ok(None),
            None => Err(Violation::ClientOversized { what: "a name", bytes: bytes.len(), bytes_max }),
        }
    }

    fn oversized<'a>(&mut self, header: Header, parse: Option<Box<[u8]>>) -> Message<'a, N> {
        // The header is consumed now, the body as it comes.
        let asked = Asked::Oversized { parse, rest: header.total - HEADER_BYTES };
        self.ask(HEADER_BYTES, asked, Question::Oversized { bytes: header.total })
    }

    fn ask<'a>(&mut self, bytes: usize, asked: Asked<N>, question: Question<'a, N>) -> Message<'a, N> {
        let command = self.next_command;
        self.next_command += 1;
        self.asked = Some((command, asked));
        Message::Then(Then::Ask { bytes, command, question })
    }

    /// Forwards a message, its remainder as it comes.
    fn stream<'a>(&mut self, header: Header, bytes: &'a [u8]) -> Message<'a, N> {
        let there = header.total.min(bytes.len());
        (self.client_rest, self.client_rest_dropped) = (header.total - there, false);
        Message::Forward(there)
    }

    /// Drops a message, its remainder as it comes.
    fn discard<'a>(&mut self, header: Header, bytes: &'a [u8]) -> Message<'a, N> {
        let there = header.total.min(bytes.len());
        (self.client_rest, self.client_rest_dropped) = (header.total - there, true);
        Message::Then(Then::Drop { bytes: there })
    }
}

/// What one message comes to.
enum Message<'a, N> {
    Forward(usize),
    Then(Then<'a, N>),
}

fn more<'a, N>(bytes_min: usize) -> Message<'a, N> {
    Message::Then(Then::More { bytes_min })
}

impl Parameters {
    /// Reads a Bind from its parameter format codes on (manual, "Message Formats", Bind).
    fn read(bytes: &[u8]) -> Option<Self> {
        let (count, mut rest) = split_u16(bytes)?;
        let mut formats = Vec::with_capacity(usize::from(count));
        for _ in 0..count {
            let (format, after) = split_u16(rest)?;
            formats.push(format == 1);
            rest = after;
        }
        let (count, mut rest) = split_u16(rest)?;
        let mut values = Vec::with_capacity(usize::from(count));
        for index in 0..usize::from(count) {
            let length = read_u32(rest)?;
            rest = rest.get(4..)?;
            let binary = match formats.as_slice() {
                [] => false,
                [all] => *all,
                each => *each.get(index)?,
            };
            if length == u32::MAX {
                values.push((None, binary));
                continue;
            }
            let value = rest.get(..length as usize)?;
            rest = rest.get(length as usize..)?;
            values.push((Some(value.into()), binary));
        }
        Some(Self { values, omitted: false })
    }
}

fn split_u16(bytes: &[u8]) -> Option<(u16, &[u8])> {
    let (word, rest) = bytes.split_first_chunk()?;
    Some((u16::from_be_bytes(*word), rest))
}
