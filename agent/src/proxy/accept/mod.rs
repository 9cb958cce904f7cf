//! From a redirected connect to a session: what becomes of held connections, listeners in each job's network
//! namespace, bounded queues, the threads that serve sessions, and the look-up of whose connection it is.

mod flow;
mod holds;
mod listeners;
mod queue;
mod workers;

use std::sync::Arc;

pub use holds::hold;
pub use listeners::{Accepted, Listeners};
use tokio::sync::mpsc;
pub use workers::Workers;

use super::{Proxy, protocols::Protocols};

/// Hands accepted connections to the workers until the listeners or the workers are gone.
pub async fn run(proxy: Arc<Proxy>, mut accepted: mpsc::Receiver<Accepted>, workers: Workers) {
    let protocols = Arc::new(Protocols::default());
    while let Some(connection) = accepted.recv().await {
        let served = flow::serve(Arc::clone(&proxy), Arc::clone(&protocols), connection);
        if !workers.give(Box::pin(served)).await {
            return;
        }
    }
}
