//! Events: what a session tells its executor besides what to send. They are facts about the upstream, and how
//! commands ended.

use std::fmt;

use super::cancel::CancelKey;

/// One thing the session found out. Events come in the order of the bytes that they were found in.
#[derive(Debug, PartialEq, Eq)]
pub enum Event {
    /// The session's cancellation key. Enter it in the key map before the bytes it came with are sent to the
    /// client: otherwise the client's first CancelRequest could arrive before its key is known.
    CancelKey(CancelKey),
    /// The upstream awaits a command (ReadyForQuery).
    Ready(Transaction),
    /// A command dropped prepared statements by SQL.
    Deallocated {
        /// Its number.
        command: u64,
        /// The statement's name; `None` for all of them.
        name: Option<Box<[u8]>>,
    },
    /// A command that was ruled on has ended.
    Outcome(Outcome),
    /// The upstream ends the session with an error of its own (severity FATAL or PANIC, or any error before
    /// the first ReadyForQuery). It has been forwarded to the client.
    UpstreamFatal(UpstreamError),
}

/// The transaction status in ReadyForQuery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transaction {
    /// No transaction block is open.
    Idle,
    /// In a transaction block.
    Open,
    /// In a failed transaction block.
    Failed,
}

/// How a command ended at the upstream. Every command that was allowed or denied gets exactly one outcome, at
/// the latest from [`super::Session::finish`].
#[derive(Debug, PartialEq, Eq)]
pub struct Outcome {
    /// The command's number in its session.
    pub command: u64,
    /// How it ended.
    pub ending: Ending,
    /// The rows that the command's tags report, or the rows counted where no tag came.
    pub rows: u64,
    /// Bytes the upstream sent in answer.
    pub bytes: u64,
    /// The last command tag.
    pub tag: Tag,
}

/// How a command ended.
#[derive(Debug, PartialEq, Eq)]
pub enum Ending {
    /// It ran. For a Parse: the statement exists.
    Complete,
    /// It stopped at the row limit of its Execute, and another Execute can continue it.
    Suspended,
    /// The upstream refused it.
    Error(UpstreamError),
    /// It was denied: the upstream refused the poison sent in its place, and the client was told the denial.
    Denied,
    /// The upstream skipped it, because a command before it in the same pipeline failed.
    Skipped,
    /// The session ended before the upstream answered: whether it ran is not known.
    Unknown,
}

/// An error that the upstream reported.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpstreamError {
    /// Its SQLSTATE.
    pub sqlstate: [u8; 5],
    /// Its message, cut to [`UpstreamError::MESSAGE_BYTES_MAX`].
    pub message: Box<str>,
}

impl UpstreamError {
    /// How much of a message is kept.
    pub const MESSAGE_BYTES_MAX: usize = 1024;

    /// The SQLSTATE as text.
    pub fn code(&self) -> &str {
        str::from_utf8(&self.sqlstate).unwrap_or("XX000")
    }
}

/// A command tag, e.g. `UPDATE 3`. Empty where none came.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Tag {
    bytes: [u8; Self::BYTES_MAX],
    len: u8,
}

impl Tag {
    /// The size of PostgreSQL's own buffer for tags (`COMPLETION_TAG_BUFSIZE`).
    const BYTES_MAX: usize = 64;

    pub(super) const EMPTY: Self = Self { bytes: [0; Self::BYTES_MAX], len: 0 };

    /// The tag with this text, cut to the size of PostgreSQL's own buffer.
    pub(super) fn new(text: &[u8]) -> Self {
        let mut tag = Self::EMPTY;
        for (to, from) in tag.bytes.iter_mut().zip(text) {
            *to = *from;
            tag.len += 1;
        }
        tag
    }

    /// The tag's text; empty if it is not UTF-8.
    pub fn as_str(&self) -> &str {
        self.bytes.get(..usize::from(self.len)).and_then(|bytes| str::from_utf8(bytes).ok()).unwrap_or("")
    }

    /// The row count at the end of the tags that have one ("INSERT 0 5", "SELECT 3"…).
    pub(super) fn rows(&self) -> Option<u64> {
        let text = self.as_str();
        let (words, count) = text.rsplit_once(' ')?;
        let verb = words.split(' ').next()?;
        ["SELECT", "INSERT", "UPDATE", "DELETE", "MERGE", "FETCH", "MOVE", "COPY"]
            .contains(&verb)
            .then(|| count.parse().ok())?
    }
}

impl fmt::Debug for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_tags_of_verbs_that_count_rows_have_a_row_count() {
        let check = |text: &str, expect: Option<u64>| {
            assert_eq!(Tag::new(text.as_bytes()).rows(), expect, "{text}");
        };
        check("SELECT 3", Some(3));
        check("INSERT 0 5", Some(5));
        check("INSERT 16384 1", Some(1));
        check("COPY 7", Some(7));
        check("COPY", None);
        check("BEGIN", None);
        check("CREATE TABLE", None);
        check("LISTEN 4", None);
        check("", None);
    }
}
