//! The state of a session, which its two halves share: the client's (`client`) and the upstream's
//! (`upstream`).
//!
//! This file holds only the data and its initial values. The code that changes the data is in the halves;
//! neither half may import the other.

use std::{collections::VecDeque, ops::Range};

use super::{
    deallocations::Deallocations,
    encoding::Encoding,
    event::Event,
    fault::Violation,
    limits::Limits,
    namespace::Namespace,
    poison::Denial,
    question::{Excess, Question},
    replies::Replies,
    startup::{EncryptionRequests, MINOR_VERSION_MAX, Startup},
    statements::{Candidates, Meter, Portal, Statement},
};
use crate::ruling::{Admission, Permit, Preparation};

/// One session between a client and an upstream.
#[derive(Debug)]
pub struct Session {
    pub(super) limits: Limits,
    pub(super) phase: Phase,
    /// Set for good by the first violation.
    pub(super) fault: Option<Violation>,
    pub(super) events: VecDeque<Event>,
    /// What the upstream has been sent and has not answered yet.
    pub(super) replies: Replies,
    pub(super) statements: Namespace<Statement>,
    pub(super) portals: Namespace<Portal>,
    pub(super) deallocations: Deallocations,
    /// Counts the bytes that `statements` and `portals` keep.
    pub(super) meter: Meter,
    pub(super) settings: ReportedSettings,
    /// The connection to the upstream is encrypted, so the upstream may ask for a proof that is bound to it.
    pub(super) upstream_encrypted: bool,

    // The client's half.
    /// How many bytes at the start of the client's buffer may be sent.
    pub(super) ready_bytes: usize,
    pub(super) client_rest: Remainder,
    /// The message that awaits its ruling.
    pub(super) pending: Option<Pending>,
    /// How many commands have been asked about: the last one's number.
    pub(super) commands: u64,
    /// The last number given to a statement's text.
    pub(super) statement_ids: u64,
    /// How many Syncs the client has sent. A segment is what lies between two of them.
    pub(super) segment: u64,
    /// A command on its way that may change how the server reads text: until the upstream has reported its
    /// settings after it, no command follows.
    pub(super) awaited_settings: Option<AwaitedSettings>,
    /// Poison was sent in this segment: the upstream will do nothing more before the next Sync.
    pub(super) denied_segment: bool,
    /// The client waits until fewer replies are awaited; a Flush has been sent.
    pub(super) throttled: bool,
    /// What a step of the client's half sends that the client did not write.
    pub(super) composed: Vec<u8>,

    // The upstream's half.
    pub(super) upstream_rest: Remainder,
    /// The upstream has sent a FATAL error, which is its last message.
    pub(super) upstream_over: bool,
    /// What a step of the upstream's half sends that the upstream did not write.
    pub(super) rewritten: Vec<u8>,
}

impl Session {
    /// A session that awaits its client's first byte.
    pub fn new(limits: Limits) -> Self {
        Self {
            phase: Phase::Startup(EncryptionRequests::default()),
            fault: None,
            events: VecDeque::new(),
            replies: Replies::default(),
            statements: Namespace::new(limits.statements_max),
            portals: Namespace::new(limits.portals_max),
            deallocations: Deallocations::default(),
            meter: Meter::default(),
            settings: ReportedSettings::default(),
            upstream_encrypted: false,
            ready_bytes: 0,
            client_rest: Remainder::default(),
            pending: None,
            commands: 0,
            statement_ids: 0,
            segment: 0,
            awaited_settings: None,
            denied_segment: false,
            throttled: false,
            composed: Vec::new(),
            upstream_rest: Remainder::default(),
            upstream_over: false,
            rewritten: Vec::new(),
            limits,
        }
    }
}

/// Where the session is.
#[derive(Debug)]
pub(super) enum Phase {
    /// The StartupMessage is awaited.
    Startup(EncryptionRequests),
    /// The StartupMessage awaits its ruling: nothing has been sent upstream.
    Admission,
    /// The upstream authenticates the client.
    Authentication(Authentication),
    /// The client is authenticated; the upstream reports its settings.
    Settings,
    /// The command phase.
    Open,
    /// Nothing more is taken from the client: it sent Terminate, was refused, or was only a CancelRequest.
    Ended,
}

/// The authentication exchange, which lineal relays, and what lineal has to know about it.
#[derive(Debug)]
pub(super) struct Authentication {
    /// Whether the client has to answer the upstream's last request, or may.
    pub(super) answer: ClientAnswer,
    /// Whether the upstream has sent anything yet.
    pub(super) begun: bool,
    /// The client asked for a protocol newer than lineal knows: the upstream must negotiate it down.
    pub(super) version_above: bool,
    /// How many protocol options the upstream must still turn down.
    pub(super) options: usize,
    /// The client, which is about to choose a mechanism, was not offered the upstream's mechanisms with
    /// channel binding.
    pub(super) binding_withheld: bool,
    /// The executor has logged in: the upstream may ask the client for nothing.
    pub(super) logged_in: bool,
}

impl Authentication {
    /// The exchange as it begins.
    pub(super) fn new(startup: &Startup, logged_in: bool) -> Self {
        Self {
            answer: ClientAnswer::None,
            begun: false,
            version_above: startup.minor_version > MINOR_VERSION_MAX,
            options: startup.protocol_options(),
            binding_withheld: false,
            logged_in,
        }
    }
}

/// Whether the client answers an authentication request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ClientAnswer {
    None,
    Due,
    Optional,
}

/// What is still to come of a message of which only the start was read.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Remainder {
    pub(super) bytes: usize,
    /// Whether it is dropped; otherwise it is forwarded.
    pub(super) dropped: bool,
}

/// What the upstream has reported of its settings so far. The settings that decide how text is read were each
/// reported with an accepted value.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct ReportedSettings {
    pub(super) client_encoding: bool,
    pub(super) standard_conforming_strings: bool,
    pub(super) server_encoding: Encoding,
}

/// A command after which the upstream's settings are awaited: it reports them before it is ready.
#[derive(Clone, Copy, Debug)]
pub(super) struct AwaitedSettings {
    pub(super) command: u64,
    /// The segment that must be ended by a Sync before the upstream reports; `None` if the command itself
    /// makes it report.
    pub(super) segment: Option<u64>,
}

/// A message that awaits its ruling. It starts behind the ready bytes of the client's buffer.
#[derive(Debug)]
pub(super) struct Pending {
    pub(super) command: u64,
    pub(super) subject: Subject,
    /// The message's length, header included.
    pub(super) bytes: usize,
    pub(super) asked: Asked,
    /// The ruling, once it has come.
    pub(super) ruling: Option<Ruling>,
}

/// Whether the executor is to be asked about a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asked {
    /// It has been asked.
    Yes,
    /// It can't tell before the upstream has sent something.
    Postponed,
    /// It has to be asked again.
    Due,
}

/// The ruling on a pending message.
#[derive(Debug)]
pub(super) enum Ruling {
    /// It passes.
    Pass(Grant),
    /// It is kept back.
    Deny(Denial),
}

/// What lets a message pass. Only decisions make these, so that nothing in this module can make one up.
#[derive(Debug)]
pub(super) enum Grant {
    /// The session begins.
    Session(Admission),
    /// A command runs.
    Command(Permit),
    /// A Parse without a name is prepared.
    Preparation(Preparation),
}

/// What a ruling is about. Ranges count from the message's first byte.
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
    /// The question about the message, which `message` starts with.
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
