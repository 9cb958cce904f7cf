//! The session: what both directions share, and the interface the executor drives.
//!
//! See the module's page for how it is driven. A fault is final, and no byte that a fault concerns is ever
//! forwarded.

use std::collections::VecDeque;

use super::client::{Grant, Next, Pending, Ruling, Subject};
use super::event::{Ending, Event, Outcome};
use super::fault::{Misuse, Violation, fatal_error};
use super::namespace::Namespace;
use super::poison::Denial;
use super::question::ClientStep;
use super::replies::{Answered, BindMade, Expect, Fate, ParseMade, Replies};
use super::startup::Requested;
use super::statements::{Meter, Portal, Statement};
use super::upstream::{UpstreamNext, UpstreamStep};
use crate::ruling::{Admission, Permit, Preparation};

/// Bounds of one session.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Longest StartupMessage. The server's own limit is 10 000 (`MAX_STARTUP_PACKET_LENGTH`).
    pub startup_bytes_max: usize,
    /// Longest Query, Parse or FunctionCall message that is read; a longer one is denied. The client's
    /// buffer must be able to hold one.
    pub message_bytes_max: usize,
    /// Unanswered messages at once; beyond that the client waits, and the upstream is asked to flush.
    pub pipeline_max: usize,
    /// Named prepared statements at once; Parse is denied beyond.
    pub statements_max: usize,
    /// Named portals at once; the session ends beyond.
    pub portals_max: usize,
    /// Bytes of statement texts and parameter values kept at once: Parse is denied beyond, values are not
    /// kept.
    pub kept_bytes_max: usize,
    /// Longest Bind message whose values are kept for the audit trail; 0 keeps none.
    pub parameters_bytes_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            startup_bytes_max: 10_000,
            message_bytes_max: 1024 * 1024,
            pipeline_max: 4096,
            statements_max: 4096,
            portals_max: 1024,
            kept_bytes_max: 16 * 1024 * 1024,
            parameters_bytes_max: 8 * 1024,
        }
    }
}

impl Limits {
    /// How large the upstream's buffer must be. Larger messages are streamed through it.
    pub const UPSTREAM_BUFFER_BYTES: usize = super::upstream::WINDOW_BYTES;
}

/// Where the session is.
#[derive(Debug)]
pub(super) enum Phase {
    /// Awaiting the StartupMessage.
    Startup(Requested),
    /// The StartupMessage is under judgement or refused: nothing was sent upstream.
    Admission,
    /// The upstream authenticates the client.
    Authentication(Authentication),
    /// Authenticated; the upstream reports settings.
    Settings,
    /// Commands.
    Open,
    /// The client has said Terminate, was refused, or was only a CancelRequest.
    Ended,
}

/// The authentication exchange, which lineal relays and does not read.
#[derive(Debug)]
pub(super) struct Authentication {
    /// Whether the client owes, or may give, an answer.
    pub(super) answer: Answer,
    /// Whether anything has come from the upstream yet.
    pub(super) begun: bool,
    /// The client asked for a protocol newer than lineal knows: the upstream must negotiate it down.
    pub(super) version_above: bool,
    /// Protocol options that the upstream must turn down.
    pub(super) options: usize,
    /// Mechanisms with channel binding were kept from the client, which is about to choose one.
    pub(super) bound_withheld: bool,
    /// The executor has authenticated itself: the client is asked nothing.
    pub(super) settled: bool,
}

/// What the client may answer to an authentication request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    None,
    Due,
    Optional,
}

/// What remains of a message that is longer than what was looked at.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Rest {
    pub(super) bytes: usize,
    /// Forwarded or dropped.
    pub(super) dropped: bool,
}

/// Settings that decide how text is read, as reported so far.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Settings {
    pub(super) client_encoding: bool,
    pub(super) standard_conforming_strings: bool,
}

/// How many events there is room for while there are none.
const EVENTS_KEPT: usize = 4;

/// One session between a client and an upstream.
#[derive(Debug)]
pub struct Session {
    pub(super) limits: Limits,
    pub(super) phase: Phase,
    fault: Option<Violation>,
    pub(super) events: VecDeque<Event>,
    pub(super) replies: Replies,
    pub(super) statements: Namespace<Statement>,
    pub(super) portals: Namespace<Portal>,
    pub(super) meter: Meter,
    pub(super) settings: Settings,
    /// The upstream may ask for a proof that is bound to its own TLS connection.
    pub(super) channel_bound: bool,

    // Towards the upstream.
    /// Bytes at the start of the client's buffer that may be sent.
    pub(super) ready_bytes: usize,
    pub(super) client_rest: Rest,
    pub(super) pending: Option<Pending>,
    pub(super) commands: u64,
    pub(super) statement_ids: u64,
    /// Counts the client's Syncs.
    pub(super) segment: u64,
    /// A denied message was sent in this segment: the server will not do anything more before the next
    /// Sync.
    pub(super) denied_segment: bool,
    /// The client waits for the queue of replies to drain; a Flush has been sent.
    pub(super) throttled: bool,
    /// What the step of the client's half sends that the client did not.
    pub(super) composed: Vec<u8>,

    // Towards the client.
    pub(super) upstream_rest: Rest,
    /// The upstream has sent a FATAL error.
    pub(super) upstream_over: bool,
    /// What the step of the upstream's half sends that the upstream did not.
    pub(super) to_client: Vec<u8>,
}

impl Session {
    /// A session that awaits its client's first byte.
    pub fn new(limits: Limits) -> Self {
        Self {
            phase: Phase::Startup(Requested::default()),
            fault: None,
            events: VecDeque::new(),
            replies: Replies::default(),
            statements: Namespace::new(limits.statements_max),
            portals: Namespace::new(limits.portals_max),
            meter: Meter::default(),
            settings: Settings::default(),
            channel_bound: false,
            ready_bytes: 0,
            client_rest: Rest::default(),
            pending: None,
            commands: 0,
            statement_ids: 0,
            segment: 0,
            denied_segment: false,
            throttled: false,
            composed: Vec::new(),
            upstream_rest: Rest::default(),
            upstream_over: false,
            to_client: Vec::new(),
            limits,
        }
    }

    /// Grants the client's SSLRequest, by [`ClientStep::Tls`]. To be called before the first byte is looked at.
    pub fn offer_tls(&mut self) {
        if let Phase::Startup(requested) = &mut self.phase {
            requested.offered = true;
        }
    }

    /// The client has begun with TLS (ALPN `postgresql`): what comes is what came through it. To be called before
    /// the first byte is looked at.
    pub fn begun_with_tls(&mut self) {
        self.phase = Phase::Startup(Requested::ENCRYPTED);
    }

    /// The upstream's leg is encrypted, with another certificate than the client sees: SCRAM's channel binding can't
    /// hold over both. To be called before the StartupMessage is allowed.
    pub fn upstream_encrypted(&mut self) {
        self.channel_bound = true;
    }

    /// Looks at what the client sent. `buf` starts where the last step left off and holds all that was
    /// received since; every byte of it that a step consumes must be gone from the next call's `buf`.
    ///
    /// # Errors
    /// The session is over. Earlier bytes that were allowed have been handed out by then.
    pub fn client<'a>(&'a mut self, buf: &'a [u8]) -> Result<ClientStep<'a>, Violation> {
        let next = match &self.fault {
            Some(fault) => Err(fault.clone()),
            None => self.advance_client(buf),
        };
        let next = match next {
            // What was allowed before the fault was seen is sent first; the fault stays.
            Err(fault) => {
                self.fault = Some(fault.clone());
                match self.take_ready() {
                    0 => return Err(fault),
                    bytes => Next::Forward(bytes),
                }
            }
            Ok(next) => next,
        };
        Ok(match next {
            Next::NeedMore(bytes_min) => ClientStep::NeedMore { bytes_min },
            Next::Wait => ClientStep::Wait,
            Next::Forward(bytes) => ClientStep::Forward { bytes },
            Next::Replace { consumed } => ClientStep::Replace { consumed, upstream: &self.composed },
            Next::Reply { consumed } => ClientStep::Reply { consumed, client: &self.composed },
            Next::Tls { consumed } => ClientStep::Tls { consumed },
            Next::Cancel(key) => ClientStep::Cancel { key },
            Next::End => ClientStep::End,
            Next::Judge => match &self.pending {
                Some(pending) => ClientStep::Judge {
                    command: pending.command,
                    question: pending.question(buf.get(self.ready_bytes..).unwrap_or_default()),
                    ready_bytes: self.ready_bytes,
                },
                None => ClientStep::Wait,
            },
        })
    }

    /// Lets the command of this permit pass: the next call of [`Self::client`] forwards its message.
    ///
    /// # Errors
    /// No command of the permit's number awaits a ruling.
    pub fn allow(&mut self, permit: Permit) -> Result<(), Violation> {
        let command = permit.command();
        let is_command = |subject: &Subject| !matches!(subject, Subject::Startup(_));
        self.rule_on(command, Ruling::Pass(Grant::Command(permit)), is_command)
    }

    /// Lets a Parse without a name pass, of which there is no record; any other command needs a [`Permit`].
    ///
    /// # Errors
    /// No Parse without a name, of the preparation's number, awaits a ruling.
    pub fn allow_preparation(&mut self, preparation: Preparation) -> Result<(), Violation> {
        let command = preparation.command();
        let is_unnamed =
            |subject: &Subject| matches!(subject, Subject::Parse { name, .. } if name.is_empty());
        self.rule_on(command, Ruling::Pass(Grant::Preparation(preparation)), is_unnamed)
    }

    /// Lets the session begin: the next call of [`Self::client`] forwards the StartupMessage.
    ///
    /// # Errors
    /// No StartupMessage of this number awaits a ruling.
    pub fn admit(&mut self, command: u64, admission: &Admission) -> Result<(), Violation> {
        let ruling = Ruling::Pass(Grant::Session(admission.clone()));
        self.rule_on(command, ruling, |subject| matches!(subject, Subject::Startup(_)))
    }

    /// Lets the session begin, and drops the StartupMessage: the executor has sent one of its own, has answered what
    /// the upstream asked of it, and starts the upstream's buffer with what comes before AuthenticationOk, or with
    /// that.
    ///
    /// # Errors
    /// No StartupMessage of this number awaits a ruling.
    pub fn admit_logged_in(&mut self, command: u64, admission: &Admission) -> Result<(), Violation> {
        self.admit(command, admission)?;
        if let Some(Pending { subject: Subject::Startup(startup), bytes, .. }) = self.pending.take() {
            // At once: the upstream has spoken already.
            self.authenticated(&startup, bytes);
        }
        Ok(())
    }

    /// Keeps a command back: the next call of [`Self::client`] sends poison in its place, or refuses the session. The
    /// client is told this.
    ///
    /// # Errors
    /// No command of this number awaits a ruling.
    pub fn deny(&mut self, command: u64, denial: Denial) -> Result<(), Violation> {
        self.rule_on(command, Ruling::Deny(denial), |_| true)
    }

    fn rule_on(
        &mut self,
        command: u64,
        ruling: Ruling,
        fits: impl FnOnce(&Subject) -> bool,
    ) -> Result<(), Violation> {
        match &mut self.pending {
            Some(pending)
                if pending.command == command && pending.ruling.is_none() && fits(&pending.subject) =>
            {
                pending.ruling = Some(ruling);
                Ok(())
            }
            _ => Err(self.fail(Misuse::Ruling(command).into())),
        }
    }

    /// Takes the bytes that [`ClientStep::Judge`] reported as ready, so that they need not wait for the
    /// verdict: send that many from the start of the buffer, and remove them from it.
    pub fn take_ready(&mut self) -> usize {
        std::mem::take(&mut self.ready_bytes)
    }

    /// Looks at what the upstream sent; as [`Self::client`]. Before carrying the step out, drain
    /// [`Self::next_event`].
    ///
    /// # Errors
    /// The session is over.
    pub fn upstream<'a>(&'a mut self, buf: &[u8]) -> Result<UpstreamStep<'a>, Violation> {
        if let Some(fault) = &self.fault {
            return Err(fault.clone());
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
            UpstreamNext::Replace { consumed } => UpstreamStep::Replace { consumed, client: &self.to_client },
        })
    }

    /// The next thing found out, in order.
    pub fn next_event(&mut self) -> Option<Event> {
        let event = self.events.pop_front();
        // A server tells many settings at once, as a rule only once.
        if event.is_none() && self.events.capacity() > EVENTS_KEPT {
            self.events = VecDeque::new();
        }
        event
    }

    /// The statement now under judgement, or about to be sent, may give `name` (or any name, for `None`) a
    /// meaning by SQL `PREPARE`. To be called before its verdict. An Execute of what the protocol made
    /// under that name before then has two candidates. `DEALLOCATE` alone needs no note: the server then
    /// refuses what it dropped.
    pub fn sql_prepared(&mut self, name: Option<&[u8]>) {
        self.statements.note_sql(name);
    }

    /// The same for `DECLARE` and the names of portals.
    pub fn sql_declared(&mut self, name: Option<&[u8]>) {
        self.portals.note_sql(name);
    }

    /// Whether what was handed out for the client so far ends where a message ends, so that a message of
    /// lineal's own can follow.
    pub fn at_boundary(&self) -> bool {
        self.upstream_rest.bytes == 0 || self.upstream_rest.dropped
    }

    /// How many messages of the client's await an answer of the upstream's.
    pub fn awaited(&self) -> usize {
        self.replies.len()
    }

    /// Ends the session from lineal's side, as on revocation. Returns the FATAL ErrorResponse for the
    /// client if one can be sent after all that was handed out; otherwise there is nothing left but to
    /// close.
    pub fn terminate(&mut self, sqlstate: [u8; 5], message: &str) -> Option<Vec<u8>> {
        self.phase = Phase::Ended;
        self.ready_bytes = 0;
        self.client_rest = Rest::default();
        self.pending = None;
        (self.at_boundary() && !self.upstream_over).then(|| fatal_error(sqlstate, message))
    }

    /// The connection to the upstream is gone, or about to go: every command still unanswered gets its
    /// [`Outcome`], with [`Ending::Unknown`].
    pub fn finish(&mut self) {
        self.pending = None;
        let mut answered = std::mem::take(&mut self.replies.front);
        for expect in std::mem::take(&mut self.replies.queue) {
            if let Some((command, _)) = command(expect) {
                self.events.push_back(Event::Outcome(Outcome {
                    command,
                    ending: Ending::Unknown,
                    rows: answered.rows(),
                    bytes: answered.bytes,
                    tag: answered.tag,
                }));
            }
            answered = Answered::default();
        }
    }

    pub(super) fn fail(&mut self, fault: Violation) -> Violation {
        self.fault.get_or_insert(fault).clone()
    }
}

/// The command an entry of the queue stands for, and its denial.
fn command(expect: Expect) -> Option<(u64, Option<Box<Denial>>)> {
    match expect {
        Expect::Query { command, poison }
        | Expect::FunctionCall { command, poison }
        | Expect::Execute { command, poison } => Some((command, poison)),
        Expect::Parse { command, made: ParseMade::Poison(denial), .. } => Some((command, Some(denial))),
        Expect::Parse { command, .. } => Some((command, None)),
        Expect::Bind { command, made: BindMade::Poison(denial), .. } => Some((command?, Some(denial))),
        Expect::Bind { command, .. } => Some((command?, None)),
        _ => None,
    }
}

/// The outcome of an entry that has left the queue.
pub(super) fn outcome(expect: Expect, answered: Answered, fate: Fate) -> Option<Outcome> {
    let (command, poison) = command(expect)?;
    let (rows, bytes, tag) = (answered.rows(), answered.bytes, answered.tag);
    let ending = match (fate, answered.error, poison) {
        (Fate::Skipped, ..) => Ending::Skipped,
        (_, Some(_), Some(_)) => Ending::Denied,
        (_, Some(error), None) => Ending::Error(error),
        (Fate::Suspended, None, _) => Ending::Suspended,
        (Fate::Answered, None, _) => Ending::Complete,
    };
    Some(Outcome { command, ending, rows, bytes, tag })
}
