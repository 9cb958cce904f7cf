//! Facts to decisions: Cedar bundles, their schema, their test cases.
//!
//! Texts come in, decisions come out. Nothing here opens a file, reads a clock or speaks a protocol: the
//! `agent` crate reads the directory and passes the time, and [`agent_core::facts`] is all that is known of a
//! command.
//!
//! ```text
//! Source… ──Bundle::load──▶ Bundle ─┐
//! Credential, Lineage ──▶ Subject ──┼─▶ Decider ──decide(Facts, now, approvals)──▶ Judgement
//!                Upstream, Scope ───┘
//! ```
//!
//! - [`bundle`]: what a policy directory says.
//! - [`vocabulary`]: what policies can say, with a file for each protocol.
//! - [`decide`]: from facts to a decision.
//! - [`cases`]: the test cases beside the policies, with a file for each protocol.
//! - [`subject`]: who acts; [`time`]: the calendar that policies read.
//!
//! Invariants:
//! - A bundle is accepted whole or refused whole: one bad policy, table or name refuses all of it, with file
//!   and line.
//! - A command is allowed only if every access of its facts is. An error while evaluating denies.
//! - A job without a verified credential is granted nothing but connections that a permit grants to such jobs
//!   by name.
//! - `decide`, `explain` and the test cases run the same code.

mod bundle;
mod cases;
mod decide;
mod subject;
#[cfg(test)]
mod tests;
mod time;
mod vocabulary;

pub use self::{
    bundle::{
        Bundle,
        policies::{PolicyEffect, PolicyInfo},
        source::{BundleError, Source},
        upstreams::{Leg, Mode, Protocol, Role, TlsMode, Undeclared, Upstream},
    },
    cases::{CaseResult, run_cases},
    decide::{
        AccessExplanation, Decider, DecisionCache, Explanation, Judgement, ObservedDenials,
        PolicyExplanation, decide_undeclared,
    },
    subject::{Principal, Subject},
    vocabulary::{schema_text, value::EngineError},
};
