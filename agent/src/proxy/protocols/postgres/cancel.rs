//! Requests to cancel a running statement. Each comes on a connection of its own and presents a key. It is
//! passed on only if the key belongs to a session of the job that asks, by the route that this session took.

use agent_core::postgres::CancelKey;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

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

/// Asks the upstream to cancel what a session runs. Returns once the upstream has closed the connection: it
/// has sent the signal then, and the client may be told by the end of its own connection. Our direction is
/// not shut down before: PgBouncer would drop the request.
pub async fn send(session: &Session, Cancellable { key, route }: &Cancellable) -> Ended {
    match dial(session, route).await {
        Ok(mut upstream) => {
            let sent = upstream.write_all(&key.to_request()).await.and(upstream.flush().await);
            // The server answers nothing, so the first read returns the end.
            if sent.is_err() || upstream.read(&mut [0; 1]).await.is_err() {
                return Ended::UpstreamBroken;
            }
            Ended::Cancelled
        }
        Err(_) => Ended::UpstreamUnreachable,
    }
}
