//! Reads a trail's lines in order, across its segments, one at a time and never more than one in memory.
//! It proves nothing: that is `verify`.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use agent_core::audit::chain::LINE_BYTES_MAX;

use super::error::TrailError;
use super::segments::{self, Segment};

/// One step through a trail.
pub(super) enum Step<'a> {
    /// A whole line, without its newline.
    Line(&'a [u8]),
    /// What stands after a segment's last newline.
    Torn(&'a [u8]),
    /// The trail's end.
    End,
}

/// A trail being read.
pub(super) struct Lines {
    current: Option<Current>,
    later: VecDeque<Segment>,
    line: Vec<u8>,
}

struct Current {
    segment: Segment,
    reader: BufReader<File>,
    offset: u64,
    line_number: u64,
}

impl Current {
    fn open(segment: Segment, offset: u64, line_number: u64) -> Result<Self, TrailError> {
        let mut file = File::open(&segment.file).map_err(TrailError::io("open", &segment.file))?;
        file.seek(SeekFrom::Start(offset)).map_err(TrailError::io("read", &segment.file))?;
        Ok(Self { segment, reader: BufReader::with_capacity(256 * 1024, file), offset, line_number })
    }
}

impl Lines {
    /// From the trail's first line on.
    pub(super) fn open(dir: &Path) -> Result<Self, TrailError> {
        let mut later: VecDeque<_> = segments::list(dir).map_err(TrailError::io("list", dir))?.into();
        let first = later.pop_front().ok_or_else(|| TrailError::Empty { dir: dir.to_owned() })?;
        Ok(Self { current: Some(Current::open(first, 0, 0)?), later, line: Vec::new() })
    }

    /// A second reader that stands where this one does.
    pub(super) fn fork(&self) -> Result<Self, TrailError> {
        let current = match &self.current {
            Some(current) => {
                Some(Current::open(current.segment.clone(), current.offset, current.line_number)?)
            }
            None => None,
        };
        Ok(Self { current, later: self.later.clone(), line: Vec::new() })
    }

    /// The next line.
    pub(super) fn step(&mut self) -> Result<Step<'_>, TrailError> {
        loop {
            let Some(current) = &mut self.current else { return Ok(Step::End) };
            self.line.clear();
            let read = current
                .reader
                .by_ref()
                .take(LINE_BYTES_MAX as u64 + 1)
                .read_until(b'\n', &mut self.line)
                .map_err(TrailError::io("read", &current.segment.file))?;
            if read > 0 {
                current.offset += read as u64;
                current.line_number += 1;
                if self.line.pop_if(|byte| *byte == b'\n').is_some() {
                    return Ok(Step::Line(&self.line));
                }
                if read > LINE_BYTES_MAX {
                    return Err(self.bad_line("longer than any record".to_owned()));
                }
                return Ok(Step::Torn(&self.line));
            }
            self.current = match self.later.pop_front() {
                Some(segment) => Some(Current::open(segment, 0, 0)?),
                None => None,
            };
        }
    }

    /// Whether another segment follows.
    pub(super) fn has_later(&self) -> bool {
        !self.later.is_empty()
    }

    /// The segment and the number of the line that the last step gave.
    pub(super) fn place(&self) -> (PathBuf, u64) {
        match &self.current {
            Some(current) => (current.segment.file.clone(), current.line_number),
            None => (PathBuf::new(), 0),
        }
    }

    /// The number that the name of the segment being read says it begins with.
    pub(super) fn segment_first_seq(&self) -> Option<u64> {
        self.current.as_ref().map(|current| current.segment.first_seq)
    }

    /// An error about the line that the last step gave.
    pub(super) fn bad_line(&self, reason: String) -> TrailError {
        let (file, line) = self.place();
        TrailError::Line { file, line, reason }
    }
}
