//! The hash chain that binds the trail's lines, and the check that a trail is unbroken.
//!
//! A line is `{"v":1,"seq":N,"time":"…","host":"…","kind":"…",FIELDS,"hash":"H"}` and a newline. `H` is
//! SHA-256, in lower-case hex, over the 32 raw bytes of the previous line's hash followed by this line's
//! bytes before `,"hash"`. A trail's first line has `seq` 1 and follows [`Chain::GENESIS`]: 32 zero bytes.
//!
//! Whoever can rewrite a whole trail can also recompute every hash. Signed checkpoints are the protection
//! against that: this module computes the bytes that they sign, and the `agent` crate holds the keys.

#[cfg(test)]
mod tests;

use std::io::Write;

use serde::Deserialize;
use sha2::{Digest, Sha256};

use super::{record::Record, timestamp};

/// The longest line of a trail, newline included. A longer record is refused, and with it the command it is
/// for.
pub const LINE_BYTES_MAX: usize = 32 * 1024 * 1024;

/// The version of the record format, the `v` of every line.
pub const VERSION: u64 = 1;

/// Separates a line's hashed bytes from its hash.
const HASH_FIELD: &[u8] = b",\"hash\":\"";
const HASH_HEX_BYTES: usize = 64;
const LINE_END: &[u8] = b"\"}";
/// `,"hash":"…"}`, without the newline.
const SEAL_BYTES: usize = HASH_FIELD.len() + HASH_HEX_BYTES + LINE_END.len();

/// Begins the bytes that a checkpoint signs, so that its signature fits nothing else that the key may ever
/// sign.
const CHECKPOINT_DOMAIN: &[u8] = b"lineal audit checkpoint v1\n";

/// A SHA-256.
pub type Hash = [u8; 32];

/// The host's name as every line carries it, escaped once.
#[derive(Clone, Debug)]
pub struct Host {
    json: Vec<u8>,
}

impl Host {
    /// Escapes `name` as a JSON string.
    pub fn new(name: &str) -> Self {
        Self { json: serde_json::Value::from(name).to_string().into_bytes() }
    }
}

/// Why a record cannot be encoded as a line.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// It is too long.
    #[error("the audit record would be {bytes} bytes; a trail's line holds at most {LINE_BYTES_MAX}")]
    TooLong {
        /// How long it would be.
        bytes: usize,
    },
    /// It cannot be written as JSON.
    #[error("the audit record cannot be written as JSON: {0}")]
    Json(#[from] serde_json::Error),
}

/// The end of a chain: the line that the next one follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Chain {
    /// The last line's number; 0 before the first.
    pub seq: u64,
    /// The last line's hash.
    pub hash: Hash,
}

impl Chain {
    /// The end of an empty chain, which a trail's first line follows.
    pub const GENESIS: Self = Self { seq: 0, hash: [0; 32] };

    /// Appends `record` to `out` as the chain's next line, newline included, and makes that line the chain's
    /// end. Returns the line's `seq`. After an error neither the chain nor `out` has changed.
    pub fn append(
        &mut self,
        record: &Record<'_>,
        unix_us: u64,
        host: &Host,
        out: &mut Vec<u8>,
    ) -> Result<u64, RecordError> {
        let start = out.len();
        let seq = self.seq + 1;
        match write_line(self.hash, seq, record, unix_us, host, out) {
            Ok(hash) => {
                *self = Self { seq, hash };
                Ok(seq)
            }
            Err(error) => {
                out.truncate(start);
                Err(error)
            }
        }
    }

    /// The checkpoint for the chain up to its end.
    pub fn checkpoint(&self) -> Checkpoint {
        Checkpoint { seq: self.seq, hash: self.hash }
    }
}

fn write_line(
    previous: Hash,
    seq: u64,
    record: &Record<'_>,
    unix_us: u64,
    host: &Host,
    out: &mut Vec<u8>,
) -> Result<Hash, RecordError> {
    let start = out.len();
    write!(out, "{{\"v\":{VERSION},\"seq\":{seq},\"time\":\"").map_err(serde_json::Error::io)?;
    timestamp::write_rfc3339(unix_us, out);
    out.extend_from_slice(b"\",\"host\":");
    out.extend_from_slice(&host.json);
    out.extend_from_slice(b",\"kind\":\"");
    out.extend_from_slice(record.kind().as_bytes());
    out.push(b'"');
    // The fields are serialised as an object of their own. Its opening brace is replaced by the comma after
    // `kind`, its closing brace is removed. serde's `flatten` would copy every field into a map.
    let fields = out.len();
    serde_json::to_writer(&mut *out, record)?;
    if let Some(brace) = out.get_mut(fields) {
        *brace = b',';
    }
    out.pop();
    let bytes = out.len() - start + SEAL_BYTES + 1;
    if bytes > LINE_BYTES_MAX {
        return Err(RecordError::TooLong { bytes });
    }
    let hash = link(&previous, out.get(start..).unwrap_or_default());
    out.extend_from_slice(HASH_FIELD);
    out.extend_from_slice(&hex(&hash));
    out.extend_from_slice(LINE_END);
    out.push(b'\n');
    Ok(hash)
}

/// The hash of a line whose bytes before `,"hash"` are `body`.
pub fn link(previous: &Hash, body: &[u8]) -> Hash {
    Sha256::new().chain_update(previous).chain_update(body).finalize().into()
}

/// Lower-case hex of a hash.
pub fn hex(hash: &Hash) -> [u8; HASH_HEX_BYTES] {
    let mut text = [0; HASH_HEX_BYTES];
    for (pair, byte) in text.chunks_exact_mut(2).zip(hash) {
        for (digit, nibble) in pair.iter_mut().zip([byte >> 4, byte & 15]) {
            *digit = if nibble < 10 { b'0' + nibble } else { b'a' + nibble - 10 };
        }
    }
    text
}

/// Reads `N` bytes of lower-case hex. Upper case is refused: a hash with two spellings could be changed
/// unnoticed.
pub fn unhex<const N: usize>(text: &[u8]) -> Option<[u8; N]> {
    let nibble = |digit: u8| match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    };
    if text.len() != 2 * N {
        return None;
    }
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(text.chunks_exact(2)) {
        let [high, low] = pair else { return None };
        *byte = nibble(*high)? << 4 | nibble(*low)?;
    }
    Some(bytes)
}

/// The number and the hash of the line before a checkpoint, which the checkpoint signs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// The line's number.
    pub seq: u64,
    /// Its hash.
    pub hash: Hash,
}

impl Checkpoint {
    /// The signed bytes: `lineal audit checkpoint v1\n`, `seq` as eight big-endian bytes, the hash.
    pub fn bytes_to_sign(&self) -> Vec<u8> {
        [CHECKPOINT_DOMAIN, &self.seq.to_be_bytes(), &self.hash].concat()
    }
}

/// A checkpoint as its line states it. Its position in the chain was checked; the caller checks its
/// signature.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// The signed line.
    pub checkpoint: Checkpoint,
    /// Fingerprint of the key that is said to have signed it.
    pub key: String,
    /// The signature.
    pub signature: [u8; 64],
}

/// A line in which the chain is unbroken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checked {
    /// Its number.
    pub seq: u64,
    /// Its time.
    pub time: String,
    /// The checkpoint, if it is one.
    pub claim: Option<Claim>,
}

/// Why a chain is broken at a line.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BreakReason {
    /// The line does not end in `,"hash":"…"}`.
    #[error("the line does not end in a hash: it was cut, or it is not a record")]
    NoHash,
    /// The hash does not follow from the previous line and this one.
    #[error(
        "the hash does not follow from the line before and this line's bytes: one of them was changed, \
             removed, inserted or moved"
    )]
    WrongHash,
    /// The line is not a record.
    #[error("the line is not an audit record: {0}")]
    NotARecord(String),
    /// The numbers do not follow one another.
    #[error("the record's number is {found}: records are missing, repeated or out of order")]
    WrongSeq {
        /// The line's number.
        found: u64,
    },
    /// A checkpoint signs for another line than the one before it.
    #[error("the checkpoint is not for the record before it")]
    MisplacedCheckpoint,
    /// No interrupted write can have left the bytes after the last newline.
    #[error("the bytes after the last newline are not the beginning of a record")]
    NotATornRecord,
}

/// Where and why a chain is broken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("record {seq}: {reason}")]
pub struct Broken {
    /// The number of the record that should stand there.
    pub seq: u64,
    /// Why it does not.
    pub reason: BreakReason,
}

/// The fields of a line that the chain rests on; the last three are a checkpoint's.
#[derive(Deserialize)]
struct Envelope {
    v: u64,
    seq: u64,
    time: String,
    kind: String,
    upto: Option<EnvelopeUpto>,
    key: Option<String>,
    signature: Option<String>,
}

#[derive(Deserialize)]
struct EnvelopeUpto {
    seq: u64,
    hash: String,
}

impl Envelope {
    fn claim(self) -> Option<Claim> {
        let upto = self.upto?;
        let checkpoint = Checkpoint { seq: upto.seq, hash: unhex(upto.hash.as_bytes())? };
        Some(Claim { checkpoint, key: self.key?, signature: unhex(self.signature?.as_bytes())? })
    }
}

/// Checks lines one after the other. After its first [`Broken`] its results have no meaning.
#[derive(Clone, Debug)]
pub struct Verifier {
    end: Chain,
}

impl Verifier {
    /// Begins at a trail's first line.
    pub fn from_genesis() -> Self {
        Self { end: Chain::GENESIS }
    }

    /// Begins at the line after `end`.
    pub fn resume(end: Chain) -> Self {
        Self { end }
    }

    /// Begins at the checkpoint `line`, whose predecessors are missing because their segments were archived.
    /// The checkpoint is trusted about them, so the caller must check its signature.
    pub fn from_checkpoint(line: &[u8]) -> Result<Self, BreakReason> {
        let envelope = envelope(line)?;
        let claim = envelope.claim().ok_or(BreakReason::MisplacedCheckpoint)?;
        Ok(Self { end: Chain { seq: claim.checkpoint.seq, hash: claim.checkpoint.hash } })
    }

    /// The last line that was checked.
    pub fn end(&self) -> Chain {
        self.end
    }

    /// Checks one line, given without its newline.
    pub fn feed(&mut self, line: &[u8]) -> Result<Checked, Broken> {
        let seq = self.end.seq + 1;
        let broken = |reason| Broken { seq, reason };
        let (body, sealed) = unseal(line).ok_or(broken(BreakReason::NoHash))?;
        let hash = link(&self.end.hash, body);
        if sealed != hex(&hash) {
            return Err(broken(BreakReason::WrongHash));
        }
        let envelope = envelope(line).map_err(broken)?;
        if envelope.seq != seq {
            return Err(broken(BreakReason::WrongSeq { found: envelope.seq }));
        }
        let time = envelope.time.clone();
        let claim = if envelope.kind == "checkpoint" {
            let claim = envelope.claim().filter(|claim| claim.checkpoint == self.end.checkpoint());
            Some(claim.ok_or(broken(BreakReason::MisplacedCheckpoint))?)
        } else {
            None
        };
        self.end = Chain { seq, hash };
        Ok(Checked { seq, time, claim })
    }

    /// Checks the bytes after the last newline. An interrupted write can leave only the beginning of the next
    /// record, and nothing past its end.
    pub fn check_torn(&self, tail: &[u8]) -> Result<(), Broken> {
        let seq = self.end.seq + 1;
        let begins = format!("{{\"v\":{VERSION},\"seq\":{seq},\"time\":\"");
        let same = tail
            .iter()
            .take_while(|byte| **byte != 0)
            .zip(begins.as_bytes())
            .all(|(found, expected)| found == expected);
        // A record holds no control byte, because JSON escapes it. So a newline that was changed into one is
        // noticed here. If it was changed into a printable byte, a valid hash stands before the end. Zeros at
        // the very end are blocks that a filesystem had allocated and not yet written.
        let written = tail.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
        let clean = tail.iter().take(written).all(|byte| *byte >= b' ');
        let seal_inside = tail.len() > SEAL_BYTES
            && tail.windows(HASH_FIELD.len()).enumerate().any(|(at, window)| {
                let (body, rest) = tail.split_at(at);
                window == HASH_FIELD
                    && rest.len() > SEAL_BYTES
                    && rest.get(HASH_FIELD.len()..HASH_FIELD.len() + HASH_HEX_BYTES)
                        == Some(&hex(&link(&self.end.hash, body)))
            });
        if same && clean && !seal_inside {
            Ok(())
        } else {
            Err(Broken { seq, reason: BreakReason::NotATornRecord })
        }
    }
}

/// The chain's end after a complete line, as the line itself states it. Nothing is checked.
pub fn end_of_line(line: &[u8]) -> Result<Chain, BreakReason> {
    let (_, sealed) = unseal(line).ok_or(BreakReason::NoHash)?;
    let hash = unhex(sealed).ok_or(BreakReason::NoHash)?;
    Ok(Chain { seq: envelope(line)?.seq, hash })
}

fn envelope(line: &[u8]) -> Result<Envelope, BreakReason> {
    let envelope: Envelope =
        serde_json::from_slice(line).map_err(|error| BreakReason::NotARecord(error.to_string()))?;
    if envelope.v != VERSION {
        return Err(BreakReason::NotARecord(format!(
            "its format is version {}, and this lineal reads version {VERSION}",
            envelope.v
        )));
    }
    Ok(envelope)
}

/// A line's bytes before `,"hash"`, and its hash in hex.
fn unseal(line: &[u8]) -> Option<(&[u8], &[u8])> {
    let (body, seal) = line.split_at_checked(line.len().checked_sub(SEAL_BYTES)?)?;
    let sealed = seal.strip_prefix(HASH_FIELD)?.strip_suffix(LINE_END)?;
    Some((body, sealed))
}
