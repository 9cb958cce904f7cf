//! What can go wrong with a trail, on the writer's side and on the reader's.

use std::io;
use std::path::{Path, PathBuf};

use agent_core::audit::chain::RecordError;

/// A trail that cannot be opened, or a record that could not be written: what it stands for must not happen.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AuditError {
    /// A setting out of its bounds.
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
    #[error("the audit trail {} is being written by another agent: stop it, or set audit.dir elsewhere", dir.display())]
    Locked {
        /// The trail's directory.
        dir: PathBuf,
    },
    /// The trail's end is not readable as one.
    #[error(
        "the audit trail ends in what is no record ({}: {reason}): run `lineal audit verify`, keep the directory as \
         evidence, and start with an empty one",
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
        /// What is wrong and what to do.
        reason: String,
    },
    /// A system call failed.
    #[error("cannot {action} {}: {source}", file.display())]
    Io {
        /// What was being done.
        action: &'static str,
        /// To what.
        file: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// The record itself.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// The trail was closed.
    #[error("the audit trail is closed: the agent is stopping")]
    Closed,
}

impl AuditError {
    /// Wraps a system error with what was being done.
    pub(super) fn io(action: &'static str, file: &Path) -> impl FnOnce(io::Error) -> Self {
        let file = file.to_owned();
        move |source| Self::Io { action, file, source }
    }
}

/// A trail that cannot be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TrailError {
    /// A system call failed.
    #[error("cannot {action} {}: {source}", file.display())]
    Io {
        /// What was being done.
        action: &'static str,
        /// To what.
        file: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// The output is gone.
    #[error("cannot write the output: {0}")]
    Output(#[from] io::Error),
    /// No segments.
    #[error("{} holds no audit trail: name one with --dir", dir.display())]
    Empty {
        /// The directory.
        dir: PathBuf,
    },
    /// A line that is no record.
    #[error("{}:{line}: {reason}: run `lineal audit verify`", file.display())]
    Line {
        /// The segment.
        file: PathBuf,
        /// The line's number in it.
        line: u64,
        /// What is wrong.
        reason: String,
    },
    /// A filter that cannot be understood.
    #[error("--{option} {value}: {reason}")]
    Filter {
        /// The option.
        option: &'static str,
        /// Its value.
        value: String,
        /// What is wrong, and what to give.
        reason: String,
    },
    /// A public key that cannot be used.
    #[error("{}: {reason}", file.display())]
    Key {
        /// The key's file.
        file: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// More live jobs, processes and sessions than are kept in memory.
    #[error(
        "more than {most} jobs, processes and sessions are open at one time in this trail: narrow it with --job"
    )]
    TooMany {
        /// The bound.
        most: usize,
    },
}

impl TrailError {
    /// Wraps a system error with what was being done.
    pub(super) fn io(action: &'static str, file: &Path) -> impl FnOnce(io::Error) -> Self {
        let file = file.to_owned();
        move |source| Self::Io { action, file, source }
    }

    /// Whether only the output's reader has left, as `head` does: then there is nothing more to do, and nothing
    /// has gone wrong.
    pub(super) fn is_reader_gone(&self) -> bool {
        matches!(self, Self::Output(error) if error.kind() == io::ErrorKind::BrokenPipe)
    }
}
