//! The PostgreSQL protocol, version 3, between a client and its server, as a state machine without I/O.
//!
//! ```text
//!    client bytes ──► Session::client ──► forward n bytes │ reply │ drop │ Ask ──► executor decides, records
//!                                                                              │ allow(): forward as it came
//!                                                                              ▼ deny(): forward poison
//!    server bytes ──► Session::upstream ──► forward n bytes │ replace the poison's error │ events
//! ```
//!
//! The executor owns sockets and buffers. It hands in what it has read, gets told what to do with the first
//! so many bytes, and hands the rest in again with more. Whatever is forwarded is forwarded as it came: the
//! session re-encodes nothing but what it puts in a denied message's place.
//!
//! - [`startup`]: the first bytes of a connection; [`session`]: the client's messages; [`server`]: the server's.
//! - [`replies`]: which answer belongs to which request; [`statements`]: what a name stands for.
//! - [`poison`]: what a denied message becomes.

pub mod poison;
mod replies;
mod server;
mod session;
pub mod startup;
mod statements;
mod violation;
pub mod wire;

#[cfg(test)]
mod tests;

pub use replies::Outcome;
pub use server::{Event, Replaced, UpstreamStep};
pub use session::{Bound, ClientStep, Limits, Parameters, Question, Session, Statement, Then};
pub use statements::NAME_BYTES_MAX;
pub use violation::Violation;
