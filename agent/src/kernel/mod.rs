//! The kernel side, seen from user space: loads and attaches the eBPF programs, and reads and writes their
//! maps.
//!
//! The only module that imports aya. The modules above it speak of tags, nodes and flows, never of maps or
//! programs.

mod addresses;
mod btf;
mod cgroups;
mod config;
mod cover;
mod error;
mod events;
mod load;
mod maps;
mod marks;
pub mod netns;
mod object;
mod pins;
mod probe;
mod process;
mod programs;
pub mod refusals;
mod rules;
mod sys;

pub use addresses::{address_of, flow_key};
pub use config::KernelConfig;
pub use error::KernelError;
pub use events::EventStream;
pub use load::load;
pub use maps::Kernel;
pub use pins::Pins;
pub use probe::probe;
pub use process::{executable, exists, proc_dir};
pub use rules::{EnrolRule, Rules};
