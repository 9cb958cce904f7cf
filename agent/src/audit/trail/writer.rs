//! The one writer of a trail.
//!
//! [`Trail::append`] returns only after `write(2)` has, so what is acknowledged survives the death of the
//! agent; the host's own crash can cost what was not yet synced, `fdatasync_ms` at most. When a record cannot
//! be written the file is cut back to its last whole line and the caller gets the error: it must not do what
//! the record stands for. Every later call tries anew, so a trail recovers when its disk does.
//!
//! [`Trail::append_deferred`] is for outcomes: they take their place in the chain at once and reach the file
//! with the next record, or after `deferred_ms`. A killed agent loses those milliseconds of outcomes, never a
//! decision.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use agent_core::audit::chain::hex;
use agent_core::audit::record::{
    AgentRecord, AgentState, CheckpointRecord, CheckpointUpto, Detail, Details, Record,
};
use agent_core::audit::{Chain, Host};
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use super::config::AuditConfig;
use super::error::AuditError;
use super::keys::CheckpointKey;
use super::metrics::AuditMetrics;
use super::{flusher, segments};

/// Deferred records held in memory; past this they are written at once, whatever the clock says.
const DEFERRED_BYTES_MAX: usize = 256 * 1024;
/// The line buffer gives back what one long record made it grow to.
const BUFFER_KEPT_BYTES: usize = 1024 * 1024;

/// The trail of one agent. Closing, or dropping the last handle, writes what is deferred, signs and syncs.
pub(crate) struct Trail {
    /// `None` when auditing is switched off.
    shared: Option<Arc<Shared>>,
    flusher: Mutex<Option<JoinHandle<()>>>,
    metrics: Arc<AuditMetrics>,
}

/// What the writer and the flusher share.
pub(super) struct Shared {
    state: Mutex<State>,
    pub(super) wake: Condvar,
    pub(super) metrics: Arc<AuditMetrics>,
    pub(super) deferred: Duration,
    pub(super) sync: Duration,
    rotate_bytes: u64,
    checkpoint_records: u64,
    host: Host,
    key: CheckpointKey,
    dir: PathBuf,
    /// Held open for its lock, and to sync the names in it.
    dir_lock: File,
}

/// Everything that one record's writing reads and changes; under one lock.
pub(super) struct State {
    segment: Option<OpenSegment>,
    chain: Chain,
    /// Lines in chain order that are not in the file yet.
    buffer: Vec<u8>,
    buffered_records: u64,
    since_checkpoint: u64,
    /// The file may hold part of a line past `segment.bytes`: cutting it off has failed.
    cut_needed: bool,
    /// To be noted by the next record: bytes that a crash left of an unfinished line.
    torn_bytes: u64,
    /// To be noted by the next record, and until then nothing is written: the last sync failed.
    sync_failed: Option<String>,
    pub(super) unsynced: bool,
    pub(super) flush_due: Option<Instant>,
    pub(super) sync_due: Option<Instant>,
    /// When the flusher wakes by itself; `None` while it has nothing to wait for.
    pub(super) flusher_wakes: Option<Instant>,
    failure: Option<String>,
    pub(super) closed: bool,
}

struct OpenSegment {
    file: Arc<File>,
    path: PathBuf,
    /// Bytes of whole lines.
    bytes: u64,
}

/// What a failed append puts back.
struct Mark {
    chain: Chain,
    buffer_bytes: usize,
    buffered_records: u64,
    since_checkpoint: u64,
    torn_bytes: u64,
    sync_failed: Option<String>,
}

impl Trail {
    /// Opens the trail in `config.dir`, going on where it ended; its key is in `state_dir` unless the configuration says
    /// otherwise. Only one process can have it open.
    pub(crate) fn open(config: &AuditConfig, state_dir: &Path, host: &str) -> Result<Arc<Self>, AuditError> {
        let state_dir = config.state_dir.as_deref().unwrap_or(state_dir);
        config.check()?;
        let metrics = Arc::new(AuditMetrics::default());
        if !config.enabled {
            return Ok(Arc::new(Self { shared: None, flusher: Mutex::new(None), metrics }));
        }
        let dir = config.dir.clone();
        DirBuilder::new().recursive(true).mode(0o700).create(&dir).map_err(AuditError::io("create", &dir))?;
        let dir_lock = File::open(&dir).map_err(AuditError::io("open", &dir))?;
        flock(&dir_lock, FlockOperation::NonBlockingLockExclusive).map_err(|errno| match errno {
            Errno::WOULDBLOCK => AuditError::Locked { dir: dir.clone() },
            errno => AuditError::io("lock", &dir)(errno.into()),
        })?;
        let key = CheckpointKey::open(state_dir, &dir)?;
        let shared = Arc::new(Shared {
            state: Mutex::new(State::recover(&dir)?),
            wake: Condvar::new(),
            metrics: Arc::clone(&metrics),
            deferred: Duration::from_millis(config.deferred_ms),
            sync: Duration::from_millis(config.fdatasync_ms),
            rotate_bytes: config.rotate_bytes,
            checkpoint_records: config.checkpoint_records,
            host: Host::new(host),
            key,
            dir: dir.clone(),
            dir_lock,
        });
        let thread =
            flusher::start(Arc::clone(&shared)).map_err(AuditError::io("start the flusher of", &dir))?;
        Ok(Arc::new(Self { shared: Some(shared), flusher: Mutex::new(Some(thread)), metrics }))
    }

    /// Writes one record and returns its `seq`. After `Ok` the record survives the agent's death; after an
    /// error it is not in the trail, and what it stands for must not happen.
    pub(crate) fn append(&self, record: &Record<'_>) -> Result<u64, AuditError> {
        self.put(record, false)
    }

    /// Gives one record its place in the chain, to be written with the next one or by `deferred_ms`: for
    /// outcomes only, of which a killed agent may lose the last.
    pub(crate) fn append_deferred(&self, record: &Record<'_>) -> Result<u64, AuditError> {
        self.put(record, true)
    }

    fn put(&self, record: &Record<'_>, deferred: bool) -> Result<u64, AuditError> {
        match &self.shared {
            Some(shared) => {
                let mut state = shared.lock()?;
                shared.put(&mut state, Some(record), deferred)
            }
            None => Ok(0),
        }
    }

    /// The trail's counters.
    pub(crate) fn metrics(&self) -> &Arc<AuditMetrics> {
        &self.metrics
    }

    /// Fingerprint of the key that signs this trail's checkpoints; `None` when auditing is off.
    pub(crate) fn key_fingerprint(&self) -> Option<&str> {
        self.shared.as_ref().map(|shared| shared.key.fingerprint())
    }

    /// Why the last record could not be written, while that is so.
    pub(crate) fn failure(&self) -> Option<String> {
        self.shared.as_ref()?.lock().ok()?.failure.clone()
    }

    /// Stands for a disk whose sync fails, which a test cannot have.
    #[cfg(test)]
    pub(super) fn fail_sync(&self, error: &str) {
        let shared = self.shared.as_ref().unwrap();
        shared.sync_failed(&mut shared.lock().unwrap(), error.to_owned());
    }

    /// Writes what is deferred, signs a last checkpoint, syncs, and refuses every later record.
    pub(crate) fn close(&self) -> Result<(), AuditError> {
        let Some(shared) = &self.shared else { return Ok(()) };
        let result = shared.close();
        let thread = self.flusher.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread
            && thread.join().is_err()
        {
            tracing::error!("the audit trail's flusher panicked");
        }
        result
    }
}

impl Drop for Trail {
    fn drop(&mut self) {
        if let Err(error) = self.close() {
            tracing::error!(%error, "the audit trail was not closed in order");
        }
    }
}

impl State {
    /// Finds the trail's end and cuts off what a crash left of an unfinished line.
    fn recover(dir: &Path) -> Result<Self, AuditError> {
        let end = segments::find_end(dir)?;
        let segment = match end.segment {
            Some((segment, bytes)) => {
                let path = segment.file;
                let file = OpenOptions::new()
                    .append(true)
                    .open(&path)
                    .map_err(AuditError::io("open the audit segment", &path))?;
                if end.torn_bytes > 0 {
                    file.set_len(bytes).map_err(AuditError::io("cut the torn end of", &path))?;
                }
                Some(OpenSegment { file: Arc::new(file), path, bytes })
            }
            None => None,
        };
        Ok(Self {
            segment,
            chain: end.chain,
            buffer: Vec::new(),
            buffered_records: 0,
            // Each start signs for what it found.
            since_checkpoint: u64::MAX,
            cut_needed: false,
            torn_bytes: end.torn_bytes,
            sync_failed: None,
            unsynced: end.torn_bytes > 0,
            flush_due: None,
            sync_due: None,
            flusher_wakes: None,
            failure: None,
            closed: false,
        })
    }

    fn mark(&self) -> Mark {
        Mark {
            chain: self.chain,
            buffer_bytes: self.buffer.len(),
            buffered_records: self.buffered_records,
            since_checkpoint: self.since_checkpoint,
            torn_bytes: self.torn_bytes,
            sync_failed: self.sync_failed.clone(),
        }
    }

    fn roll_back(&mut self, mark: Mark) {
        self.chain = mark.chain;
        self.buffer.truncate(mark.buffer_bytes);
        self.buffered_records = mark.buffered_records;
        self.since_checkpoint = mark.since_checkpoint;
        self.torn_bytes = mark.torn_bytes;
        self.sync_failed = mark.sync_failed;
    }

    /// The file whose data is not synced yet.
    pub(super) fn file(&self) -> Option<Arc<File>> {
        self.segment.as_ref().map(|segment| Arc::clone(&segment.file))
    }
}

impl Shared {
    /// A panic under the lock would leave the chain in doubt: then nothing is written any more.
    pub(super) fn lock(&self) -> Result<MutexGuard<'_, State>, AuditError> {
        self.state.lock().map_err(|_| AuditError::Closed)
    }

    /// Encodes `record`, if one is given, with whatever must stand before it, and writes the buffer unless
    /// that can wait. All of it happens, or none.
    fn put(&self, state: &mut State, record: Option<&Record<'_>>, deferred: bool) -> Result<u64, AuditError> {
        if state.closed {
            return Err(AuditError::Closed);
        }
        let mark = state.mark();
        match self.try_put(state, record, deferred) {
            Ok(()) => Ok(state.chain.seq),
            Err(error) => {
                state.roll_back(mark);
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
            self.encode(state, record)?;
        }
        if deferred {
            if state.buffer.len() < DEFERRED_BYTES_MAX {
                self.arm(state, |state| &mut state.flush_due, self.deferred);
                return Ok(());
            }
            AuditMetrics::add(&self.metrics.deferred_full, 1);
        }
        self.write_out(state)
    }

    /// Encodes what must stand before the next record: the checkpoint that begins a segment or has come due,
    /// and the notes of what the trail has suffered.
    fn prepare(&self, state: &mut State) -> Result<(), AuditError> {
        if state.buffer.is_empty() {
            // Deferred lines have their place in the chain already: they belong to the segment before.
            if state.segment.as_ref().is_none_or(|segment| segment.bytes >= self.rotate_bytes) {
                self.begin_segment(state)?;
            }
            if state.segment.as_ref().is_some_and(|segment| segment.bytes == 0) {
                self.encode_checkpoint(state)?;
            }
        }
        if state.since_checkpoint >= self.checkpoint_records {
            self.encode_checkpoint(state)?;
        }
        if state.torn_bytes > 0 {
            let details = [("torn_bytes", Detail::Count(state.torn_bytes))];
            let reason = "the last write was interrupted; its unfinished record was cut off";
            self.encode_gap(state, reason, &details)?;
            state.torn_bytes = 0;
        }
        if let (Some(error), Some(file)) = (state.sync_failed.clone(), state.file()) {
            // The kernel may have marked the pages clean all the same: a sync that succeeds now says nothing
            // of them, so the trail says that they are in doubt.
            file.sync_data().map_err(AuditError::io("sync", &self.dir))?;
            let details = [("error", Detail::Text(error.as_str()))];
            self.encode_gap(
                state,
                "a sync failed: records before this one may not survive the host's crash",
                &details,
            )?;
            state.sync_failed = None;
        }
        Ok(())
    }

    fn begin_segment(&self, state: &mut State) -> Result<(), AuditError> {
        if let Some(segment) = &state.segment {
            // So that a later segment never outlives an earlier one's end.
            segment.file.sync_data().map_err(AuditError::io("sync", &segment.path))?;
        }
        let path = segments::path(&self.dir, state.chain.seq + 1);
        let file = OpenOptions::new()
            .append(true)
            .create_new(true)
            .mode(0o600)
            .open(&path)
            .map_err(AuditError::io("begin the audit segment", &path))?;
        let file = Arc::new(file);
        if let Err(error) = self.dir_lock.sync_all() {
            // Without its name on disk the segment is not begun; the next record begins it again.
            fs::remove_file(&path).map_err(AuditError::io("remove", &path))?;
            return Err(AuditError::io("sync", &self.dir)(error));
        }
        state.segment = Some(OpenSegment { file, path, bytes: 0 });
        Ok(())
    }

    fn encode(&self, state: &mut State, record: &Record<'_>) -> Result<(), AuditError> {
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let unix_us = u64::try_from(since_epoch.as_micros()).unwrap_or(u64::MAX);
        state.chain.append(record, unix_us, &self.host, &mut state.buffer)?;
        state.buffered_records += 1;
        state.since_checkpoint = state.since_checkpoint.saturating_add(1);
        Ok(())
    }

    fn encode_gap(
        &self,
        state: &mut State,
        reason: &str,
        details: &[(&str, Detail<'_>)],
    ) -> Result<(), AuditError> {
        self.encode(
            state,
            &Record::Agent(AgentRecord { state: AgentState::Gap, reason, details: Details(details) }),
        )
    }

    fn encode_checkpoint(&self, state: &mut State) -> Result<(), AuditError> {
        let checkpoint = state.chain.checkpoint();
        let hash = hex(&checkpoint.hash);
        let signature: String = self.key.sign(&checkpoint).iter().map(|byte| format!("{byte:02x}")).collect();
        let upto = CheckpointUpto { seq: checkpoint.seq, hash: std::str::from_utf8(&hash).unwrap_or("") };
        let record = CheckpointRecord { upto, key: self.key.fingerprint(), signature: &signature };
        self.encode(state, &Record::Checkpoint(record))?;
        state.since_checkpoint = 0;
        AuditMetrics::add(&self.metrics.checkpoints, 1);
        Ok(())
    }

    /// One `write(2)` for everything buffered. On an error the file ends in its last whole line again.
    fn write_out(&self, state: &mut State) -> Result<(), AuditError> {
        let Some(segment) = &mut state.segment else { return Ok(()) };
        if state.cut_needed {
            segment
                .file
                .set_len(segment.bytes)
                .map_err(AuditError::io("cut the unfinished record off", &segment.path))?;
            state.cut_needed = false;
        }
        if let Err(error) = (&*segment.file).write_all(&state.buffer) {
            state.cut_needed = segment.file.set_len(segment.bytes).is_err();
            return Err(AuditError::io("write the audit record to", &segment.path)(error));
        }
        let bytes = state.buffer.len() as u64;
        segment.bytes += bytes;
        AuditMetrics::add(&self.metrics.bytes, bytes);
        AuditMetrics::add(&self.metrics.records, state.buffered_records);
        state.buffer.clear();
        state.buffer.shrink_to(BUFFER_KEPT_BYTES);
        state.buffered_records = 0;
        state.flush_due = None;
        if state.sync_failed.is_none() && state.failure.take().is_some() {
            self.metrics.failed.store(false, Ordering::Relaxed);
            tracing::info!("the audit trail can be written again");
        }
        state.unsynced = true;
        self.arm(state, |state| &mut state.sync_due, self.sync);
        Ok(())
    }

    /// Writes deferred records whose time has come.
    pub(super) fn flush(&self, state: &mut State) {
        if !state.buffer.is_empty()
            && let Err(error) = self.write_out(state)
        {
            self.note_failure(state, error.to_string());
            state.flush_due = Some(Instant::now() + self.deferred);
        }
    }

    /// Gives the flusher something to do `after` a while, and wakes it only when it would come too late.
    fn arm(&self, state: &mut State, due: impl Fn(&mut State) -> &mut Option<Instant>, after: Duration) {
        if due(state).is_some() {
            return;
        }
        let at = Instant::now() + after;
        *due(state) = Some(at);
        if state.flusher_wakes.is_none_or(|wakes| wakes > at) {
            state.flusher_wakes = Some(at);
            self.wake.notify_one();
        }
    }

    /// Has the next record note that what was written is in doubt.
    pub(super) fn sync_failed(&self, state: &mut State, error: String) {
        AuditMetrics::add(&self.metrics.sync_errors, 1);
        state.sync_failed = Some(error.clone());
        self.note_failure(state, error);
    }

    /// Remembers why the trail cannot be written, and says so once.
    pub(super) fn note_failure(&self, state: &mut State, error: String) {
        if state.failure.is_none() {
            tracing::error!(%error, "the audit trail cannot be written: commands are denied until it can");
        }
        state.failure = Some(error);
        self.metrics.failed.store(true, Ordering::Relaxed);
    }

    fn close(&self) -> Result<(), AuditError> {
        let mut state = self.lock()?;
        if state.closed {
            return Ok(());
        }
        // A trail nothing was written to gets no checkpoint either.
        let used = state.since_checkpoint != u64::MAX;
        if used {
            state.since_checkpoint = u64::MAX;
        }
        let written = if used { self.put(&mut state, None, false).map(|_| ()) } else { Ok(()) };
        state.closed = true;
        self.wake.notify_one();
        let synced = match state.file() {
            Some(file) if state.unsynced => file.sync_data().map_err(AuditError::io("sync", &self.dir)),
            _ => Ok(()),
        };
        // Another agent may take over from here, though handles to this trail live on.
        let unlocked = flock(&self.dir_lock, FlockOperation::Unlock);
        let unlocked = unlocked.map_err(|errno| AuditError::io("unlock", &self.dir)(errno.into()));
        written.and(synced).and(unlocked)
    }
}
