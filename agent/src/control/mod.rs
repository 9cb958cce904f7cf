//! The control socket, on which the command line, and a job that enrols itself, speak with the agent.
//!
//! One request a connection, as a JSON object on one line. Answers are JSON objects, one a line; the last
//! line is `{"done":true}` or `{"error":"…"}`. The peer's credentials and its kernel tag decide what it may
//! ask: see [`peer`].

pub mod answer;
pub mod client;
pub mod peer;
mod request;
pub mod server;

pub use request::Request;
