//! The pure half of the audit trail: its records, their encoding, the hash chain that binds them, and the
//! redactor that keeps secrets out of them.
//!
//! Nothing here opens a file or reads a clock: the `agent` crate does both.

pub mod chain;
pub mod record;
pub mod redact;
pub mod timestamp;

pub use chain::{BreakReason, Broken, Chain, Checked, Checkpoint, Host, Verifier};
pub use record::Record;
