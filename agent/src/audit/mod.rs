//! The audit trail's I/O, in two parts: [`trail`] writes it, [`read`] searches, follows and verifies it.
//!
//! No command may be forwarded before its record is written: [`Trail::append`] returns only after `write(2)`
//! has. The readers never write; they need no running agent, and work on a copy of the directory too.

mod config;
mod error;
mod read;
#[cfg(test)]
mod samples;
mod trail;

pub(crate) use config::{AuditConfig, Literals};
pub(crate) use error::AuditError;
pub(crate) use read::{QueryArgs, TailArgs, VerifyArgs, holds_a_trail, query, tail, verify};
pub(crate) use trail::Trail;
