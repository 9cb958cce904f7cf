//! The audit trail's I/O: the writer that stands before every forwarded command, and the commands that
//! search, follow and prove a trail.
//!
//! Invariant 1 rests on [`Trail::append`]: it returns once `write(2)` has. The readers need no agent: they
//! read the directory, or a copy of it.

mod config;
mod error;
mod flusher;
mod index;
mod keys;
mod ledger;
mod metrics;
mod pending;
mod print;
mod query;
mod reader;
mod row;
mod segments;
mod summary;
mod tail;
mod verify;
mod writer;

#[cfg(test)]
mod query_tests;
#[cfg(test)]
mod samples;
#[cfg(test)]
mod verify_tests;
#[cfg(test)]
mod writer_tests;

pub(crate) use config::{AuditConfig, Literals};
pub(crate) use error::AuditError;
pub(crate) use query::{QueryArgs, query};
pub(crate) use tail::{TailArgs, tail};
pub(crate) use verify::{VerifyArgs, verify};
pub(crate) use writer::Trail;
