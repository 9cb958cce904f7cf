//! The trail's counters. The metrics listener reads them; their names and units are given there.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// What the trail has done since it was opened.
#[derive(Debug, Default)]
pub(crate) struct AuditMetrics {
    /// Records written.
    pub(crate) records: AtomicU64,
    /// Bytes written.
    pub(crate) bytes: AtomicU64,
    /// Records that could not be written; each denied a command.
    pub(crate) errors: AtomicU64,
    /// `fdatasync` calls that succeeded.
    pub(crate) syncs: AtomicU64,
    /// `fdatasync` calls that failed.
    pub(crate) sync_errors: AtomicU64,
    /// Checkpoints signed.
    pub(crate) checkpoints: AtomicU64,
    /// Times that deferred records filled their buffer and were written at once.
    pub(crate) deferred_full: AtomicU64,
    /// True while the last attempt to write or sync has failed.
    pub(crate) failed: AtomicBool,
}

impl AuditMetrics {
    pub(super) fn add(counter: &AtomicU64, count: u64) {
        counter.fetch_add(count, Ordering::Relaxed);
    }
}
