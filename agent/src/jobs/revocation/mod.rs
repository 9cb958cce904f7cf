//! Revocation: ending a job's access, making that known to whoever acts for the job, and keeping it over
//! restarts.

mod carry_out;
mod list;
mod selector;
mod standings;
mod store;
mod tell;
#[cfg(test)]
mod tests;

pub use list::{RevocationList, RevocationsConfig};
pub use selector::Selector;
pub(super) use standings::Standings;
pub use store::RevocationStore;
