//! Requests to cancel a running statement. Each comes on a connection of its own and presents a key. It is
//! passed on only if the key belongs to a session of the job that asks, by the route that this session took.

use agent_core::postgres::CancelKey;
use tokio::io::AsyncWriteExt;

use super::{
    dial::dial,
    keys::{Cancellable, Keys},
};
use crate::proxy::session::{Session, ended::Ended};

/// Passes a client's request on if its key is one of the same job's. The client is told nothing either way,
/// as by the server.
pub async fn forward(session: &Session, keys: &Keys, key: &CancelKey) -> Ended {
    // A new connection as any other.
    if let Some(objection) = session.objection() {
        tracing::info!(reason = objection.words, "a request to cancel was refused");
        return objection.why;
    }
    match keys.find(session.job.id, session.destination, key) {
        Some(cancellable) => send(session, &cancellable).await,
        None => {
            tracing::warn!("a request to cancel was dropped: its key belongs to no session of this job");
            Ended::CancelRefused
        }
    }
}

/// Asks the upstream to cancel what a session runs.
pub async fn send(session: &Session, Cancellable { key, route }: &Cancellable) -> Ended {
    match dial(session, route).await {
        Ok(mut upstream) => {
            let _ = upstream.write_all(&key.to_request()).await;
            let _ = upstream.shutdown().await;
            Ended::Cancelled
        }
        Err(_) => Ended::UpstreamUnreachable,
    }
}
