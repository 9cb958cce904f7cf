//! The trail's files: `audit-<first seq>.jsonl`, each continuing the chain of the one before. Naming, listing
//! and reading the end of one; nothing here writes.

use std::{
    fs::{self, File},
    io::{self, Read, Seek, SeekFrom},
    path::{Path, PathBuf},
};

use agent_core::audit::chain::LINE_BYTES_MAX;

const PREFIX: &str = "audit-";
const SUFFIX: &str = ".jsonl";
/// As many digits as the largest `u64` has, so that names sort as numbers do.
const SEQ_DIGITS: usize = 20;
/// Bytes read at a time, backwards from a segment's end, to find its last line.
const END_STEP_BYTES: u64 = 64 * 1024;

/// One file of a trail.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::audit) struct Segment {
    /// The `seq` of its first record, from its name.
    pub(in crate::audit) first_seq: u64,
    /// Its path.
    pub(in crate::audit) file: PathBuf,
}

/// The path of the segment that begins with record `first_seq`.
pub(super) fn path(dir: &Path, first_seq: u64) -> PathBuf {
    dir.join(format!("{PREFIX}{first_seq:0SEQ_DIGITS$}{SUFFIX}"))
}

/// A trail's segments, in order.
pub(in crate::audit) fn list(dir: &Path) -> io::Result<Vec<Segment>> {
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

/// How a segment ends.
pub(in crate::audit) struct LastLine {
    /// Its last complete line, without the newline; `None` if it has none.
    pub(super) line: Option<Vec<u8>>,
    /// Bytes of all its complete lines.
    pub(in crate::audit) whole_bytes: u64,
    /// Bytes after the last newline.
    pub(super) torn_bytes: u64,
}

/// Reads a segment's end.
pub(in crate::audit) fn last_line(file: &Path) -> io::Result<LastLine> {
    let mut opened = File::open(file)?;
    let length = opened.seek(SeekFrom::End(0))?;
    let mut start = length;
    let mut bytes = Vec::new();
    loop {
        // The last complete line stands between the last two newlines; the start of the file counts as one.
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
            return Err(io::Error::other("its last lines are longer than any record"));
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
