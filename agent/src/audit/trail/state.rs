//! What the writer and the flusher change under their lock: the open segment, the lines that it does not hold
//! yet, and the times at which the flusher has work.
//!
//! A failed append must leave no trace: [`State::rollback_point`] and [`State::roll_back`] put everything
//! back that it may have changed.

use std::{
    fs::{self, File, OpenOptions},
    io::Write,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    sync::Arc,
    time::Instant,
};

use agent_core::audit::Chain;

use super::segments;
use crate::audit::error::AuditError;

/// The line buffer shrinks to this after one long record made it grow.
const BUFFER_KEPT_BYTES: usize = 1024 * 1024;

/// All that changes while records are written.
pub(super) struct State {
    /// The segment that records go to; `None` until the trail's first record.
    pub(super) segment: Option<OpenSegment>,
    /// The end of the chain, and the lines that are not in the segment yet.
    pub(super) unwritten: Unwritten,
    /// Defects of the trail that the next record must be preceded by.
    pub(super) defects: Defects,
    /// Bytes were written since the last sync.
    pub(super) unsynced: bool,
    /// When the flusher has work.
    pub(super) due: Due,
    /// Why the last attempt to write or sync failed; `None` once one succeeds.
    pub(super) failure: Option<String>,
    /// No record is accepted any more.
    pub(super) closed: bool,
}

/// Lines that have their place in the chain and are not in the file yet.
pub(super) struct Unwritten {
    /// The end of the chain, these lines included.
    pub(super) chain: Chain,
    /// The lines, in the chain's order.
    pub(super) buffer: Vec<u8>,
    /// How many they are.
    pub(super) records: u64,
    /// Records since the last checkpoint; `u64::MAX` when the next record needs one first.
    pub(super) since_checkpoint: u64,
}

/// What has happened to the trail and is not on record yet.
#[derive(Clone, Default)]
pub(super) struct Defects {
    /// Bytes of an unfinished line that a crash left and recovery cut off; 0 for none.
    pub(super) torn_bytes: u64,
    /// The last sync failed: until this is on record, nothing else is written.
    pub(super) sync_failed: Option<String>,
}

/// When the flusher has work.
#[derive(Default)]
pub(super) struct Due {
    /// Deferred records must be written by then.
    pub(super) flush: Option<Instant>,
    /// The file must be synced by then.
    pub(super) sync: Option<Instant>,
    /// When the flusher wakes without being notified; `None` while it waits for a notification only.
    pub(super) flusher_wakes: Option<Instant>,
}

/// The state before an append, as far as a failed append has to restore it.
pub(super) struct RollbackPoint {
    chain: Chain,
    buffer_bytes: usize,
    records: u64,
    since_checkpoint: u64,
    defects: Defects,
}

impl State {
    /// The state after recovery. The first record is preceded by a checkpoint, which signs for what was
    /// found.
    pub(super) fn after(chain: Chain, segment: Option<OpenSegment>, torn_bytes: u64) -> Self {
        Self {
            segment,
            unwritten: Unwritten { chain, buffer: Vec::new(), records: 0, since_checkpoint: u64::MAX },
            defects: Defects { torn_bytes, sync_failed: None },
            unsynced: torn_bytes > 0,
            due: Due::default(),
            failure: None,
            closed: false,
        }
    }

    /// What [`State::roll_back`] returns to.
    pub(super) fn rollback_point(&self) -> RollbackPoint {
        RollbackPoint {
            chain: self.unwritten.chain,
            buffer_bytes: self.unwritten.buffer.len(),
            records: self.unwritten.records,
            since_checkpoint: self.unwritten.since_checkpoint,
            defects: self.defects.clone(),
        }
    }

    /// Undoes what was encoded since `point`.
    pub(super) fn roll_back(&mut self, point: RollbackPoint) {
        let RollbackPoint { chain, buffer_bytes, records, since_checkpoint, defects } = point;
        self.unwritten.buffer.truncate(buffer_bytes);
        self.unwritten.chain = chain;
        self.unwritten.records = records;
        self.unwritten.since_checkpoint = since_checkpoint;
        self.defects = defects;
    }

    /// The file that records go to.
    pub(super) fn file(&self) -> Option<Arc<File>> {
        self.segment.as_ref().map(|segment| Arc::clone(&segment.file))
    }
}

impl Unwritten {
    /// Forgets the lines: they are in the file now.
    pub(super) fn clear(&mut self) {
        self.buffer.clear();
        self.buffer.shrink_to(BUFFER_KEPT_BYTES);
        self.records = 0;
    }
}

/// The segment that records go to.
pub(super) struct OpenSegment {
    pub(super) file: Arc<File>,
    pub(super) path: PathBuf,
    /// Bytes of its complete lines.
    pub(super) bytes: u64,
    /// The file may hold part of a line past `bytes`, because cutting it off has failed.
    cut_needed: bool,
}

impl OpenSegment {
    /// The segment that an earlier agent wrote last.
    pub(super) fn continued(file: File, path: PathBuf, bytes: u64) -> Self {
        Self { file: Arc::new(file), path, bytes, cut_needed: false }
    }

    /// Creates the segment that begins with record `first_seq`. `dir_file` is the open directory `dir`,
    /// synced so that the segment's name survives a crash of the host.
    pub(super) fn begin(dir: &Path, dir_file: &File, first_seq: u64) -> Result<Self, AuditError> {
        let path = segments::path(dir, first_seq);
        let file = OpenOptions::new()
            .append(true)
            .create_new(true)
            .mode(0o600)
            .open(&path)
            .map_err(AuditError::io("begin the audit segment", &path))?;
        if let Err(error) = dir_file.sync_all() {
            // Without its name on disk the segment does not count; the next record begins it again.
            fs::remove_file(&path).map_err(AuditError::io("remove", &path))?;
            return Err(AuditError::io("sync", dir)(error));
        }
        Ok(Self { file: Arc::new(file), path, bytes: 0, cut_needed: false })
    }

    /// Appends complete lines with one `write(2)`. After an error the file ends in its last complete line
    /// again; where cutting it back fails too, that is done before the next write.
    pub(super) fn append(&mut self, lines: &[u8]) -> Result<(), AuditError> {
        if self.cut_needed {
            self.file
                .set_len(self.bytes)
                .map_err(AuditError::io("cut the unfinished record off", &self.path))?;
            self.cut_needed = false;
        }
        if let Err(error) = (&*self.file).write_all(lines) {
            self.cut_needed = self.file.set_len(self.bytes).is_err();
            return Err(AuditError::io("write the audit record to", &self.path)(error));
        }
        self.bytes += lines.len() as u64;
        Ok(())
    }
}
