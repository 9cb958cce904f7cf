//! What ends a session: a peer that breaks the protocol, or asks for what lineal does not carry.

use thiserror::Error;

/// Why a session can't go on. It is poisoned from here: closed, audited, nothing forwarded any more.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum Violation {
    /// The client broke the protocol.
    #[error("the client broke the protocol: {0}")]
    Client(&'static str),
    /// The client sent a message of a type that has no place here.
    #[error("the client sent a message of type {kind:?} that is not expected {when}")]
    ClientMessage {
        /// The type.
        kind: char,
        /// In which phase.
        when: &'static str,
    },
    /// The client sent more than a bound allows.
    #[error("the client sent {what} of {bytes} bytes, more than the {bytes_max} that are accepted")]
    ClientOversized {
        /// What was too long.
        what: &'static str,
        /// How long it was.
        bytes: usize,
        /// How long it may be.
        bytes_max: usize,
    },
    /// The server answered what nothing asked for.
    #[error("the server sent a message of type {kind:?} that no request explains")]
    ServerMessage {
        /// The type.
        kind: char,
    },
    /// The server broke the protocol.
    #[error("the server broke the protocol: {0}")]
    Server(&'static str),
    /// A setting would make the server read statements otherwise than they were judged.
    #[error("the session's {name} is {value}: statements could be read otherwise than they were judged")]
    Setting {
        /// The setting.
        name: &'static str,
        /// Its value.
        value: String,
    },
    /// A bound of this session is reached.
    #[error("the session holds more than {max} {what}")]
    Bound {
        /// What there are too many of.
        what: &'static str,
        /// How many there may be.
        max: usize,
    },
}
