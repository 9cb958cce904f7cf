//! The trail's files: `audit-<first seq>.jsonl`, each going on where the one before ends.

use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use agent_core::audit::Chain;
use agent_core::audit::chain::{LINE_BYTES_MAX, end_of_line};

use super::error::AuditError;

const PREFIX: &str = "audit-";
const SUFFIX: &str = ".jsonl";
/// Wide enough that names order as numbers do.
const SEQ_DIGITS: usize = 20;
/// How much of a segment's end is read at a time, looking for its last line.
const END_STEP_BYTES: u64 = 64 * 1024;

/// One file of a trail.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Segment {
    /// The number of its first record.
    pub(super) first_seq: u64,
    /// Where it is.
    pub(super) file: PathBuf,
}

/// Where the segment that begins with record `first_seq` lies.
pub(super) fn path(dir: &Path, first_seq: u64) -> PathBuf {
    dir.join(format!("{PREFIX}{first_seq:0SEQ_DIGITS$}{SUFFIX}"))
}

/// A trail's segments, in order.
pub(super) fn list(dir: &Path) -> std::io::Result<Vec<Segment>> {
    let mut segments = Vec::new();
    for entry in fs::read_dir(dir)? {
        let file = entry?.path();
        let name = file.file_name().and_then(|name| name.to_str()).unwrap_or("");
        let digits = name.strip_prefix(PREFIX).and_then(|name| name.strip_suffix(SUFFIX));
        if let Some(first_seq) = digits.and_then(|digits| digits.parse().ok()) {
            segments.push(Segment { first_seq, file });
        }
    }
    segments.sort();
    Ok(segments)
}

/// Where a trail stopped.
#[derive(Debug)]
pub(super) struct End {
    /// The last whole line.
    pub(super) chain: Chain,
    /// The segment to go on in, with the bytes of its whole lines; `None` to begin one.
    pub(super) segment: Option<(Segment, u64)>,
    /// Bytes after the last newline, left by a write that a crash interrupted.
    pub(super) torn_bytes: u64,
}

/// Finds a trail's end. A line that is whole but no record is an error: it is evidence, not debris.
pub(super) fn find_end(dir: &Path) -> Result<End, AuditError> {
    let segments = list(dir).map_err(AuditError::io("list", dir))?;
    let mut end = End { chain: Chain::GENESIS, segment: None, torn_bytes: 0 };
    for segment in segments.into_iter().rev() {
        let LastLine { line, whole_bytes, torn_bytes } =
            last_line(&segment.file).map_err(AuditError::io("read the end of", &segment.file))?;
        if end.segment.is_none() {
            end.torn_bytes = torn_bytes;
            end.segment = Some((segment.clone(), whole_bytes));
        }
        // A segment without a whole line was begun just before a crash: the one before has the chain's end.
        if let Some(line) = line {
            end.chain = end_of_line(&line).map_err(|reason| AuditError::End {
                file: segment.file.clone(),
                reason: reason.to_string(),
            })?;
            break;
        }
    }
    if let Some((segment, 0)) = &end.segment
        && segment.first_seq != end.chain.seq + 1
    {
        let reason = format!(
            "it is to begin with record {}, but record {} is next",
            segment.first_seq,
            end.chain.seq + 1
        );
        return Err(AuditError::End { file: segment.file.clone(), reason });
    }
    Ok(end)
}

/// How a segment ends.
pub(super) struct LastLine {
    /// Its last whole line, without the newline.
    line: Option<Vec<u8>>,
    /// Bytes of all its whole lines.
    pub(super) whole_bytes: u64,
    /// Bytes after them.
    torn_bytes: u64,
}

/// Reads a segment's end.
pub(super) fn last_line(file: &Path) -> std::io::Result<LastLine> {
    let mut opened = File::open(file)?;
    let length = opened.seek(SeekFrom::End(0))?;
    let mut start = length;
    let mut bytes = Vec::new();
    loop {
        // Two newlines hold the last whole line between them; the file's start serves as the first.
        let newlines: Vec<usize> = bytes
            .iter()
            .enumerate()
            .rev()
            .filter(|(_, byte)| **byte == b'\n')
            .take(2)
            .map(|(at, _)| at)
            .collect();
        let line = match (newlines.as_slice(), start) {
            ([last, before], _) => Some((*before + 1, *last)),
            ([last], 0) => Some((0, *last)),
            ([], 0) => return Ok(LastLine { line: None, whole_bytes: 0, torn_bytes: length }),
            _ => None,
        };
        if let Some((from, to)) = line {
            let torn_bytes = (bytes.len() - to - 1) as u64;
            let line = bytes.get(from..to).map(<[u8]>::to_vec);
            return Ok(LastLine { line, whole_bytes: length - torn_bytes, torn_bytes });
        }
        if bytes.len() > 2 * LINE_BYTES_MAX {
            return Err(std::io::Error::other("there is no newline where a record could end"));
        }
        let step = END_STEP_BYTES.max(bytes.len() as u64).min(start);
        start -= step;
        let mut piece = Vec::new();
        opened.seek(SeekFrom::Start(start))?;
        opened.by_ref().take(step).read_to_end(&mut piece)?;
        piece.append(&mut bytes);
        bytes = piece;
    }
}
