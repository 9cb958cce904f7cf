//! The questions that a session asks its executor: what is to be decided before a message is forwarded.
//!
//! A question's `Debug` output must never hold statement texts or values.

use std::fmt;

use super::{
    startup::Startup,
    statements::{Candidates, Parameters, Statement},
};

/// What is to be decided about one message of the client's.
pub enum Question<'a> {
    /// May this client connect as this user to this database?
    Startup(&'a Startup),
    /// A Query message: one text with any number of statements.
    Simple {
        /// The text, without the NUL that ends it; not necessarily UTF-8.
        text: &'a [u8],
    },
    /// A Parse message. It runs nothing yet, but the statement must be allowed here as well as at its
    /// Execute, for two reasons:
    ///
    /// - The Bind that follows plans the statement, and planning evaluates immutable functions. No question
    ///   is asked about a Bind to the unnamed portal.
    /// - SQL `EXECUTE` can run a statement that has a name, and then no Execute message follows.
    Prepare {
        /// The statement's name; empty for the unnamed one.
        name: &'a [u8],
        /// The statement's text.
        statement: &'a Statement,
    },
    /// A Bind message that names its portal: SQL `FETCH` can run the portal by that name, and then no Execute
    /// message follows.
    Bind {
        /// The portal's name, never empty.
        portal: &'a [u8],
        /// What the portal may run. The Bind may be allowed only if every candidate is allowed.
        candidates: Candidates<'a>,
        /// The values that were bound; `None` if the session's limits keep none.
        parameters: Option<&'a Parameters>,
    },
    /// An Execute message: a portal runs, or continues.
    Execute {
        /// The portal's name; empty for the unnamed one.
        portal: &'a [u8],
        /// What the upstream may run. The Execute may be allowed only if every candidate is allowed.
        candidates: Candidates<'a>,
        /// The values that were bound; `None` if the portal is not known or its values were not kept.
        parameters: Option<&'a Parameters>,
    },
    /// A FunctionCall message: a function is called by its OID, without any text.
    Function {
        /// The function's OID.
        oid: u32,
    },
    /// A message beyond a bound. The session denies it even if the executor allows it;
    /// [`super::Session::deny`] can word the denial.
    Excess {
        /// The bound that the message exceeds.
        excess: Excess,
        /// The message's length, header included.
        bytes: usize,
    },
}

/// Which bound a message exceeds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Excess {
    /// A Query of more than [`super::Limits::message_bytes_max`] bytes.
    Query,
    /// A Parse of more than [`super::Limits::message_bytes_max`] bytes.
    Parse,
    /// A FunctionCall of more than [`super::Limits::message_bytes_max`] bytes.
    FunctionCall,
    /// A Parse that would make more than [`super::Limits::statements_max`] named statements.
    Statements,
    /// A Parse with which the session would keep more than [`super::Limits::kept_bytes_max`] bytes of
    /// statement texts and values.
    KeptBytes,
}

impl Excess {
    /// Why the message is denied, and what the client can do about it.
    pub fn reason(self) -> &'static str {
        match self {
            Self::Query | Self::Parse | Self::FunctionCall => {
                "the message has more than 16 MiB: send it in parts"
            }
            Self::Statements => "too many prepared statements: deallocate some",
            Self::KeptBytes => "the session's prepared statements take too much memory: close some",
        }
    }
}

impl fmt::Debug for Question<'_> {
    /// Prints only the sizes of texts and values: they are the client's data.
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
