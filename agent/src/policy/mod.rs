//! Policy's side of the world: the directory that holds the bundle, the bundle in force, and the watch that
//! brings changes. What a bundle means is `agent-policy`'s to say; nothing here judges a command.

mod directory;
mod store;
mod watch;

pub(crate) use directory::read;
pub(crate) use store::{Check, PolicyStore};
