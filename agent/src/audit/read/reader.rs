//! Reads a trail's lines in order, across its segments, one line in memory at a time. Of a line it checks the
//! length alone: `verify` checks the rest.

use std::{
    collections::VecDeque,
    fs::File,
    io::{self, BufRead, BufReader, Read, Seek, SeekFrom},
    path::{Path, PathBuf},
};

use agent_core::audit::chain::LINE_BYTES_MAX;

use super::error::ReadError;
use crate::audit::trail::{Segment, list_segments};

/// Whether a directory holds at least one segment of a trail.
pub(crate) fn holds_a_trail(dir: &Path) -> io::Result<bool> {
    Ok(!list_segments(dir)?.is_empty())
}

/// What [`Lines::step`] has read.
pub(super) enum Step<'a> {
    /// A complete line, without its newline.
    Line(&'a [u8]),
    /// The bytes after a segment's last newline, if there are any: a line whose write was interrupted.
    Torn {
        /// Those bytes.
        tail: &'a [u8],
        /// No other segment follows.
        last: bool,
    },
    /// Nothing: the trail has ended.
    End,
}

/// A position in a trail, from which its lines are read one after the other. The segments are those that were
/// there when the trail was opened.
pub(super) struct Lines {
    /// The segment of the last step; `None` at the trail's end.
    current: Option<Current>,
    /// The segments after it.
    later: VecDeque<Segment>,
    /// What the last step read.
    line: Vec<u8>,
}

/// A position in a segment.
struct Current {
    segment: Segment,
    reader: BufReader<File>,
    /// How many bytes have been read.
    offset: u64,
    /// How many lines have been read.
    line_number: u64,
}

impl Current {
    fn open(segment: Segment, offset: u64, line_number: u64) -> Result<Self, ReadError> {
        let mut file = File::open(&segment.file).map_err(ReadError::io("open", &segment.file))?;
        file.seek(SeekFrom::Start(offset)).map_err(ReadError::io("read", &segment.file))?;
        Ok(Self { segment, reader: BufReader::with_capacity(256 * 1024, file), offset, line_number })
    }
}

impl Lines {
    /// Begins at the trail's first line. A directory without segments is an error ([`ReadError::Empty`]).
    pub(super) fn open(dir: &Path) -> Result<Self, ReadError> {
        let mut later: VecDeque<_> = list_segments(dir).map_err(ReadError::io("list", dir))?.into();
        let first = later.pop_front().ok_or_else(|| ReadError::Empty { dir: dir.to_owned() })?;
        Ok(Self { current: Some(Current::open(first, 0, 0)?), later, line: Vec::new() })
    }

    /// A second reader at the same position.
    pub(super) fn fork(&self) -> Result<Self, ReadError> {
        let current = match &self.current {
            Some(current) => {
                Some(Current::open(current.segment.clone(), current.offset, current.line_number)?)
            }
            None => None,
        };
        Ok(Self { current, later: self.later.clone(), line: Vec::new() })
    }

    /// Reads the next line. A line of more than [`LINE_BYTES_MAX`] bytes is an error ([`ReadError::Line`]).
    pub(super) fn step(&mut self) -> Result<Step<'_>, ReadError> {
        loop {
            let Some(current) = &mut self.current else { return Ok(Step::End) };
            self.line.clear();
            let read = current
                .reader
                .by_ref()
                .take(LINE_BYTES_MAX as u64 + 1)
                .read_until(b'\n', &mut self.line)
                .map_err(ReadError::io("read", &current.segment.file))?;
            if read > 0 {
                current.offset += read as u64;
                current.line_number += 1;
                if self.line.pop_if(|byte| *byte == b'\n').is_some() {
                    return Ok(Step::Line(&self.line));
                }
                if read > LINE_BYTES_MAX {
                    return Err(self.bad_line("longer than any record".to_owned()));
                }
                return Ok(Step::Torn { tail: &self.line, last: self.later.is_empty() });
            }
            self.current = match self.later.pop_front() {
                Some(segment) => Some(Current::open(segment, 0, 0)?),
                None => None,
            };
        }
    }

    /// The path of the segment, and the number in the segment, from 1, of the line that the last step read.
    /// After the trail's end the path is empty and the number 0.
    pub(super) fn position(&self) -> (PathBuf, u64) {
        match &self.current {
            Some(current) => (current.segment.file.clone(), current.line_number),
            None => (PathBuf::new(), 0),
        }
    }

    /// The `seq` of the first record, as the segment's name gives it, of the segment of the last step. `None`
    /// at the trail's end.
    pub(super) fn segment_first_seq(&self) -> Option<u64> {
        self.current.as_ref().map(|current| current.segment.first_seq)
    }

    /// An error about the line that the last step read.
    pub(super) fn bad_line(&self, reason: String) -> ReadError {
        let (file, line) = self.position();
        ReadError::Line { file, line, reason }
    }
}
