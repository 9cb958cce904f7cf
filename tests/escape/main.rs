//! Attack tests: what a hostile job tries, each attempt made for real and as root.
//!
//! A destination that no policy declares stands for the outside world: reaching it is the escape. The
//! destination counts its connections, so that no test relies on what the job itself reports.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a failed assertion ends a test; clippy's own exception leaves out functions that tests share"
)]

mod control;
mod credential;
mod datagrams;
mod egress;
mod shared;
mod takeover;
