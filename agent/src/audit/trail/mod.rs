//! Writes the trail. [`Trail`] is the handle that the agent has, and its two `append`s are the only ways in.
//!
//! [`Trail::append`] returns only after `write(2)` has, so an acknowledged record survives the death of the
//! agent; a crash of the host can cost what was not yet synced, `fdatasync_ms` at most. When a record cannot
//! be written, the caller gets the error and must not do what the record stands for.
//!
//! [`Trail::append_deferred`] is for outcomes: they get their place in the chain at once, and reach the file
//! with the next record or after `deferred_ms`. A killed agent loses those milliseconds of outcomes, never a
//! decision.

mod encoder;
mod flusher;
mod keys;
mod ledger;
mod metrics;
mod recovery;
mod segments;
mod state;
#[cfg(test)]
mod tests;
mod writer;

use std::{
    fs::{DirBuilder, File},
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    thread::JoinHandle,
};

use agent_core::audit::{Host, Record};
use rustix::{
    fs::{FlockOperation, flock},
    io::Errno,
};

use self::{keys::CheckpointKey, metrics::AuditMetrics, writer::Writer};
pub(super) use self::{
    keys::{PUBLIC_FILE_PREFIX, PUBLIC_FILE_SUFFIX, PublicKey, read_text as read_key},
    segments::{Segment, last_line, list as list_segments},
};
use super::{config::AuditConfig, error::AuditError};

/// The trail of one agent. Closing it, or dropping the last handle, writes what is deferred, signs and syncs.
pub(crate) struct Trail {
    /// `None` when auditing is switched off.
    writer: Option<Arc<Writer>>,
    flusher: Mutex<Option<JoinHandle<()>>>,
    metrics: Arc<AuditMetrics>,
    dir: PathBuf,
}

impl Trail {
    /// Opens the trail in `config.dir`, continuing where it ended. Its key is in `state_dir` unless the
    /// configuration says otherwise. Only one process can have a trail open.
    pub(crate) fn open(config: &AuditConfig, state_dir: &Path, host: &str) -> Result<Arc<Self>, AuditError> {
        let state_dir = config.state_dir.as_deref().unwrap_or(state_dir);
        config.check()?;
        let metrics = Arc::new(AuditMetrics::default());
        let dir = config.dir.clone();
        if !config.enabled {
            return Ok(Arc::new(Self { writer: None, flusher: Mutex::new(None), metrics, dir }));
        }
        DirBuilder::new().recursive(true).mode(0o700).create(&dir).map_err(AuditError::io("create", &dir))?;
        let dir_lock = File::open(&dir).map_err(AuditError::io("open", &dir))?;
        flock(&dir_lock, FlockOperation::NonBlockingLockExclusive).map_err(|errno| match errno {
            Errno::WOULDBLOCK => AuditError::Locked { dir: dir.clone() },
            errno => AuditError::io("lock", &dir)(errno.into()),
        })?;
        let key = CheckpointKey::open(state_dir, &dir)?;
        let state = recovery::recover(&dir)?;
        let writer = Arc::new(Writer::new(config, state, dir_lock, Host::new(host), key, &metrics));
        let thread =
            flusher::start(Arc::clone(&writer)).map_err(AuditError::io("start the flusher of", &dir))?;
        Ok(Arc::new(Self { writer: Some(writer), flusher: Mutex::new(Some(thread)), metrics, dir }))
    }

    /// Writes one record and returns its `seq`. After `Ok` the record survives the agent's death; after an
    /// error it is not in the trail, and what it stands for must not happen.
    pub(crate) fn append(&self, record: &Record<'_>) -> Result<u64, AuditError> {
        self.put(record, false)
    }

    /// Gives one record its place in the chain, to be written with the next one or after `deferred_ms`. For
    /// outcomes only: a killed agent may lose the last ones.
    pub(crate) fn append_deferred(&self, record: &Record<'_>) -> Result<u64, AuditError> {
        self.put(record, true)
    }

    fn put(&self, record: &Record<'_>, deferred: bool) -> Result<u64, AuditError> {
        match &self.writer {
            Some(writer) => {
                let mut state = writer.lock()?;
                writer.put(&mut state, Some(record), deferred)
            }
            None => Ok(0),
        }
    }

    /// The trail's counters.
    pub(crate) fn metrics(&self) -> &Arc<AuditMetrics> {
        &self.metrics
    }

    /// The trail's directory as an absolute path; `None` when auditing is off.
    pub(crate) fn dir(&self) -> Option<PathBuf> {
        let absolute = || std::path::absolute(&self.dir).unwrap_or_else(|_| self.dir.clone());
        self.writer.as_ref().map(|_| absolute())
    }

    /// Fingerprint of the key that signs this trail's checkpoints; `None` when auditing is off.
    pub(crate) fn key_fingerprint(&self) -> Option<&str> {
        self.writer.as_ref().map(|writer| writer.key_fingerprint())
    }

    /// Why the last record could not be written; `None` once one can be.
    pub(crate) fn failure(&self) -> Option<String> {
        self.writer.as_ref()?.lock().ok()?.failure.clone()
    }

    /// Simulates a failed sync, which no test can provoke in a real disk.
    #[cfg(test)]
    fn fail_sync(&self, error: &str) {
        let writer = self.writer.as_ref().unwrap();
        writer.sync_failed(&mut writer.lock().unwrap(), error.to_owned());
    }

    /// Writes what is deferred, signs a last checkpoint, syncs, and refuses every later record.
    pub(crate) fn close(&self) -> Result<(), AuditError> {
        let Some(writer) = &self.writer else { return Ok(()) };
        let result = writer.close();
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
