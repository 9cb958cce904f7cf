//! The trail's background thread: writes deferred records when they are due, and syncs what was written, at
//! most every `fdatasync_ms`. It holds no lock while it syncs, and makes no record of its own.

use std::{
    io,
    sync::{Arc, PoisonError},
    thread::{Builder, JoinHandle},
    time::Instant,
};

use super::{metrics::AuditMetrics, writer::Writer};

/// Starts the thread; it ends once the writer is closed.
pub(super) fn start(writer: Arc<Writer>) -> io::Result<JoinHandle<()>> {
    Builder::new().name("audit-flusher".to_owned()).spawn(move || run(&writer))
}

fn run(writer: &Writer) {
    let Ok(mut state) = writer.lock() else { return };
    while !state.closed {
        let now = Instant::now();
        if state.due.flush.is_some_and(|due| due <= now) {
            state.due.flush = None;
            writer.flush(&mut state);
        }
        if state.due.sync.is_some_and(|due| due <= now) {
            state.due.sync = None;
            if let (true, Some(file)) = (state.unsynced, state.file()) {
                // Cleared before the sync, which may miss what is written while it runs.
                state.unsynced = false;
                drop(state);
                let synced = file.sync_data();
                let Ok(relocked) = writer.lock() else { return };
                state = relocked;
                match synced {
                    Ok(()) => AuditMetrics::add(&writer.metrics.syncs, 1),
                    Err(error) => {
                        writer.sync_failed(&mut state, format!("cannot sync the audit trail: {error}"))
                    }
                }
                // A deadline may have passed while the lock was free.
                continue;
            }
        }
        let next = [state.due.flush, state.due.sync].into_iter().flatten().min();
        state.due.flusher_wakes = next;
        state = match next {
            Some(at) => {
                let wait = at.saturating_duration_since(Instant::now());
                writer.wake.wait_timeout(state, wait).unwrap_or_else(PoisonError::into_inner).0
            }
            None => writer.wake.wait(state).unwrap_or_else(PoisonError::into_inner),
        };
    }
}
