//! Requests to cancel a running statement. They come on a connection of their own and name a key; they are
//! passed on only if the key belongs to a session of the very job that asks.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{LazyLock, Mutex, PoisonError},
};

use tokio::io::AsyncWriteExt;

use super::super::session::Session;

/// A session's key, as the server gave it: process id and secret.
type Key = Box<[u8]>;

/// Keys of running sessions, by server and process id, each with its job. Bounded by the sessions.
type Keys = HashMap<(SocketAddr, u32), (Key, u64)>;

static KEYS: LazyLock<Mutex<Keys>> = LazyLock::new(Mutex::default);

/// A session's entry; dropping it forgets the key.
pub struct Registered((SocketAddr, u32));

/// Remembers a session's key; called before the client is told it.
pub fn register(session: &Session, key: &[u8]) -> Option<Registered> {
    let process = key.first_chunk().map(|word| u32::from_be_bytes(*word))?;
    let at = (session.destination, process);
    locked().insert(at, (key.into(), session.job.id.0));
    Some(Registered(at))
}

impl Drop for Registered {
    fn drop(&mut self) {
        locked().remove(&self.0);
    }
}

/// Passes a cancel request on if the key is one of the same job's. Answers how the connection ended; the
/// client is told nothing either way, as by the server.
pub async fn forward(session: &Session, key: &[u8], request: &[u8]) -> &'static str {
    let Some(process) = key.first_chunk().map(|word| u32::from_be_bytes(*word)) else {
        return "cancel_unknown";
    };
    let known = locked().get(&(session.destination, process)).cloned();
    let belongs = known.is_some_and(|(known, job)| job == session.job.id.0 && equal(&known, key));
    if !belongs {
        tracing::warn!(session = session.id, "a request to cancel what is not this job's was dropped");
        return "cancel_refused";
    }
    match session.dial().await {
        Ok(mut server) => {
            let _ = server.write_all(request).await;
            let _ = server.shutdown().await;
            "cancelled"
        }
        Err(_) => "upstream_unreachable",
    }
}

/// Cancels what a session runs, for the agent's own reasons.
pub async fn cancel_own(session: &Session, key: &[u8]) {
    const CODE_CANCEL: u32 = 80_877_102;
    let mut request = (key.len() as u32 + 8).to_be_bytes().to_vec();
    request.extend_from_slice(&CODE_CANCEL.to_be_bytes());
    request.extend_from_slice(key);
    if let Ok(mut server) = session.dial().await {
        let _ = server.write_all(&request).await;
        let _ = server.shutdown().await;
    }
}

/// Compares in a time that doesn't tell where the first difference is.
fn equal(known: &[u8], given: &[u8]) -> bool {
    known.len() == given.len()
        && known.iter().zip(given).fold(0, |difference, (one, other)| difference | (one ^ other)) == 0
}

fn locked() -> std::sync::MutexGuard<'static, Keys> {
    KEYS.lock().unwrap_or_else(PoisonError::into_inner)
}
