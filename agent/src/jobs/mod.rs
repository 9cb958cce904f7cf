//! What is followed: live jobs, the processes in them, and whether a job may still act.

mod access;
mod adoption;
mod enrolment;
mod kill;
mod lineage;
mod registry;
mod revocation_list;
mod revocations;
mod standings;
mod store;
mod tree;
mod unidentified;

pub use adoption::Adopted;
pub use enrolment::{EnrolError, Enrolment};
pub use lineage::Unattributable;
pub use registry::{Job, Place, Registry, RegistryConfig};
pub use revocation_list::{RevocationList, RevocationsConfig};
pub use revocations::{RevocationStore, Selector};
pub use store::JobStore;
pub use tree::{Tree, Whole, has_ended, processes, user_of};
pub use unidentified::rule_of;
