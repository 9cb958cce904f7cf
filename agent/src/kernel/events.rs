//! What the kernel side tells: that something in its maps has changed, and what its programs log.

use std::os::fd::AsRawFd;

use agent_abi::Event;
use aya::maps::{MapData, RingBuf};
use tokio::io::unix::AsyncFd;

/// Wake-ups from the kernel side, and what its programs log.
pub struct EventStream {
    ring: RingBuf<MapData>,
    log: Option<aya_log::EbpfLogger<&'static dyn tracing_log::log::Log>>,
}

impl EventStream {
    pub(super) fn new(ring: RingBuf<MapData>) -> Self {
        Self { ring, log: None }
    }

    pub(super) fn with_log(
        mut self,
        log: Option<aya_log::EbpfLogger<&'static dyn tracing_log::log::Log>>,
    ) -> Self {
        self.log = log;
        self
    }

    /// Calls `handle` for every event, and sends the programs' log to `tracing`, until the future is dropped.
    pub async fn run(self, mut handle: impl FnMut(&Event)) -> std::io::Result<()> {
        let mut ring = watched(self.ring)?;
        let mut log = self.log.map(watched).transpose()?;
        loop {
            tokio::select! {
                ready = ring.readable_mut() => {
                    let mut ready = ready?;
                    while let Some(item) = ready.get_inner_mut().next() {
                        if let Some(event) = event_from(&item) {
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

fn watched<T: AsRawFd>(source: T) -> std::io::Result<AsyncFd<T>> {
    #[allow(unsafe_code, reason = "tokio cannot check that a type keeps its descriptor open")]
    // SAFETY: aya's ring buffers own the map's descriptor, never exchange it and close it when dropped.
    let watched = unsafe { AsyncFd::register(source) };
    Ok(watched?)
}

type LogFd = AsyncFd<aya_log::EbpfLogger<&'static dyn tracing_log::log::Log>>;

async fn next_log(
    log: &mut Option<LogFd>,
) -> std::io::Result<
    tokio::io::unix::AsyncFdReadyMutGuard<'_, aya_log::EbpfLogger<&'static dyn tracing_log::log::Log>>,
> {
    match log {
        Some(log) => log.readable_mut().await,
        None => std::future::pending().await,
    }
}

fn event_from(bytes: &[u8]) -> Option<Event> {
    let whole = bytes.get(..size_of::<Event>())?;
    #[allow(unsafe_code, reason = "reads a plain repr(C) value out of the ring")]
    // SAFETY: `whole` has the value's size, and every bit pattern is an `Event`.
    Some(unsafe { whole.as_ptr().cast::<Event>().read_unaligned() })
}
