//! Ordinary frameworks, ORMs, drivers, job queues and tools, as their registries ship them, under the shipped
//! pack: each program runs once directly at the server and once as a job of each group that may do its work,
//! and must print the same. The programs are in `tests/lab/frameworks`.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a failed assertion ends a test; clippy's own exception leaves out functions that tests share"
)]

mod debian;
mod harness;
mod migrations;
mod node;
mod python;
