//! Which of the upstream's messages answers which of the client's: a queue of what is awaited.
//!
//! Every message sent upstream that will be answered has an entry, in order; a reply belongs to the entry at
//! the front. This is what tells a poison's error from a genuine one, and a statement that exists from one
//! that was refused. A reply that fits nothing is an error: guessing would misplace every later reply.
//!
//! The rules are the manual's ("Message Flow") and those of PostgreSQL's main loop, `PostgresMain`:
//! - An error in an extended-query message makes PostgreSQL skip everything up to the next Sync, even a Query
//!   or FunctionCall. An error in a Query, FunctionCall or Sync does not: ReadyForQuery follows.
//! - Each Sync, Query and FunctionCall that is not skipped gets one ReadyForQuery.
//! - While PostgreSQL reads `COPY … FROM STDIN`, it drops Sync and Flush. Outside, it ignores what belongs
//!   to a COPY.
//!
//! `expect` has the entries, `queue` keeps them, `receive` gives each reply to the entry that it answers,
//! `copy_in` and `uncertain_syncs` say what a COPY does to the queue, `outcome` says how a command ended.

pub(super) use expect::{BindSent, Expect, ParseSent};
pub(super) use outcome::outcome;
pub(super) use queue::Replies;
pub(super) use reply::{Answered, Fate, Reply};

mod copy_in;
mod expect;
mod outcome;
mod queue;
mod receive;
mod reply;
mod uncertain_syncs;
