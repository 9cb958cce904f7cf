//! The lease: the agent's sign of life to the kernel side, which redirects connections only while it is
//! renewed.
//!
//! It has a thread of its own, so that nothing that waits for a lock or a disk delays it. It is renewed only
//! while the agent's tasks run.

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

/// How long connections are redirected after the last renewal.
pub const LEASE: Duration = Duration::from_secs(5);
/// How often the lease is renewed.
const RENEWAL: Duration = Duration::from_secs(1);
/// An agent whose tasks have not run for this long counts as dead.
const STUCK: Duration = Duration::from_secs(30);

/// The lease, renewed until it is given up.
pub struct Lease {
    ends: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl Lease {
    /// Starts renewing the lease, and a task whose progress shows that tasks run.
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
                    tracing::error!("the agent's tasks do not run: connections of jobs are refused");
                } else if let Err(error) = kernel.renew_lease(LEASE) {
                    tracing::error!(%error, "the lease cannot be renewed: jobs' connections will be refused");
                }
                std::thread::park_timeout(RENEWAL);
            }
        })?;
        Ok(Self { ends, thread })
    }

    /// Stops renewing. Returns once the thread has ended, so that no renewal follows what is done afterwards.
    pub fn give_up(self) {
        self.ends.store(true, Ordering::Release);
        self.thread.thread().unpark();
        let _ = self.thread.join();
    }
}
