//! Work that would hold up a session's thread for too long: reading a long text, deciding many accesses.
//!
//! Each piece of work gets a thread of its own, which has the stack that the SQL grammar needs, and gives
//! back that stack when it ends. Few such threads run at the same time, and at most one of each job: jobs
//! take turns, and a job that always has work waits for itself. The kernel runs these threads after those of
//! the sessions.

use std::sync::Arc;

use prometheus::IntCounter;
use thiserror::Error;
use tokio::sync::{Semaphore, oneshot};

use crate::jobs::Job;

/// How many pieces of work run at the same time, however many session threads there are: each may take some
/// hundred MiB.
const PLACES_MAX: usize = 2;
/// The stack of a thread: what the grammar needs, and some for what is above it. Pages are touched only when
/// a text needs them.
const STACK_BYTES: usize = agent_sql::STACK_BYTES_MIN + (16 << 20);
/// How far these threads come after those of the sessions, as setpriority(2) counts.
const NICE: i32 = 10;

/// Work was not done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum AsideError {
    /// The system gives the agent no thread.
    #[error("the agent gets no thread to read it on: try again")]
    NoThread,
    /// The work panicked.
    #[error("lineal failed while it read it")]
    Failed,
}

/// Where work is done that is too long for the sessions' threads.
pub struct Aside {
    places: Arc<Semaphore>,
    /// Counts work that had to wait for other work.
    waits: IntCounter,
}

impl Aside {
    /// A place for each session thread, within bounds. `waits` counts work that has to wait for its turn.
    pub fn new(session_threads: usize, waits: IntCounter) -> Self {
        Self { places: Arc::new(Semaphore::new(session_threads.clamp(1, PLACES_MAX))), waits }
    }

    /// Does the work of a job, in its turn. Dropping the future does not stop work that has begun, and the
    /// turn ends only with the work.
    pub fn run<T: Send + 'static>(
        &self,
        job: &Job,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> impl Future<Output = Result<T, AsideError>> + Send + 'static {
        let (turn, places, waits) = (Arc::clone(&job.turn), Arc::clone(&self.places), self.waits.clone());
        async move {
            if turn.available_permits() == 0 || places.available_permits() == 0 {
                waits.inc();
            }
            // The job's turn first: so each job has at most one piece of work in the queue for a place.
            let turn = turn.acquire_owned().await.map_err(|_| AsideError::Failed)?;
            let place = places.acquire_owned().await.map_err(|_| AsideError::Failed)?;
            let (tell, told) = oneshot::channel();
            let thread = std::thread::Builder::new().name("aside".to_owned()).stack_size(STACK_BYTES);
            let spawned = thread.spawn(move || {
                // Without the right to lower its priority the thread runs as the others do.
                let _ = rustix::process::setpriority_process(None, NICE);
                let done = work();
                drop((turn, place));
                let _ = tell.send(done);
            });
            spawned.map_err(|_| AsideError::NoThread)?;
            told.await.map_err(|_| AsideError::Failed)
        }
    }
}
