//! What a session tells its executor besides what to send: facts about the upstream, and how commands
//! ended.

use std::fmt;

/// One thing the session found out. Events are in the order of the bytes they come from.
#[derive(Debug, PartialEq, Eq)]
pub enum Event {
    /// The upstream accepted the client (AuthenticationOk).
    Authenticated,
    /// The session's cancellation key. Commit it to the key map before the bytes it came with are sent to
    /// the client, or the client's first CancelRequest could come too early.
    CancelKey(CancelKey),
    /// A setting's value, as reported; left out where it is too long to look at.
    Parameter {
        /// The setting.
        name: Box<str>,
        /// Its value.
        value: Box<str>,
    },
    /// The upstream awaits a command (ReadyForQuery).
    Ready(Transaction),
    /// A judged command ended.
    Outcome(Outcome),
    /// The upstream ends the session with this error.
    Fatal(ServerError),
}

/// The transaction status in ReadyForQuery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transaction {
    /// None is open.
    Idle,
    /// In a transaction block.
    Open,
    /// In a failed transaction block.
    Failed,
}

/// How a judged command ended at the upstream. Every command that was allowed or denied gets exactly one,
/// at the latest from [`super::Session::finish`].
#[derive(Debug, PartialEq, Eq)]
pub struct Outcome {
    /// The command.
    pub command: u64,
    /// How it ended.
    pub ending: Ending,
    /// Rows that the command's tags report, or rows sent, where no tag came.
    pub rows: u64,
    /// Bytes the upstream sent in answer.
    pub bytes: u64,
    /// The last command tag.
    pub tag: Tag,
}

/// How a command ended.
#[derive(Debug, PartialEq, Eq)]
pub enum Ending {
    /// It ran. A Parse: the statement is there.
    Complete,
    /// It stopped at the row limit of its Execute, and can be executed further.
    Suspended,
    /// The upstream refused it.
    Error(ServerError),
    /// Its stand-in was refused, as it was meant to be, and the client was told so.
    Denied,
    /// The upstream skipped it, because a command before it in the same pipeline failed.
    Skipped,
    /// The session ended before the upstream answered: whether it ran is not known.
    Unknown,
}

/// An error that the upstream reported.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerError {
    /// Its SQLSTATE.
    pub sqlstate: [u8; 5],
    /// Its message, cut to [`ServerError::MESSAGE_BYTES_MAX`].
    pub message: Box<str>,
}

impl ServerError {
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
    /// The server's own buffer for tags (`COMPLETION_TAG_BUFSIZE`).
    const BYTES_MAX: usize = 64;

    pub(super) const EMPTY: Self = Self { bytes: [0; Self::BYTES_MAX], len: 0 };

    pub(super) fn new(text: &[u8]) -> Self {
        let mut tag = Self::EMPTY;
        for (to, from) in tag.bytes.iter_mut().zip(text) {
            *to = *from;
            tag.len += 1;
        }
        tag
    }

    /// The tag; empty where it is not text.
    pub fn as_str(&self) -> &str {
        self.bytes.get(..usize::from(self.len)).and_then(|bytes| str::from_utf8(bytes).ok()).unwrap_or("")
    }

    /// The row count at the end of those tags that have one ("INSERT 0 5", "SELECT 3"…).
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

/// What a CancelRequest must present: the process id and secret of BackendKeyData.
#[derive(Clone)]
pub struct CancelKey {
    /// The upstream's process id: what to look the key up by; not secret.
    pub pid: u32,
    secret: Box<[u8]>,
}

impl CancelKey {
    /// "minimum and maximum key length are 4 and 256 bytes" (manual, BackendKeyData, protocol 3.2).
    pub(super) const SECRET_BYTES: std::ops::RangeInclusive<usize> = 4..=256;

    pub(super) fn new(pid: u32, secret: &[u8]) -> Option<Self> {
        Self::SECRET_BYTES.contains(&secret.len()).then(|| Self { pid, secret: secret.into() })
    }

    /// The CancelRequest that presents this key.
    pub fn to_request(&self) -> Vec<u8> {
        let length = u32::try_from(12 + self.secret.len()).unwrap_or(u32::MAX);
        let mut out = Vec::with_capacity(12 + self.secret.len());
        out.extend_from_slice(&length.to_be_bytes());
        out.extend_from_slice(&super::startup::CANCEL_REQUEST.to_be_bytes());
        out.extend_from_slice(&self.pid.to_be_bytes());
        out.extend_from_slice(&self.secret);
        out
    }
}

impl PartialEq for CancelKey {
    /// Takes the same time wherever the secrets differ: an early exit would tell a guesser how far it got.
    fn eq(&self, other: &Self) -> bool {
        let differences = self.secret.iter().zip(&other.secret).fold(0, |all, (a, b)| all | (a ^ b));
        let same_secret = std::hint::black_box(differences) == 0;
        self.pid == other.pid && self.secret.len() == other.secret.len() && same_secret
    }
}

impl Eq for CancelKey {}

impl fmt::Debug for CancelKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CancelKey of process {}", self.pid)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_has_a_row_count_only_where_its_verb_gives_one() {
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

    #[test]
    fn cancel_keys_are_equal_only_in_full() {
        let key = CancelKey::new(7, &[1, 2, 3, 4]).unwrap();
        let check = |pid, secret: &[u8], expect| {
            assert_eq!(key == CancelKey::new(pid, secret).unwrap(), expect);
        };
        check(7, &[1, 2, 3, 4], true);
        check(8, &[1, 2, 3, 4], false);
        check(7, &[1, 2, 3, 5], false);
        check(7, &[1, 2, 3, 4, 0], false);
        assert!(CancelKey::new(7, &[1, 2, 3]).is_none());
        assert!(CancelKey::new(7, &[0; 257]).is_none());
    }

    #[test]
    fn a_cancel_key_does_not_print_its_secret() {
        assert_eq!(format!("{:?}", CancelKey::new(7, b"SECRET").unwrap()), "CancelKey of process 7");
    }
}
