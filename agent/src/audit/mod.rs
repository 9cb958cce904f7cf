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
mod metrics;
mod pending;
mod print;
mod query;
mod reader;
mod row;
mod segments;
mod tail;
mod verify;
mod writer;

#[cfg(test)]
mod query_tests;
#[cfg(test)]
mod samples;
#[cfg(test)]
mod writer_tests;

pub use config::{AuditConfig, Literals};
pub use error::{AuditError, TrailError};
pub use metrics::AuditMetrics;
pub use query::{QueryArgs, query};
pub use tail::{TailArgs, tail};
pub use verify::{VerifyArgs, verify};
pub use writer::Trail;
