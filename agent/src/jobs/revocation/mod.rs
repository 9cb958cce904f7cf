//! Revocation: ending a job's access, making that known to whoever acts for the job, and keeping it over
//! restarts.

mod carry_out;
mod list;
mod selector;
pub(super) mod standings;
pub(super) mod store;
mod tell;
#[cfg(test)]
mod tests;

pub use list::{RevocationList, RevocationsConfig};
pub use selector::Selector;
pub use store::RevocationStore;
