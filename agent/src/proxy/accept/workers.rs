//! The threads that serve sessions. Each runs a single-threaded runtime of its own, and a session stays on
//! the thread it was given to: its state needs no lock, its bytes pass without waking another thread, and the
//! SQL grammar's recursion has the stack it needs.

use std::{
    io,
    pin::Pin,
    sync::atomic::{AtomicUsize, Ordering},
};

use prometheus::IntCounter;
use tokio::runtime::Builder;

use super::queue::Queue;

/// How many connections may wait for one worker.
const QUEUE_MAX: usize = 1_024;
/// A worker's stack: what the grammar needs for the longest text, although workers leave long texts to other
/// threads. Pages are touched only when a statement needs them.
const STACK_BYTES: usize = agent_sql::STACK_BYTES_MIN;

/// A session, served to its end.
pub type Work = Pin<Box<dyn Future<Output = ()> + Send>>;

/// The worker threads. Dropping this ends them, and the sessions that they serve.
pub struct Workers {
    queues: Vec<Queue<Work>>,
    next: AtomicUsize,
}

impl Workers {
    /// Starts `count` threads, but at least one; `full` counts work that found a thread's queue full.
    pub fn start(count: usize, full: &IntCounter) -> io::Result<Self> {
        let mut workers = Self { queues: Vec::new(), next: AtomicUsize::new(0) };
        for index in 0..count.max(1) {
            let (queue, mut work) = Queue::<Work>::new(QUEUE_MAX, full.clone());
            let runtime = Builder::new_current_thread().enable_all().build()?;
            std::thread::Builder::new().name(format!("sessions-{index}")).stack_size(STACK_BYTES).spawn(
                move || {
                    runtime.block_on(async move {
                        while let Some(work) = work.recv().await {
                            tokio::spawn(work);
                        }
                    });
                },
            )?;
            workers.queues.push(queue);
        }
        Ok(workers)
    }

    /// Gives work to the next thread in turn; false if that thread has ended. While the thread's
    /// queue is full, this waits, so that the listener's backlog fills.
    pub async fn give(&self, work: Work) -> bool {
        let turn = self.next.fetch_add(1, Ordering::Relaxed) % self.queues.len().max(1);
        match self.queues.get(turn) {
            Some(queue) => queue.put(work).await,
            None => false,
        }
    }
}
