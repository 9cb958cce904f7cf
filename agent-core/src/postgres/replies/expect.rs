//! The entries of the queue: what a client message, once sent, waits for.

use super::uncertain_syncs::UncertainSyncs;
use crate::postgres::{
    namespace::Order,
    poison::Denial,
    statements::{Portal, Statement},
};

/// What a client message, once sent, waits for. `poison` is the denial, if poison was sent in the message's
/// place.
#[derive(Debug)]
pub(in crate::postgres) enum Expect {
    Query {
        command: u64,
        poison: Option<Box<Denial>>,
    },
    FunctionCall {
        command: u64,
        poison: Option<Box<Denial>>,
    },
    Parse {
        command: u64,
        name: Box<[u8]>,
        sent: ParseSent,
    },
    Bind {
        /// `None` if no question was asked about it.
        command: Option<u64>,
        portal: Box<[u8]>,
        sent: BindSent,
    },
    DescribeStatement,
    DescribePortal,
    Execute {
        command: u64,
        poison: Option<Box<Denial>>,
    },
    /// `order` is `None` if the namespace had no room for the name. The name then had no meaning to lose, and
    /// one that it gets before the Close is answered is later than the Close and stays.
    CloseStatement {
        name: Box<[u8]>,
        order: Option<Order>,
    },
    /// As `CloseStatement`.
    ClosePortal {
        name: Box<[u8]>,
        order: Option<Order>,
    },
    Sync,
    /// CopyDone or CopyFail. It is never answered itself, but it bounds what a COPY can have read.
    CopyEnd,
    /// Syncs of which a COPY that failed may have dropped some.
    UncertainSyncs(UncertainSyncs),
}

/// What was sent as a Parse.
#[derive(Debug)]
pub(in crate::postgres) enum ParseSent {
    Statement(Order, Statement),
    Poison(Box<Denial>),
}

/// What was sent as a Bind.
#[derive(Debug)]
pub(in crate::postgres) enum BindSent {
    Portal(Order, Portal),
    Poison(Box<Denial>),
}

impl Expect {
    /// The number of the command that the message carries, if a question was asked about it.
    pub(super) fn command(&self) -> Option<u64> {
        match self {
            Self::Query { command, .. }
            | Self::FunctionCall { command, .. }
            | Self::Execute { command, .. }
            | Self::Parse { command, .. } => Some(*command),
            Self::Bind { command, .. } => *command,
            _ => None,
        }
    }

    /// The denial, if poison was sent in the message's place.
    pub(super) fn poison(&self) -> Option<&Denial> {
        match self {
            Self::Query { poison, .. } | Self::FunctionCall { poison, .. } | Self::Execute { poison, .. } => {
                poison.as_deref()
            }
            Self::Parse { sent: ParseSent::Poison(denial), .. }
            | Self::Bind { sent: BindSent::Poison(denial), .. } => Some(denial),
            _ => None,
        }
    }
}
