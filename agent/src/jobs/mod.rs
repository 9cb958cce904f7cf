//! What is followed: live jobs, the processes in them, and whether a job may still act.

mod lineage;
mod registry;
mod revocations;
mod standing;

pub use lineage::Unattributable;
pub use registry::{Enrolment, Job, Registry, RegistryConfig};
pub use revocations::{RevocationStore, Selector};
pub use standing::Standing;
