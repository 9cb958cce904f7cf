//! Jobs: which ones are live, which processes are in them, and whether each of them may still act.
//!
//! This module attributes and keeps; it never decides what a job may do.

mod adoption;
mod attribution;
mod enrolment;
mod image;
mod job;
mod kill;
mod lineage;
mod processes;
mod registry;
mod revocation;
mod store;
mod tree;
mod unidentified;

pub use adoption::Adopted;
pub use enrolment::Enrolment;
pub use job::{Job, SessionSlot};
pub use processes::{has_ended, is_gone, processes, user_of};
pub use registry::{Registry, RegistryConfig};
pub use revocation::{RevocationList, RevocationStore, RevocationsConfig, Selector};
pub use store::JobStore;
pub use tree::{Completeness, Tree};
pub use unidentified::rule_of;
