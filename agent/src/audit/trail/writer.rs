//! Writes records, one at a time, under one lock that it shares with the flusher's thread.
//!
//! Each append succeeds whole or changes nothing: when a record cannot be written, the file is cut back to
//! its last complete line, the chain is rolled back, and the caller gets the error. Every later call tries
//! again, so a trail recovers when its disk does.

use std::{
    fs::File,
    path::PathBuf,
    sync::{Arc, Condvar, Mutex, MutexGuard, atomic::Ordering},
    time::{Duration, Instant},
};

use agent_core::audit::{
    Host,
    record::{Detail, Record},
};
use rustix::fs::{FlockOperation, flock};

use super::{
    encoder::Encoder,
    keys::CheckpointKey,
    metrics::AuditMetrics,
    state::{OpenSegment, State},
};
use crate::audit::{config::AuditConfig, error::AuditError};

/// Bytes of deferred records held in memory; past this they are written at once, whatever the time.
const DEFERRED_BYTES_MAX: usize = 256 * 1024;

/// What the trail's handle and its flusher share.
pub(super) struct Writer {
    state: Mutex<State>,
    /// Notified when the flusher has something to do earlier than it knows.
    pub(super) wake: Condvar,
    pub(super) metrics: Arc<AuditMetrics>,
    encoder: Encoder,
    deferred: Duration,
    sync: Duration,
    rotate_bytes: u64,
    checkpoint_records: u64,
    dir: PathBuf,
    /// The directory, held open for its lock and to sync the names of new segments.
    dir_lock: File,
}

impl Writer {
    /// A writer that goes on from `state`. `dir_lock` is the open directory, locked for this agent alone.
    pub(super) fn new(
        config: &AuditConfig,
        state: State,
        dir_lock: File,
        host: Host,
        key: CheckpointKey,
        metrics: &Arc<AuditMetrics>,
    ) -> Self {
        Self {
            state: Mutex::new(state),
            wake: Condvar::new(),
            metrics: Arc::clone(metrics),
            encoder: Encoder { host, key, metrics: Arc::clone(metrics) },
            deferred: Duration::from_millis(config.deferred_ms),
            sync: Duration::from_millis(config.fdatasync_ms),
            rotate_bytes: config.rotate_bytes,
            checkpoint_records: config.checkpoint_records,
            dir: config.dir.clone(),
            dir_lock,
        }
    }

    /// Fingerprint of the key that signs checkpoints.
    pub(super) fn key_fingerprint(&self) -> &str {
        self.encoder.key.fingerprint()
    }

    /// Locks the state. A panic under the lock leaves the chain in doubt, so nothing is written after one.
    pub(super) fn lock(&self) -> Result<MutexGuard<'_, State>, AuditError> {
        self.state.lock().map_err(|_| AuditError::Closed)
    }

    /// Encodes `record`, if one is given, with whatever must stand before it, and writes all unwritten lines
    /// unless `deferred`. On an error none of it has happened. Returns the record's `seq`.
    pub(super) fn put(
        &self,
        state: &mut State,
        record: Option<&Record<'_>>,
        deferred: bool,
    ) -> Result<u64, AuditError> {
        if state.closed {
            return Err(AuditError::Closed);
        }
        let before = state.rollback_point();
        match self.try_put(state, record, deferred) {
            Ok(()) => Ok(state.unwritten.chain.seq),
            Err(error) => {
                state.roll_back(before);
                AuditMetrics::add(&self.metrics.errors, 1);
                if !matches!(error, AuditError::Record(_)) {
                    self.note_failure(state, error.to_string());
                }
                Err(error)
            }
        }
    }

    fn try_put(
        &self,
        state: &mut State,
        record: Option<&Record<'_>>,
        deferred: bool,
    ) -> Result<(), AuditError> {
        self.prepare(state)?;
        if let Some(record) = record {
            self.encoder.record(&mut state.unwritten, record)?;
        }
        if deferred {
            if state.unwritten.buffer.len() < DEFERRED_BYTES_MAX {
                self.arm(state, |state| &mut state.due.flush, self.deferred);
                return Ok(());
            }
            AuditMetrics::add(&self.metrics.deferred_full, 1);
        }
        self.write_out(state)
    }

    /// Encodes what must stand before the next record: a checkpoint, where a segment begins or one is due,
    /// and the defects that are not on record yet.
    fn prepare(&self, state: &mut State) -> Result<(), AuditError> {
        // Deferred lines already have their place in the chain, which is before the next segment.
        if state.unwritten.buffer.is_empty() {
            if state.segment.as_ref().is_none_or(|segment| segment.bytes >= self.rotate_bytes) {
                self.begin_segment(state)?;
            }
            if state.segment.as_ref().is_some_and(|segment| segment.bytes == 0) {
                self.encoder.checkpoint(&mut state.unwritten)?;
            }
        }
        if state.unwritten.since_checkpoint >= self.checkpoint_records {
            self.encoder.checkpoint(&mut state.unwritten)?;
        }
        if state.defects.torn_bytes > 0 {
            let detail = ("torn_bytes", Detail::Count(state.defects.torn_bytes));
            let reason = "the last write was interrupted; its unfinished record was cut off";
            self.encoder.gap(&mut state.unwritten, reason, detail)?;
            state.defects.torn_bytes = 0;
        }
        if let (Some(error), Some(file)) = (state.defects.sync_failed.clone(), state.file()) {
            // After a failed sync the kernel may have marked the pages clean: a later sync that succeeds
            // proves nothing about them. So the trail says that they are in doubt.
            file.sync_data().map_err(AuditError::io("sync", &self.dir))?;
            let detail = ("error", Detail::Text(error.as_str()));
            let reason = "a sync failed: records before this one may not survive the host's crash";
            self.encoder.gap(&mut state.unwritten, reason, detail)?;
            state.defects.sync_failed = None;
        }
        Ok(())
    }

    fn begin_segment(&self, state: &mut State) -> Result<(), AuditError> {
        if let Some(segment) = &state.segment {
            // A crash must not keep the new segment and lose the end of the one before.
            segment.file.sync_data().map_err(AuditError::io("sync", &segment.path))?;
        }
        let first_seq = state.unwritten.chain.seq + 1;
        state.segment = Some(OpenSegment::begin(&self.dir, &self.dir_lock, first_seq)?);
        Ok(())
    }

    /// Writes all unwritten lines.
    fn write_out(&self, state: &mut State) -> Result<(), AuditError> {
        let Some(segment) = &mut state.segment else { return Ok(()) };
        segment.append(&state.unwritten.buffer)?;
        AuditMetrics::add(&self.metrics.bytes, state.unwritten.buffer.len() as u64);
        AuditMetrics::add(&self.metrics.records, state.unwritten.records);
        state.unwritten.clear();
        state.due.flush = None;
        if state.defects.sync_failed.is_none() && state.failure.take().is_some() {
            self.metrics.failed.store(false, Ordering::Relaxed);
            tracing::info!("the audit trail can be written again");
        }
        state.unsynced = true;
        self.arm(state, |state| &mut state.due.sync, self.sync);
        Ok(())
    }

    /// Writes deferred records whose time has come; on an error they are tried again after `deferred_ms`.
    pub(super) fn flush(&self, state: &mut State) {
        if !state.unwritten.buffer.is_empty()
            && let Err(error) = self.write_out(state)
        {
            self.note_failure(state, error.to_string());
            state.due.flush = Some(Instant::now() + self.deferred);
        }
    }

    /// Sets a deadline for the flusher unless it is set, and wakes it only if it would wake too late.
    fn arm(&self, state: &mut State, due: impl Fn(&mut State) -> &mut Option<Instant>, after: Duration) {
        if due(state).is_some() {
            return;
        }
        let at = Instant::now() + after;
        *due(state) = Some(at);
        if state.due.flusher_wakes.is_none_or(|wakes| wakes > at) {
            state.due.flusher_wakes = Some(at);
            self.wake.notify_one();
        }
    }

    /// Notes a failed sync: the next record is preceded by a `gap` that says so.
    pub(super) fn sync_failed(&self, state: &mut State, error: String) {
        AuditMetrics::add(&self.metrics.sync_errors, 1);
        state.defects.sync_failed = Some(error.clone());
        self.note_failure(state, error);
    }

    /// Remembers why the trail cannot be written, and logs the first of several failures.
    fn note_failure(&self, state: &mut State, error: String) {
        if state.failure.is_none() {
            tracing::error!(%error, "the audit trail cannot be written: commands are denied until it can");
        }
        state.failure = Some(error);
        self.metrics.failed.store(true, Ordering::Relaxed);
    }

    /// Writes what is deferred, signs a last checkpoint, syncs, gives up the directory's lock, and has the
    /// flusher end.
    pub(super) fn close(&self) -> Result<(), AuditError> {
        let mut state = self.lock()?;
        if state.closed {
            return Ok(());
        }
        // A trail that nothing was written to since its start gets no checkpoint either.
        let used = state.unwritten.since_checkpoint != u64::MAX;
        if used {
            state.unwritten.since_checkpoint = u64::MAX;
        }
        let written = if used { self.put(&mut state, None, false).map(|_| ()) } else { Ok(()) };
        state.closed = true;
        self.wake.notify_one();
        let synced = match state.file() {
            Some(file) if state.unsynced => file.sync_data().map_err(AuditError::io("sync", &self.dir)),
            _ => Ok(()),
        };
        // Another agent may write the trail from here on, even while handles to this one live.
        let unlocked = flock(&self.dir_lock, FlockOperation::Unlock);
        let unlocked = unlocked.map_err(|errno| AuditError::io("unlock", &self.dir)(errno.into()));
        written.and(synced).and(unlocked)
    }
}
