//! The first packets of a connection, which have no type byte: encryption requests, CancelRequest and
//! StartupMessage.
//!
//! Nothing is forwarded from here: this folder reads, and refuses what lineal does not relay. `packet` tells
//! the packets apart, `message` reads a StartupMessage, `settings` finds the settings that it makes.

pub(super) use message::MINOR_VERSION_MAX;
pub use message::Startup;
pub(super) use packet::{EncryptionRequests, FirstPacket, read};
pub use settings::{Setting, UnsupportedOption};

mod message;
mod packet;
mod settings;

#[cfg(test)]
mod tests;
