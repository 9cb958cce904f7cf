//! End-to-end tests: real eBPF, real servers, real clients, and `lineal` as a black box. They need root.
//!
//! Tests that leave the agent as they found it share one lab. A test that stops the agent, revokes access or
//! fills a disk raises a lab of its own.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a failed assertion ends a test; clippy's own exception leaves out functions that tests share"
)]

mod adoption;
mod agent_bounds;
mod audit;
mod bounds;
mod clients;
mod crowds;
mod drivers;
mod encodings;
mod enroll;
mod host;
mod hostile_wire;
mod identity;
mod injection;
mod kernel_bounds;
mod lineage;
mod local;
mod names;
mod observe;
mod opaque;
mod operator;
mod outage;
mod package;
mod policy;
mod protocol;
mod reading;
mod revocation;
mod rules;
mod settings;
mod shared;
mod sockets;
mod standing;
mod story;
mod tls;
