//! The lab: real parts, raised on one machine for the demo, the tests and the benches, and taken down however
//! their owner ends. It drives the `lineal` binary from outside, as any user would, and must never use its
//! code.

pub mod agent;
pub mod certificates;
pub mod cgroup;
pub mod command;
pub mod forwarder;
pub mod guard;
pub mod http;
pub mod issuer;
pub mod lab;
pub mod network;
pub mod notify;
pub mod package;
pub mod paths;
pub mod postgres;
pub mod script;
pub mod server;
pub mod story;
pub mod tunnel;

pub use lab::{Lab, LabOptions};
