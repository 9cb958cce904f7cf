//! The cancellation keys of running sessions. A key is found by the job whose session it belongs to, and by
//! no other.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use agent_core::postgres::CancelKey;

use super::route::Route;
use crate::ids::Id;

/// What a key is looked up by.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Backend {
    job: Id,
    upstream: SocketAddr,
    /// The upstream's process.
    pid: u32,
}

/// A session that can be cancelled.
#[derive(Clone)]
pub struct Cancellable {
    /// The key that a request must present.
    pub key: CancelKey,
    /// How the session reaches its upstream: the request takes the same route.
    pub route: Arc<Route>,
}

/// Keys of running sessions; at most one for each.
#[derive(Default)]
pub struct Keys(Mutex<HashMap<Backend, Cancellable>>);

impl Keys {
    /// Registers a session's key: to be called before the client is told it, or its first request could come
    /// too early. Dropping the registration takes the key out again.
    pub fn register(
        self: &Arc<Self>,
        job: Id,
        upstream: SocketAddr,
        key: CancelKey,
        route: Arc<Route>,
    ) -> Registration {
        let backend = Backend { job, upstream, pid: key.pid };
        let cancellable = Cancellable { key, route };
        self.locked().insert(backend, cancellable.clone());
        Registration { keys: Arc::clone(self), backend, cancellable }
    }

    /// The session of this job that a key belongs to.
    pub fn find(&self, job: Id, upstream: SocketAddr, key: &CancelKey) -> Option<Cancellable> {
        let backend = Backend { job, upstream, pid: key.pid };
        let found = self.locked().get(&backend).cloned();
        found.filter(|cancellable| cancellable.key == *key)
    }

    fn locked(&self) -> MutexGuard<'_, HashMap<Backend, Cancellable>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A session's key in [`Keys`].
pub struct Registration {
    keys: Arc<Keys>,
    backend: Backend,
    /// What is registered.
    pub cancellable: Cancellable,
}

impl Drop for Registration {
    fn drop(&mut self) {
        let mut keys = self.keys.locked();
        // By now the server may have given the same process id to another session of the job.
        let own = |found: &Cancellable| Arc::ptr_eq(&found.route, &self.cancellable.route);
        if keys.get(&self.backend).is_some_and(own) {
            keys.remove(&self.backend);
        }
    }
}
