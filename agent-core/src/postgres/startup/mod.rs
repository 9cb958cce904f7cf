//! The client's first packets, which have no type byte: encryption requests, CancelRequest and StartupMessage
//! (manual, "Message Formats").
//!
//! This folder forwards nothing: it reads the packets, and refuses what lineal does not relay. `packet` tells
//! the packets apart, `message` reads a StartupMessage, `settings` lists the settings that the StartupMessage
//! changes.

pub(super) use message::MINOR_VERSION_MAX;
pub use message::Startup;
pub(super) use packet::{EncryptionRequests, FirstPacket, read};
pub use settings::{Setting, UnsupportedOption};

mod message;
mod packet;
mod settings;

#[cfg(test)]
mod tests;
