//! The trail's one background thread: writes deferred records when their time has come, and syncs what was
//! written at most every `fdatasync_ms`. It waits on deadlines, holds no lock while it syncs, and never
//! makes a record.

use std::io;
use std::sync::{Arc, PoisonError};
use std::thread::{Builder, JoinHandle};
use std::time::Instant;

use super::metrics::AuditMetrics;
use super::writer::Shared;

pub(super) fn start(shared: Arc<Shared>) -> io::Result<JoinHandle<()>> {
    Builder::new().name("audit-flusher".to_owned()).spawn(move || run(&shared))
}

fn run(shared: &Shared) {
    let Ok(mut state) = shared.lock() else { return };
    while !state.closed {
        let now = Instant::now();
        if state.flush_due.is_some_and(|due| due <= now) {
            state.flush_due = None;
            shared.flush(&mut state);
        }
        if state.sync_due.is_some_and(|due| due <= now) {
            state.sync_due = None;
            if let (true, Some(file)) = (state.unsynced, state.file()) {
                // Cleared before the sync: what is written meanwhile may have missed it.
                state.unsynced = false;
                drop(state);
                let synced = file.sync_data();
                let Ok(relocked) = shared.lock() else { return };
                state = relocked;
                match synced {
                    Ok(()) => AuditMetrics::add(&shared.metrics.syncs, 1),
                    Err(error) => {
                        shared.sync_failed(&mut state, format!("cannot sync the audit trail: {error}"))
                    }
                }
                // Deadlines may have come while the lock was free.
                continue;
            }
        }
        let next = [state.flush_due, state.sync_due].into_iter().flatten().min();
        state.flusher_wakes = next;
        state = match next {
            Some(at) => {
                let wait = at.saturating_duration_since(Instant::now());
                shared.wake.wait_timeout(state, wait).unwrap_or_else(PoisonError::into_inner).0
            }
            None => shared.wake.wait(state).unwrap_or_else(PoisonError::into_inner),
        };
    }
}
