//! What is followed: live jobs, the processes in them, and whether a job may still act.

mod lineage;
mod registry;
mod revocations;
mod standing;

pub use lineage::Unattributable;
pub use registry::{AttributionError, EnrolError, Enrolment, Job, Registry, RegistryConfig, RevokeError};
pub use revocations::{Revocation, RevocationStore, Selector};
pub use standing::Standing;
