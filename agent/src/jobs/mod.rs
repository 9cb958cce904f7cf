//! What is followed: live jobs, the processes in them, and whether a job may still act.

mod access;
mod enrolment;
mod kill;
mod lineage;
mod registry;
mod revocation_list;
mod revocations;
mod tree;

pub use enrolment::Enrolment;
pub use lineage::Unattributable;
pub use registry::{Job, Place, Registry, RegistryConfig};
pub use revocation_list::{RevocationList, RevocationsConfig};
pub use revocations::{RevocationStore, Selector};
pub use tree::{Tree, user_of};
