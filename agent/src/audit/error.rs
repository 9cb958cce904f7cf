//! Why a trail cannot be opened for writing, or a record not be written. Readers have an error of their own.

use std::{
    io,
    path::{Path, PathBuf},
};

use agent_core::audit::chain::RecordError;

/// The trail cannot be opened, or a record could not be written: the command it was for must not be
/// forwarded.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AuditError {
    /// A setting is out of its bounds.
    #[error("audit.{name} = {value} is out of bounds: set it to {least}..={most}")]
    Config {
        /// The setting.
        name: &'static str,
        /// Its value.
        value: u64,
        /// The least allowed.
        least: u64,
        /// The most allowed.
        most: u64,
    },
    /// Another process writes this trail.
    #[error(
        "the audit trail {} is being written by another agent: stop it, or set audit.dir elsewhere",
        dir.display()
    )]
    Locked {
        /// The trail's directory.
        dir: PathBuf,
    },
    /// The trail's last line is complete, but it is not a record.
    #[error(
        "the last line of the audit trail is not a record ({}: {reason}): run `lineal audit verify`, \
         keep the directory as evidence, and start with an empty one",
        file.display()
    )]
    End {
        /// The segment.
        file: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The checkpoint key is unusable.
    #[error("the checkpoint key {} {reason}", file.display())]
    Key {
        /// The key's file.
        file: PathBuf,
        /// What is wrong, and what to do.
        reason: String,
    },
    /// A system call failed.
    #[error("cannot {action} {}: {source}", file.display())]
    Io {
        /// The attempted action, as in "cannot {action} FILE".
        action: &'static str,
        /// The file or directory.
        file: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// The record cannot be encoded.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// The trail is closed.
    #[error("the audit trail is closed: the agent is stopping")]
    Closed,
}

impl AuditError {
    /// Wraps a system error in the attempted action and its file.
    pub(super) fn io(action: &'static str, file: &Path) -> impl FnOnce(io::Error) -> Self {
        let file = file.to_owned();
        move |source| Self::Io { action, file, source }
    }
}
