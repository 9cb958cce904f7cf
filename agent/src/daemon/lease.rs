//! The agent's sign of life to the kernel side, given by a thread of its own: nothing that waits for a lock or a disk holds
//! it up. It is given for as long as the agent's tasks run at all.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use tokio::time::interval;

use crate::kernel::Kernel;

/// How long connects go on being redirected after the last sign of life.
pub const LEASE: Duration = Duration::from_secs(5);
/// How often it is given.
const RENEWAL: Duration = Duration::from_secs(1);
/// An agent whose tasks have not run for so long is as good as dead.
const STUCK: Duration = Duration::from_secs(30);

/// The lease, kept until it is given up.
pub struct Lease {
    ends: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl Lease {
    /// Keeps the lease, and has a task show that tasks run.
    pub fn keep(kernel: Arc<Kernel>) -> io::Result<Self> {
        let beats = Arc::new(AtomicU64::new(0));
        let beating = Arc::clone(&beats);
        tokio::spawn(async move {
            let mut beat = interval(RENEWAL);
            loop {
                beat.tick().await;
                beating.fetch_add(1, Ordering::Relaxed);
            }
        });
        let ends = Arc::new(AtomicBool::new(false));
        let ended = Arc::clone(&ends);
        let thread = std::thread::Builder::new().name("lease".to_owned()).spawn(move || {
            let mut last = (0, Instant::now());
            while !ended.load(Ordering::Acquire) {
                let beat = beats.load(Ordering::Relaxed);
                if beat != last.0 {
                    last = (beat, Instant::now());
                }
                if last.1.elapsed() >= STUCK {
                    tracing::error!("the agent's tasks don't run: connects of jobs are refused");
                } else if let Err(error) = kernel.renew_lease(LEASE) {
                    tracing::error!(%error, "the lease can't be renewed: connects will be refused");
                }
                std::thread::park_timeout(RENEWAL);
            }
        })?;
        Ok(Self { ends, thread })
    }

    /// Ends it: who gives the lease up afterwards has the last word.
    pub fn give_up(self) {
        self.ends.store(true, Ordering::Release);
        self.thread.thread().unpark();
        let _ = self.thread.join();
    }
}
