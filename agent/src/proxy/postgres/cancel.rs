//! Requests to cancel a running statement. They come on a connection of their own and name a key; they are
//! passed on only if the key belongs to a session of the very job that asks, by the way that session took.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use agent_core::postgres::CancelKey;
use tokio::io::AsyncWriteExt;

use super::{
    super::{Proxy, session::Session},
    dial::{Way, dial},
};
use crate::ids::Id;

/// Where a key is looked up: job, server and the server's process. A job's keys are found by that job alone.
type Place = (Id, SocketAddr, u32);

/// Keys of running sessions. Bounded by the sessions.
#[derive(Default)]
pub struct Keys(Mutex<HashMap<Place, Known>>);

#[derive(Clone)]
struct Known {
    key: CancelKey,
    /// How the session reached its server.
    way: Arc<Way>,
}

impl Keys {
    fn locked(&self) -> MutexGuard<'_, HashMap<Place, Known>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A session's entry; dropping it forgets the key.
pub struct Registered {
    proxy: Arc<Proxy>,
    place: Place,
    known: Known,
}

impl Registered {
    /// Remembers a session's key; called before the client is told it.
    pub fn new(session: &Session, key: CancelKey, way: Arc<Way>) -> Self {
        let place = (session.job.id, session.destination, key.pid);
        let known = Known { key, way };
        session.proxy.cancel_keys.locked().insert(place, known.clone());
        Self { proxy: Arc::clone(&session.proxy), place, known }
    }

    /// Cancels what the session runs, for the agent's own reasons.
    pub async fn cancel(&self, session: &Session) {
        send(session, &self.known).await;
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        let mut keys = self.proxy.cancel_keys.locked();
        // The server may have given its process's number to another session of the job's by now.
        if keys.get(&self.place).is_some_and(|known| Arc::ptr_eq(&known.way, &self.known.way)) {
            keys.remove(&self.place);
        }
    }
}

/// Passes a cancel request on if the key is one of the same job's. Answers how the connection ended; the
/// client is told nothing either way, as by the server.
pub async fn forward(session: &Session, key: &CancelKey) -> &'static str {
    let place = (session.job.id, session.destination, key.pid);
    let known = session.proxy.cancel_keys.locked().get(&place).cloned();
    match known.filter(|known| known.key == *key) {
        Some(known) => send(session, &known).await,
        None => {
            tracing::warn!("a request to cancel what is not this job's was dropped");
            "cancel_refused"
        }
    }
}

async fn send(session: &Session, Known { key, way }: &Known) -> &'static str {
    match dial(session, way).await {
        Ok(mut server) => {
            let _ = server.write_all(&key.to_request()).await;
            let _ = server.shutdown().await;
            "cancelled"
        }
        Err(_) => "upstream_unreachable",
    }
}
