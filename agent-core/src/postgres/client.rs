//! The client's half: which of its messages are forwarded as they are, which are judged, and which are
//! replaced.
//!
//! Query, Parse, Execute, FunctionCall and a Bind that names its portal must never get into the run of forwarded
//! bytes except out of [`Session::rule`], for a [`Grant`].

use std::ops::Range;

use super::event::CancelKey;
use super::fault::{ClientFault, Misuse, Violation};
use super::poison::{self, Denial};
use super::question::{Candidates, Excess, Question};
use super::replies::{BindMade, Expect, ParseMade};
use super::session::{Answer, Authentication, Phase, Rest, Session};
use super::startup::{self, First, MINOR_VERSION_MAX, Startup};
use super::statements::{Portal, Statement};
use super::wire::{self, Fields, HEADER_BYTES, Header, Severity};
use crate::ruling::{Admission, Permit, Preparation};

/// The server's limit on messages that carry data or text (`PQ_LARGE_MESSAGE_LIMIT`).
const LARGE_BODY_BYTES_MAX: usize = 0x3fff_ffff - 4;
/// Its limit on all others (`PQ_SMALL_MESSAGE_LIMIT`).
const SMALL_BODY_BYTES_MAX: usize = 10_000 - 4;
/// Its limit on passwords and other authentication tokens (`PG_MAX_AUTH_TOKEN_LENGTH`).
const TOKEN_BYTES_MAX: usize = 65_535 - 4;

/// How much of a SASLInitialResponse is looked at: the mechanism, a length, and the GS2 header's first byte.
const SASL_CHOICE_BYTES_MAX: usize = 64;

/// The longest name accepted in a message; the server cuts names at 63 bytes.
pub(super) const NAME_BYTES_MAX: usize = 255;

/// What [`Session::client`] will hand out.
#[derive(Debug)]
pub(super) enum Next {
    NeedMore(usize),
    Wait,
    Forward(usize),
    /// What to send is in `composed`.
    Replace {
        consumed: usize,
    },
    /// What to answer is in `composed`.
    Reply {
        consumed: usize,
    },
    Tls {
        consumed: usize,
    },
    Judge,
    Cancel(CancelKey),
    End,
}

/// A message that waits for its verdict. It starts behind the ready bytes.
#[derive(Debug)]
pub(super) struct Pending {
    pub(super) command: u64,
    pub(super) subject: Subject,
    /// Header and body.
    pub(super) bytes: usize,
    pub(super) ruling: Option<Ruling>,
}

/// The ruling on a pending message.
#[derive(Debug)]
pub(super) enum Ruling {
    /// It passes.
    Pass(Grant),
    /// It is kept back.
    Deny(Denial),
}

/// What lets a message pass. Only decisions make these, so that nothing here can make one up.
#[derive(Debug)]
pub(super) enum Grant {
    /// The session begins.
    Session(Admission),
    /// A command runs.
    Command(Permit),
    /// A Parse without a name is prepared.
    Preparation(Preparation),
}

/// What is judged. Ranges count from the message's first byte.
#[derive(Debug)]
pub(super) enum Subject {
    Startup(Box<Startup>),
    Query { text: Range<usize> },
    Parse { name: Range<usize>, statement: Statement },
    Bind { name: Range<usize>, portal: Portal },
    Execute { name: Range<usize>, portal: Option<Portal>, or_cursor: bool },
    FunctionCall { oid: u32 },
    Excess { excess: Excess, name: Range<usize> },
}

impl Pending {
    /// The question about it; `message` starts with the message.
    pub(super) fn question<'a>(&'a self, message: &'a [u8]) -> Question<'a> {
        let part = |range: &Range<usize>| message.get(range.clone()).unwrap_or_default();
        match &self.subject {
            Subject::Startup(startup) => Question::Startup(startup),
            Subject::Query { text } => Question::Simple { text: part(text) },
            Subject::Parse { name, statement } => Question::Prepare { name: part(name), statement },
            Subject::Bind { name, portal } => Question::Bind {
                portal: part(name),
                candidates: portal.candidates(),
                parameters: portal.parameters.as_ref(),
            },
            Subject::Execute { name, portal, or_cursor } => Question::Execute {
                portal: part(name),
                candidates: Candidates {
                    sql_cursor: or_cursor.then(|| part(name)),
                    ..portal.as_ref().map(Portal::candidates).unwrap_or_default()
                },
                parameters: portal.as_ref().and_then(|portal| portal.parameters.as_ref()),
            },
            Subject::FunctionCall { oid } => Question::Function { oid: *oid },
            Subject::Excess { excess, .. } => Question::Excess { excess: *excess, bytes: self.bytes },
        }
    }
}

impl Session {
    /// Goes through the client's bytes as far as possible.
    pub(super) fn advance_client(&mut self, buf: &[u8]) -> Result<Next, Violation> {
        if buf.len() < self.ready_bytes {
            return Err(Misuse::Buffer.into());
        }
        loop {
            let rest = buf.get(self.ready_bytes..).unwrap_or_default();
            if self.client_rest.bytes > 0 {
                let bytes = self.client_rest.bytes.min(rest.len());
                if bytes == 0 {
                    return Ok(self.flush_or(Next::NeedMore(1)));
                }
                if self.client_rest.dropped {
                    if self.ready_bytes > 0 {
                        return Ok(Next::Forward(self.take_ready()));
                    }
                    self.client_rest.bytes -= bytes;
                    self.composed.clear();
                    return Ok(Next::Replace { consumed: bytes });
                }
                self.client_rest.bytes -= bytes;
                self.ready_bytes += bytes;
                continue;
            }
            if self.pending.is_some() {
                match self.rule(rest)? {
                    Some(next) => return Ok(next),
                    None => continue,
                }
            }
            match self.client_message(rest)? {
                Some(next) => return Ok(next),
                None => continue,
            }
        }
    }

    /// Looks at the message at the start of `rest`. `None` where it joined the run of ready bytes.
    fn client_message(&mut self, rest: &[u8]) -> Result<Option<Next>, Violation> {
        match &mut self.phase {
            Phase::Ended => return Ok(Some(self.flush_or(Next::End))),
            Phase::Admission | Phase::Settings => return Ok(Some(self.flush_or(Next::Wait))),
            Phase::Startup(requested) => {
                return Ok(Some(match startup::read(rest, self.limits.startup_bytes_max, requested)? {
                    First::NeedMore(bytes) => Next::NeedMore(bytes),
                    First::Declined { bytes } => {
                        self.composed.clear();
                        self.composed.push(b'N');
                        Next::Reply { consumed: bytes }
                    }
                    First::Tls { bytes } => Next::Tls { consumed: bytes },
                    First::Cancel { key, .. } => {
                        self.phase = Phase::Ended;
                        Next::Cancel(key)
                    }
                    First::Startup { startup, bytes } => {
                        self.phase = Phase::Admission;
                        self.ask(Subject::Startup(Box::new(startup)), bytes)
                    }
                }));
            }
            Phase::Authentication(authentication) => {
                if authentication.answer == Answer::None {
                    return Ok(Some(self.flush_or(Next::Wait)));
                }
                let Some(header) = Header::read(rest) else {
                    return Ok(Some(self.flush_or(Next::NeedMore(HEADER_BYTES))));
                };
                if header.tag != b'p' {
                    return Err(out_of_place(header.tag, "during authentication"));
                }
                let body = bounded(header, TOKEN_BYTES_MAX)?;
                if authentication.bound_withheld {
                    let wanted = HEADER_BYTES + body.min(SASL_CHOICE_BYTES_MAX);
                    let Some(message) = rest.get(..wanted) else {
                        return Ok(Some(self.flush_or(Next::NeedMore(wanted))));
                    };
                    let choice = message.get(HEADER_BYTES..).unwrap_or_default();
                    if !is_unbound(choice) {
                        return Err(ClientFault::ChannelBinding.into());
                    }
                    authentication.bound_withheld = false;
                }
                authentication.answer = Answer::None;
                self.client_rest = Rest { bytes: HEADER_BYTES + body, dropped: false };
                return Ok(None);
            }
            Phase::Open => {}
        }
        let Some(header) = Header::read(rest) else {
            return Ok(Some(self.flush_or(Next::NeedMore(HEADER_BYTES))));
        };
        self.command_message(header, rest)
    }

    /// A message of the command phase.
    fn command_message(&mut self, header: Header, rest: &[u8]) -> Result<Option<Next>, Violation> {
        let body_bytes_max = match header.tag {
            b'Q' | b'P' | b'B' | b'F' | b'd' => LARGE_BODY_BYTES_MAX,
            b'E' | b'D' | b'C' | b'c' | b'f' => SMALL_BODY_BYTES_MAX,
            b'S' | b'H' | b'X' => 0,
            _ => return Err(out_of_place(header.tag, "in the command phase")),
        };
        let body = bounded(header, body_bytes_max)?;
        let bytes = HEADER_BYTES + body;

        // "the backend discards messages until Sync" after an error, and a stand-in is certain to be an
        // error if it is not itself discarded. What will not be looked at is neither judged nor sent.
        if !matches!(header.tag, b'S' | b'X') && (self.denied_segment || self.replies.is_skipping()) {
            self.client_rest = Rest { bytes, dropped: true };
            return Ok(None);
        }
        if let Some(next) = self.throttle(header.tag) {
            return Ok(Some(next));
        }
        match header.tag {
            b'd' | b'H' => {}
            b'c' | b'f' => self.replies.push(Expect::CopyEnd),
            b'X' => self.phase = Phase::Ended,
            b'S' => {
                self.segment += 1;
                self.denied_segment = false;
                self.replies.push(Expect::Sync);
            }
            tag => {
                self.replies.accepts(tag)?;
                let wanted = match tag {
                    b'B' => self.bind_bytes_wanted(body),
                    b'Q' | b'P' | b'F' if bytes > self.limits.message_bytes_max => {
                        body.min(NAME_BYTES_MAX + 1)
                    }
                    _ => body,
                };
                let wanted = HEADER_BYTES + wanted;
                let Some(message) = rest.get(..wanted) else {
                    return Ok(Some(self.flush_or(Next::NeedMore(wanted))));
                };
                let fields = Fields::new(message.get(HEADER_BYTES..).unwrap_or_default());
                return match tag {
                    b'Q' => self.query(fields, bytes).map(Some),
                    b'P' => self.parse(fields, bytes).map(Some),
                    b'F' => self.function_call(fields, bytes).map(Some),
                    b'E' => self.execute(fields, bytes).map(Some),
                    b'B' => self.bind(fields, bytes),
                    b'D' => self.describe(fields, bytes),
                    _ => self.close(fields, bytes),
                };
            }
        }
        self.forward(bytes);
        Ok(None)
    }

    /// Lets a message join the run of ready bytes.
    pub(super) fn forward(&mut self, bytes: usize) {
        self.client_rest = Rest { bytes, dropped: false };
    }

    /// Asks for a verdict.
    pub(super) fn ask(&mut self, subject: Subject, bytes: usize) -> Next {
        self.commands += 1;
        self.pending = Some(Pending { command: self.commands, subject, bytes, ruling: None });
        Next::Judge
    }

    /// Ready bytes first.
    pub(super) fn flush_or(&mut self, next: Next) -> Next {
        match self.take_ready() {
            0 => next,
            bytes => Next::Forward(bytes),
        }
    }

    /// Holds the client back while too many replies are awaited. The server keeps replies until it is told
    /// to Sync or Flush, and the client's own Sync may be far behind: so a Flush is put in, once each time.
    fn throttle(&mut self, tag: u8) -> Option<Next> {
        let awaited = self.replies.len();
        let bound = match (tag, self.throttled) {
            (b'd' | b'H' | b'X', _) => return None,
            // A COPY that the server reads cannot go on without its end.
            (b'c' | b'f', _) => self.limits.pipeline_max.saturating_mul(2),
            (_, true) => self.limits.pipeline_max / 2,
            (_, false) => self.limits.pipeline_max,
        };
        if awaited <= bound {
            self.throttled = false;
            return None;
        }
        if self.ready_bytes > 0 {
            return Some(Next::Forward(self.take_ready()));
        }
        if std::mem::replace(&mut self.throttled, true) {
            return Some(Next::Wait);
        }
        self.composed.clear();
        wire::put(&mut self.composed, b'H', &[]);
        Some(Next::Replace { consumed: 0 })
    }

    /// Carries out the verdict on the pending message, which `rest` starts with. `None` where the message
    /// joined the run.
    fn rule(&mut self, rest: &[u8]) -> Result<Option<Next>, Violation> {
        let Some(pending) = self.pending.take() else { return Ok(None) };
        let Pending { command, subject, bytes, ruling } = pending;
        let ruling = match (ruling, &subject) {
            (Some(Ruling::Pass(_)), Subject::Excess { excess, .. }) => {
                Some(Ruling::Deny(Denial::new(format!("lineal: denied: {}", excess.reason()))))
            }
            (ruling, _) => ruling,
        };
        match ruling {
            None => {
                self.pending = Some(Pending { command, subject, bytes, ruling: None });
                Ok(Some(Next::Wait))
            }
            Some(Ruling::Pass(grant)) => {
                self.pass(grant, subject, rest)?;
                self.forward(bytes);
                Ok(None)
            }
            Some(Ruling::Deny(denial)) if self.ready_bytes > 0 => {
                self.pending = Some(Pending { command, subject, bytes, ruling: Some(Ruling::Deny(denial)) });
                Ok(Some(Next::Forward(self.take_ready())))
            }
            Some(Ruling::Deny(denial)) => self.put_poison(command, subject, bytes, denial, rest).map(Some),
        }
    }

    /// Uses up the grant of a message that passes: notes which replies it will have.
    fn pass(&mut self, grant: Grant, subject: Subject, message: &[u8]) -> Result<(), Violation> {
        let command = match &grant {
            Grant::Session(Admission { .. }) => 0,
            Grant::Command(permit) => permit.command(),
            Grant::Preparation(preparation) => preparation.command(),
        };
        let expect = match subject {
            Subject::Startup(startup) => {
                self.phase = Phase::Authentication(Authentication::of(&startup, false));
                return Ok(());
            }
            Subject::Query { .. } => Expect::Query { command, poison: None },
            Subject::FunctionCall { .. } => Expect::FunctionCall { command, poison: None },
            Subject::Execute { .. } => Expect::Execute { command, poison: None },
            Subject::Parse { name, statement } => {
                let name = message.get(name).ok_or(Misuse::Buffer)?;
                // Room was found before the question, and only answers have come since, which make more.
                let made = self.statements.change(name, self.segment, Some(statement.clone()));
                let order = made.map_err(|_| Misuse::Buffer)?;
                Expect::Parse { command, name: name.into(), made: ParseMade::Statement(order, statement) }
            }
            Subject::Bind { name, portal } => {
                let name = message.get(name).ok_or(Misuse::Buffer)?;
                self.bound(name, portal, Some(command))?
            }
            Subject::Excess { .. } => return Err(Misuse::Ruling(command).into()),
        };
        self.replies.push(expect);
        Ok(())
    }

    /// The executor has sent a startup message of its own and has been let in: the client's is dropped.
    pub(super) fn authenticated(&mut self, startup: &Startup, bytes: usize) {
        self.phase = Phase::Authentication(Authentication::of(startup, true));
        self.client_rest = Rest { bytes, dropped: true };
    }

    /// Puts the stand-in in place of the message, and drops the message, whatever has come of it.
    fn put_poison(
        &mut self,
        command: u64,
        subject: Subject,
        bytes: usize,
        denial: Denial,
        message: &[u8],
    ) -> Result<Next, Violation> {
        self.composed.clear();
        let consumed = bytes.min(message.len());
        self.client_rest = Rest { bytes: bytes - consumed, dropped: true };
        let denial = Box::new(denial);
        let expect = match subject {
            Subject::Startup(_) => {
                self.phase = Phase::Ended;
                denial.put(&mut self.composed, Severity::Fatal);
                return Ok(Next::Reply { consumed });
            }
            Subject::Query { .. } | Subject::Excess { excess: Excess::Query, .. } => {
                poison::put_query(&mut self.composed);
                Expect::Query { command, poison: Some(denial) }
            }
            Subject::FunctionCall { .. } | Subject::Excess { excess: Excess::FunctionCall, .. } => {
                poison::put_function_call(&mut self.composed);
                Expect::FunctionCall { command, poison: Some(denial) }
            }
            Subject::Execute { .. } => {
                self.denied_segment = true;
                poison::put_execute(&mut self.composed);
                Expect::Execute { command, poison: Some(denial) }
            }
            Subject::Bind { name, .. } => {
                self.denied_segment = true;
                poison::put_bind(&mut self.composed);
                let portal = message.get(name).ok_or(Misuse::Buffer)?.into();
                Expect::Bind { command: Some(command), portal, made: BindMade::Poison(denial) }
            }
            Subject::Parse { name, .. } | Subject::Excess { name, .. } => {
                self.denied_segment = true;
                let name = message.get(name).ok_or(Misuse::Buffer)?;
                poison::put_parse(&mut self.composed, name);
                Expect::Parse { command, name: name.into(), made: ParseMade::Poison(denial) }
            }
        };
        self.replies.push(expect);
        Ok(Next::Replace { consumed })
    }
}

impl Authentication {
    /// As it begins.
    fn of(startup: &Startup, settled: bool) -> Self {
        Self {
            answer: Answer::None,
            begun: false,
            version_above: startup.minor_version > MINOR_VERSION_MAX,
            options: startup.protocol_options(),
            bound_withheld: false,
            settled,
        }
    }
}

/// Whether a SASLInitialResponse (`String` mechanism, `Int32` length, data) is free of channel binding: SCRAM's
/// data begins with the GS2 header, whose `n` says that the client knows of none (RFC 5802, section 6). Its `y`
/// says that the server seemed not to offer any; a server that does takes that for an attack.
fn is_unbound(choice: &[u8]) -> bool {
    let mut fields = Fields::new(choice);
    let mechanism = fields.string();
    mechanism.is_some_and(|name| name == b"SCRAM-SHA-256")
        && fields.int32().is_some()
        && fields.byte() == Some(b'n')
}

fn bounded(header: Header, bytes_max: usize) -> Result<usize, ClientFault> {
    let Header { tag, length } = header;
    header.body_bytes().filter(|&bytes| bytes <= bytes_max).ok_or(ClientFault::MessageLength { tag, length })
}

fn out_of_place(tag: u8, phase: &'static str) -> Violation {
    ClientFault::MessageType { tag, phase }.into()
}
