//! The result of checking a trail, as JSON and as text.

use std::{io::Write, path::PathBuf};

use serde::Serialize;

use super::super::error::ReadError;

/// The result, as `--json` prints it.
#[derive(Debug, Default, Serialize)]
pub(super) struct Report {
    /// No break was found.
    pub(super) unbroken: bool,
    pub(super) records: u64,
    pub(super) checkpoints: u64,
    /// False when there was no key to check them with.
    pub(super) signatures_checked: bool,
    /// Fingerprints of the keys.
    pub(super) keys: Vec<String>,
    pub(super) first: Option<Position>,
    pub(super) last: Option<Position>,
    /// The record that the last checkpoint signs for.
    pub(super) last_checkpoint: Option<u64>,
    /// Bytes of an unfinished record at the end.
    pub(super) torn_bytes: usize,
    pub(super) broken: Option<Break>,
}

/// One record of the trail.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Position {
    pub(super) seq: u64,
    pub(super) time: String,
}

/// Where the trail is broken, and why.
#[derive(Debug, Serialize)]
pub(super) struct Break {
    pub(super) file: PathBuf,
    /// The line's number in the file, from 1.
    pub(super) line: u64,
    /// The record that should stand there.
    pub(super) seq: u64,
    pub(super) reason: String,
}

impl Report {
    /// Prints the result for people. `keys_from_beside`: nobody named a key, so those beside the trail were
    /// used.
    pub(super) fn print(&self, keys_from_beside: bool, out: &mut dyn Write) -> Result<(), ReadError> {
        let Self { records, checkpoints, .. } = self;
        if let Some(Break { file, line, reason, seq }) = &self.broken {
            writeln!(out, "BROKEN at {}:{line}: record {seq}: {reason}", file.display())?;
            if let Some(last) = &self.last {
                writeln!(
                    out,
                    "{records} records before it hold, the last one record {} of {}",
                    last.seq, last.time
                )?;
            }
            return Ok(());
        }
        match (&self.first, &self.last) {
            (Some(first), Some(last)) => writeln!(
                out,
                "{records} records, {checkpoints} checkpoints, \
                 unbroken from {} (record {}) to {} (record {})",
                first.time, first.seq, last.time, last.seq
            )?,
            _ => writeln!(out, "0 records, 0 checkpoints: the trail has only begun")?,
        }
        if self.torn_bytes > 0 {
            writeln!(
                out,
                "{} bytes of an unfinished record are at the end: a write was interrupted or is under way",
                self.torn_bytes
            )?;
        }
        if !self.signatures_checked {
            writeln!(
                out,
                "signatures were not checked: no public key lies beside the trail; name one with --key"
            )?;
        } else {
            for key in &self.keys {
                writeln!(out, "checkpoints checked with {key}")?;
            }
            if keys_from_beside {
                writeln!(
                    out,
                    "that key lay beside the trail: \
                     compare it with one kept elsewhere, or name yours with --key"
                )?;
            }
        }
        if let (Some(last), Some(checkpoint)) = (&self.last, self.last_checkpoint) {
            writeln!(
                out,
                "signed up to record {checkpoint} of {}: records cut off after a trail's end show only \
                 against a later checkpoint or count kept elsewhere",
                last.seq
            )?;
        }
        Ok(())
    }
}
