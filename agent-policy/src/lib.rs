//! Facts to decisions: Cedar bundles, their schema, their test cases.
//!
//! Texts come in, decisions come out. Nothing here opens a file, reads a clock or knows a protocol: the
//! `agent` crate reads the directory and passes the time, and [`agent_core::facts`] is all that is known of
//! a command.
//!
//! ```text
//! Source… ──Bundle::load──▶ Bundle ─┐
//! Credential, Lineage ──▶ Subject ──┴─▶ Session ──decide(Facts, now, approvals)──▶ Decision
//! ```
//!
//! Invariants:
//! - A bundle is whole or refused: one bad policy, table or name refuses all of it, with file and line.
//! - A command is allowed only if every access of its facts is; an error while evaluating denies.
//! - Whoever has no verified credential is granted nothing, whatever the bundle says.
//! - `decide`, `explain` and the test cases run one and the same code.

mod access;
mod bundle;
mod cache;
mod cases;
mod entities;
mod explain;
mod policies;
mod schema;
mod session;
mod source;
mod subject;
mod tags;
mod time;
mod upstreams;

#[cfg(test)]
mod tests;

pub use bundle::Bundle;
pub use cache::{Decided, DecisionCache};
pub use cases::{CaseResult, run_cases};
pub use entities::EngineError;
pub use explain::{AccessExplanation, Explanation, PolicyExplanation};
pub use policies::{Effect, PolicyInfo};
pub use schema::schema_text;
pub use session::Session;
pub use source::{BundleError, Source};
pub use subject::{Principal, Subject};
pub use upstreams::{Leg, Mode, Protocol, Role, TlsMode, Undeclared, Upstream};
