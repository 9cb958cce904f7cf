//! Whether a job may act.

use std::sync::Arc;

/// A job's standing; every new session and every command asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Its credential holds.
    Valid,
    /// Its access was ended.
    Revoked {
        /// Why, for the person who reads the error.
        reason: Arc<str>,
    },
}

impl Standing {
    /// The word for listings.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Valid => "valid",
            Self::Revoked { .. } => "revoked",
        }
    }
}
