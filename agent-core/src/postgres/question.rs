//! What the session asks its executor to decide, and the ruling that it expects.
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
        /// The text, without NUL, not necessarily UTF-8.
        text: &'a [u8],
    },
    /// A Parse message. It runs nothing yet, but the statement must be allowed here as well as at its
    /// Execute, for two reasons: the Bind that follows plans the statement, which evaluates immutable
    /// functions, and no question is asked about a Bind to the unnamed portal; and SQL `EXECUTE` can run a
    /// statement that has a name.
    Prepare {
        /// The statement's name; empty for the unnamed one.
        name: &'a [u8],
        /// Its text.
        statement: &'a Statement,
    },
    /// A Bind message that names its portal: SQL `FETCH` can run the portal by that name.
    Bind {
        /// The portal's name, never empty.
        portal: &'a [u8],
        /// What the portal may run. The Bind may be allowed only if every candidate is.
        candidates: Candidates<'a>,
        /// The values that were bound, if they are kept.
        parameters: Option<&'a Parameters>,
    },
    /// An Execute message: a portal runs, or continues.
    Execute {
        /// The portal's name; empty for the unnamed one.
        portal: &'a [u8],
        /// What the upstream may run. The Execute may be allowed only if every candidate is.
        candidates: Candidates<'a>,
        /// The values that were bound, if they are kept.
        parameters: Option<&'a Parameters>,
    },
    /// A FunctionCall message: a function is called by its OID, without any text.
    Function {
        /// The function's OID.
        oid: u32,
    },
    /// A message beyond a bound. It is denied whatever the ruling; [`super::Session::deny`] can word the
    /// denial.
    Excess {
        /// The bound that it exceeds.
        excess: Excess,
        /// The message's length, header included.
        bytes: usize,
    },
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
    /// Why the message is denied, and what the client can do about it.
    pub fn reason(self) -> &'static str {
        match self {
            Self::Query | Self::Parse | Self::FunctionCall => {
                "the message is longer than lineal can judge: send it in parts"
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
