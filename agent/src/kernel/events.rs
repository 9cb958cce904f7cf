//! The stream of events from the kernel side, and of what its programs log.
//!
//! An event says only that something in the maps has changed; events may be lost.

use std::{io, os::fd::AsRawFd};

use agent_abi::Event;
use aya::{
    Pod,
    maps::{MapData, RingBuf},
};
use tokio::io::unix::{AsyncFd, AsyncFdReadyMutGuard};
use tracing_log::log::Log;

type ProgramLog = aya_log::EbpfLogger<&'static dyn Log>;

/// The event ring, and the programs' log.
pub struct EventStream {
    ring: RingBuf<MapData>,
    log: Option<ProgramLog>,
}

impl EventStream {
    /// The events of a ring, without a log.
    pub(super) fn new(ring: RingBuf<MapData>) -> Self {
        Self { ring, log: None }
    }

    /// Adds the programs' log.
    pub(super) fn with_log(mut self, log: Option<ProgramLog>) -> Self {
        self.log = log;
        self
    }

    /// Calls `handle` for every event and sends the programs' log to `tracing`, until the future is dropped.
    pub async fn run(self, mut handle: impl FnMut(&Event)) -> io::Result<()> {
        let mut ring = watched(self.ring)?;
        let mut log = self.log.map(watched).transpose()?;
        loop {
            tokio::select! {
                ready = ring.readable_mut() => {
                    let mut ready = ready?;
                    while let Some(item) = ready.get_inner_mut().next() {
                        if let Some(event) = record_from::<Event>(&item) {
                            handle(&event);
                        }
                    }
                    ready.clear_ready();
                }
                ready = next_log(&mut log) => {
                    let mut ready = ready?;
                    ready.get_inner_mut().flush();
                    ready.clear_ready();
                }
            }
        }
    }
}

/// Registers a source with the runtime, to wait until it has something to read.
pub(super) fn watched<T: AsRawFd>(source: T) -> io::Result<AsyncFd<T>> {
    #[allow(unsafe_code, reason = "tokio cannot check that a type keeps its descriptor open")]
    // SAFETY: aya's ring buffers own the map's descriptor, never exchange it and close it when dropped.
    let watched = unsafe { AsyncFd::register(source) };
    Ok(watched?)
}

/// Waits for the programs' log; forever if there is none.
async fn next_log(log: &mut Option<AsyncFd<ProgramLog>>) -> io::Result<AsyncFdReadyMutGuard<'_, ProgramLog>> {
    match log {
        Some(log) => log.readable_mut().await,
        None => std::future::pending().await,
    }
}

/// The value in a record of a ring; `None` if the record is too short for one.
pub(super) fn record_from<T: Pod>(bytes: &[u8]) -> Option<T> {
    let whole = bytes.get(..size_of::<T>())?;
    #[allow(unsafe_code, reason = "reads a plain repr(C) value out of the ring")]
    // SAFETY: `whole` has the value's size, and every bit pattern is a `T`.
    Some(unsafe { whole.as_ptr().cast::<T>().read_unaligned() })
}
