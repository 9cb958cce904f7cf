//! Why a trail cannot be read, searched or verified.

use std::{
    io,
    path::{Path, PathBuf},
};

/// A trail cannot be read, or its reader was asked for something that makes no sense.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReadError {
    /// A system call failed.
    #[error("cannot {action} {}: {source}{}", file.display(), remedy(source))]
    Io {
        /// The attempted action, as in "cannot {action} FILE".
        action: &'static str,
        /// The file or directory.
        file: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// The output cannot be written.
    #[error("cannot write the output: {0}")]
    Output(#[from] io::Error),
    /// The directory holds no segment.
    #[error(
        "{} holds no audit trail: name the directory of the audit-….jsonl files with --dir",
        dir.display()
    )]
    Empty {
        /// The directory.
        dir: PathBuf,
    },
    /// A line is not a record.
    #[error("{}:{line}: {reason}: run `lineal audit verify`", file.display())]
    Line {
        /// The segment.
        file: PathBuf,
        /// The line's number in it, from 1.
        line: u64,
        /// What is wrong.
        reason: String,
    },
    /// An option's value cannot be understood.
    #[error("--{option} {value}: {reason}")]
    Filter {
        /// The option.
        option: &'static str,
        /// Its value.
        value: String,
        /// What is wrong, and what to give.
        reason: String,
    },
    /// A public key cannot be used.
    #[error("{} {reason}: name the agent's checkpoint-key-….pem", file.display())]
    Key {
        /// The key's file.
        file: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The search would remember more than its bound.
    #[error(
        "more than {most} jobs, processes and sessions are open at one time in this trail: \
         narrow the search with --job"
    )]
    TooMany {
        /// The bound.
        most: usize,
    },
}

/// What to do about a system error, where that is known.
fn remedy(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::PermissionDenied => ": read the trail as root, or a copy of it with --dir",
        io::ErrorKind::NotFound => ": name another directory with --dir",
        _ => "",
    }
}

impl ReadError {
    /// Wraps a system error in the attempted action and its file.
    pub(super) fn io(action: &'static str, file: &Path) -> impl FnOnce(io::Error) -> Self {
        let file = file.to_owned();
        move |source| Self::Io { action, file, source }
    }

    /// Whether the output's reader has gone, as `head` does: then there is nothing more to do, and nothing
    /// went wrong.
    pub(super) fn is_reader_gone(&self) -> bool {
        matches!(self, Self::Output(error) if error.kind() == io::ErrorKind::BrokenPipe)
    }
}
