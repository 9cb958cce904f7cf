//! lineal's pure decisions.
//!
//! Nothing in this crate performs I/O, reads a clock or knows an async runtime: bytes, events and the
//! current time come in as arguments, and what should happen comes out as values. The `agent` crate is the
//! executor, which carries it out.
//!
//! Protocol code ([`postgres`]) and policy code (the `agent-policy` crate) never import each other.
//! [`facts`] is what passes from the first to the second, [`decision`] what comes back.

pub mod audit;
pub mod credential;
pub mod decision;
pub mod facts;
pub mod identity;
pub mod lineage;
pub mod onward;
pub mod postgres;
pub mod ruling;
pub mod standing;
pub mod target;
