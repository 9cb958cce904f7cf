//! From facts to a decision. Each access of a command is asked of Cedar on its own; the command is allowed
//! only if every access is.
//!
//! - [`decider`]: decides the commands of one session; [`undeclared`]: connections that belong to no
//!   upstream.
//! - [`question`]: asks Cedar about one access.
//! - [`conclude`]: makes one decision of what the accesses, or the parts of a command, came to.
//! - [`unidentified`]: what a job without a credential may do.
//! - [`cache`]: remembers decisions; [`explain`]: tells in full what led to one.
//!
//! Policies are evaluated nowhere else: the test cases and `explain` come through here, too.

mod cache;
mod conclude;
mod decider;
mod explain;
mod judgement;
mod question;
#[cfg(test)]
mod tests;
mod undeclared;
mod unidentified;

pub use self::{
    cache::DecisionCache,
    conclude::ObservedDenials,
    decider::Decider,
    explain::{AccessExplanation, Explanation, PolicyExplanation},
    judgement::Judgement,
    undeclared::decide_undeclared,
};
