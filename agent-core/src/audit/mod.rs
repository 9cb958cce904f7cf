//! The audit trail's pure half: what its records hold, how they are spelled, the hash chain that binds
//! them, and the redactor that keeps secrets out of them.
//!
//! Nothing here opens a file or reads a clock: the `agent` crate's writer brings both.

pub mod chain;
pub mod record;
pub mod redact;
pub mod timestamp;

#[cfg(test)]
mod schema_tests;

pub use chain::{BreakReason, Broken, Chain, Checked, Checkpoint, Host, Verifier};
pub use record::Record;
