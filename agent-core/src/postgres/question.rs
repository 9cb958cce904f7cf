//! What the session asks of its executor, and what the executor is to do with the client's bytes.

use std::fmt;

use super::event::CancelKey;
use super::startup::Startup;
use super::statements::{Parameters, Statement};

/// What to do after looking at the client's bytes. "The buffer" is what was passed in.
#[derive(Debug)]
pub enum ClientStep<'a> {
    /// The buffer must hold this many bytes before there is more to say.
    NeedMore {
        /// Bytes in all, from the start of the buffer.
        bytes_min: usize,
    },
    /// Nothing to do before the upstream has said something, or the verdict asked for has come. Do not read
    /// more from the client meanwhile.
    Wait,
    /// Send the first `bytes` of the buffer upstream as they are, and remove them.
    Forward {
        /// How many.
        bytes: usize,
    },
    /// Remove `consumed` bytes, and send `upstream` in their place. Either may be empty.
    Replace {
        /// How many bytes to remove.
        consumed: usize,
        /// What to send.
        upstream: &'a [u8],
    },
    /// Remove `consumed` bytes, and answer the client with `client`.
    Reply {
        /// How many bytes to remove.
        consumed: usize,
        /// What to send to the client.
        client: &'a [u8],
    },
    /// Remove `consumed` bytes, answer `S` and negotiate TLS as its server; the next bytes are what comes through
    /// it. There is nothing else in the buffer.
    Tls {
        /// How many bytes to remove.
        consumed: usize,
    },
    /// Decide, record, and call [`super::Session::allow`] or [`super::Session::deny`]. Nothing is consumed.
    Judge {
        /// The command's number in this session.
        command: u64,
        /// What it is.
        question: Question<'a>,
        /// Bytes in front of it that may be sent already; see [`super::Session::take_ready`].
        ready_bytes: usize,
    },
    /// The connection is a CancelRequest, and nothing else. Pass it on if the key is one of this job's;
    /// close in any case, without an answer.
    Cancel {
        /// The key presented.
        key: CancelKey,
    },
    /// Nothing more is taken from the client: it said Terminate, or its startup was refused.
    End,
}

/// What is to be decided.
pub enum Question<'a> {
    /// May this client connect as this user to this database?
    Startup(&'a Startup),
    /// A Query message: one text with any number of statements.
    Simple {
        /// The text, without NUL, not necessarily UTF-8.
        text: &'a [u8],
    },
    /// A Parse message. Nothing runs yet; but the Bind that follows may not be asked about, and it plans the
    /// statement, which evaluates immutable functions; and SQL `EXECUTE` runs a statement that has a name. So a
    /// statement must be allowed here as well as at its Execute.
    Prepare {
        /// The statement's name; empty for the unnamed one.
        name: &'a [u8],
        /// Its text.
        statement: &'a Statement,
    },
    /// A Bind message that names its portal: SQL `FETCH` runs it by that name.
    Bind {
        /// The portal's name, never empty.
        portal: &'a [u8],
        /// What the portal may run. Allowed only if each of them is.
        candidates: Candidates<'a>,
        /// The values bound, where kept.
        parameters: Option<&'a Parameters>,
    },
    /// An Execute message: a portal runs, or goes on.
    Execute {
        /// The portal's name; empty for the unnamed one.
        portal: &'a [u8],
        /// What the server may run. Allowed only if each of them is.
        candidates: Candidates<'a>,
        /// The values bound, where kept.
        parameters: Option<&'a Parameters>,
    },
    /// A FunctionCall message: a function is called by its OID, with no text at all.
    Function {
        /// The function.
        oid: u32,
    },
    /// A message beyond a bound. It is denied whatever the ruling; [`super::Session::deny`] can word the denial.
    Excess {
        /// Which bound.
        excess: Excess,
        /// The message's length.
        bytes: usize,
    },
}

/// What an Execute may run. More than one where SQL may have reused a name, none where nothing of that name
/// was ever made by the protocol or could have been made by SQL.
#[derive(Clone, Copy, Debug, Default)]
pub struct Candidates<'a> {
    /// The text that Parse left under the statement's name when the portal was bound.
    pub parsed: Option<&'a Statement>,
    /// A statement of this name made by SQL `PREPARE`.
    pub sql_prepared: Option<&'a [u8]>,
    /// A cursor of this name made by SQL `DECLARE`, or by a function.
    pub sql_cursor: Option<&'a [u8]>,
}

/// Which bound a message exceeds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Excess {
    /// A Query of more than [`super::Limits::message_bytes_max`].
    Query,
    /// A Parse of more than [`super::Limits::message_bytes_max`].
    Parse,
    /// A FunctionCall of more than [`super::Limits::message_bytes_max`].
    FunctionCall,
    /// More than [`super::Limits::statements_max`] prepared statements.
    Statements,
    /// More than [`super::Limits::kept_bytes_max`] bytes of statements and values.
    KeptBytes,
}

impl Excess {
    /// Why the message is denied, and what to do.
    pub fn reason(self) -> &'static str {
        match self {
            Self::Query | Self::Parse | Self::FunctionCall => {
                "the message is longer than what is decided on: send it in parts"
            }
            Self::Statements => "too many prepared statements: deallocate some",
            Self::KeptBytes => "the session's prepared statements take too much memory: close some",
        }
    }
}

impl fmt::Debug for Question<'_> {
    /// Texts are the client's data: only their sizes.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Startup(startup) => write!(f, "Startup of {} on {}", startup.user, startup.database),
            Self::Simple { text } => write!(f, "Simple of {} bytes", text.len()),
            Self::Prepare { statement, .. } => write!(f, "Prepare of {statement:?}"),
            Self::Bind { candidates, .. } => write!(f, "Bind of {candidates:?}"),
            Self::Execute { candidates, .. } => write!(f, "Execute of {candidates:?}"),
            Self::Function { oid } => write!(f, "Function {oid}"),
            Self::Excess { excess, bytes } => write!(f, "Excess {excess:?} of {bytes} bytes"),
        }
    }
}
