//! What is followed: live jobs, the processes in them, and whether a job may still act.

mod kill;
mod lineage;
mod registry;
mod revocation_list;
mod revocations;

pub use lineage::Unattributable;
pub use registry::{Enrolment, Job, Place, Registry, RegistryConfig};
pub use revocation_list::{RevocationList, RevocationsConfig};
pub use revocations::{RevocationStore, Selector};
