//! The policies of this host, from files to the bundle in force. `agent-policy` says what a bundle means;
//! nothing here decides about a command.
//!
//! - [`directory`]: the files of the bundle.
//! - [`store`]: the bundle in force.
//! - [`watch`]: reads the files again when they change.

mod directory;
mod store;
mod watch;

pub(crate) use directory::read;
pub(crate) use store::{Check, PolicyStore};
