//! Requests to cancel a running statement. They come on a connection of their own and name a key; they are
//! passed on only if the key belongs to a session of the very job that asks.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{LazyLock, Mutex, PoisonError},
};

use agent_core::postgres::CancelKey;
use tokio::io::AsyncWriteExt;

use super::super::session::Session;

/// Keys of running sessions, by server and process id, each with its job. Bounded by the sessions.
type Keys = HashMap<(SocketAddr, u32), (CancelKey, u64)>;

static KEYS: LazyLock<Mutex<Keys>> = LazyLock::new(Mutex::default);

/// A session's entry; dropping it forgets the key.
pub struct Registered((SocketAddr, u32));

/// Remembers a session's key; called before the client is told it.
pub fn register(session: &Session, key: CancelKey) -> Registered {
    let at = (session.destination, key.pid);
    locked().insert(at, (key, session.job.id.0));
    Registered(at)
}

impl Drop for Registered {
    fn drop(&mut self) {
        locked().remove(&self.0);
    }
}

/// Passes a cancel request on if the key is one of the same job's. Answers how the connection ended; the
/// client is told nothing either way, as by the server.
pub async fn forward(session: &Session, key: &CancelKey) -> &'static str {
    let known = locked().get(&(session.destination, key.pid)).cloned();
    if !known.is_some_and(|(known, job)| job == session.job.id.0 && known == *key) {
        tracing::warn!(session = session.id, "a request to cancel what is not this job's was dropped");
        return "cancel_refused";
    }
    send(session, key).await
}

/// Cancels what a session runs, for the agent's own reasons.
pub async fn cancel_own(session: &Session, registered: &Registered) {
    let known = locked().get(&registered.0).map(|(key, _)| key.clone());
    if let Some(key) = known {
        send(session, &key).await;
    }
}

async fn send(session: &Session, key: &CancelKey) -> &'static str {
    match session.dial().await {
        Ok(mut server) => {
            let _ = server.write_all(&key.to_request()).await;
            let _ = server.shutdown().await;
            "cancelled"
        }
        Err(_) => "upstream_unreachable",
    }
}

fn locked() -> std::sync::MutexGuard<'static, Keys> {
    KEYS.lock().unwrap_or_else(PoisonError::into_inner)
}
