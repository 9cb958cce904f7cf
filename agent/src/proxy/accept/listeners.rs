//! The agent's listeners: a pair, IPv4 and IPv6, in each network namespace that has jobs. A namespace without
//! one is not served: the kernel side refuses connects there.

use std::{
    collections::HashMap,
    io,
    sync::{Arc, Mutex, PoisonError},
};

use agent_abi::FlowKey;
use prometheus::IntCounter;
use thiserror::Error;
use tokio::{net::TcpListener, sync::mpsc, task::JoinHandle};

use super::queue::Queue;
use crate::{
    bounds::{Bound, Bounded},
    kernel::{Door, Kernel, KernelError, Open, flow_key, netns::Netns},
};

/// How many accepted connections may wait to be taken by the proxy.
const ACCEPTED_MAX: usize = 1_024;

/// How long a listener pauses after an accept failed.
const ACCEPT_PAUSE: std::time::Duration = std::time::Duration::from_millis(100);

/// Why a network namespace is not served.
#[derive(Debug, Error)]
pub enum ListenError {
    /// See [`KernelError`].
    #[error(transparent)]
    Kernel(#[from] KernelError),
    /// The agent stops: no namespace is served any more.
    #[error("the agent is stopping")]
    Stopping,
}

impl Bounded for ListenError {
    fn bound(&self) -> Option<Bound> {
        match self {
            Self::Kernel(error) => error.bound(),
            Self::Stopping => None,
        }
    }
}

/// A redirected connection, accepted.
pub struct Accepted {
    /// The client's side.
    pub stream: std::net::TcpStream,
    /// The key under which the kernel side published the flow.
    pub key: FlowKey,
    /// The network namespace that it came from, and that its upstream is dialled from.
    pub netns: Netns,
}

struct Serving {
    netns: Netns,
    tasks: Vec<JoinHandle<()>>,
    _open: Vec<Open>,
    /// No job was in the namespace at the last look. One look is not enough to stop serving it: a process
    /// whose enrolment is under way is no job yet.
    idle: bool,
}

impl Drop for Serving {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

/// All listeners, by their namespace's cookie.
pub struct Listeners {
    kernel: Arc<Kernel>,
    accepted: Queue<Accepted>,
    /// `None` once [`Listeners::close`] was called.
    serving: Mutex<Option<HashMap<u64, Serving>>>,
}

impl Listeners {
    /// No listeners yet, and the receiving end for accepted connections. `full` counts connections that had
    /// to wait for a place in between.
    pub fn new(kernel: Arc<Kernel>, full: IntCounter) -> (Self, mpsc::Receiver<Accepted>) {
        let (accepted, taken) = Queue::new(ACCEPTED_MAX, full);
        (Self { kernel, accepted, serving: Mutex::new(Some(HashMap::new())) }, taken)
    }

    /// Serves the network namespace of `pid`, if it is not served yet; answers its cookie.
    pub fn ensure(&self, pid: u32) -> Result<u64, ListenError> {
        let failed = |source| KernelError::Netns { pid, source };
        let netns = Netns::of(pid).map_err(failed)?;
        let cookie = netns.cookie;
        let mut serving = self.serving.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(serving) = serving.as_mut() else { return Err(ListenError::Stopping) };
        if let Some(present) = serving.get_mut(&cookie) {
            present.idle = false;
            return Ok(cookie);
        }
        let mut entry = Serving { netns, tasks: Vec::new(), _open: Vec::new(), idle: false };
        for Door { listener, family, open } in self.kernel.open_doors(&entry.netns, pid)? {
            entry._open.push(open);
            let served = self.serve(listener, entry.netns.clone(), family);
            entry.tasks.push(served.map_err(failed).inspect_err(|_| self.kernel.remove_listener(cookie))?);
        }
        serving.insert(cookie, entry);
        Ok(cookie)
    }

    /// Whether the network namespace with this cookie is served.
    pub fn serves(&self, cookie: u64) -> bool {
        let serving = self.serving.lock().unwrap_or_else(PoisonError::into_inner);
        serving.as_ref().is_some_and(|serving| serving.contains_key(&cookie))
    }

    /// The network namespace with this cookie, if it is served.
    pub fn netns(&self, cookie: u64) -> Option<Netns> {
        let serving = self.serving.lock().unwrap_or_else(PoisonError::into_inner);
        serving.as_ref()?.get(&cookie).map(|serving| serving.netns.clone())
    }

    /// Stops serving each namespace that is not `wanted` for the second time in a row. From then on connects
    /// there are refused.
    pub fn retain(&self, wanted: impl Fn(u64) -> bool) {
        let mut serving = self.serving.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(serving) = serving.as_mut() else { return };
        serving.retain(|cookie, entry| {
            if wanted(*cookie) {
                entry.idle = false;
            } else if std::mem::replace(&mut entry.idle, true) {
                self.kernel.remove_listener(*cookie);
                return false;
            }
            true
        });
    }

    /// Stops serving for good: connects of followed processes are refused from here on.
    pub fn close(&self) {
        let mut serving = self.serving.lock().unwrap_or_else(PoisonError::into_inner);
        for cookie in serving.take().unwrap_or_default().into_keys() {
            self.kernel.remove_listener(cookie);
        }
    }

    fn serve(
        &self,
        listener: std::net::TcpListener,
        netns: Netns,
        family: u32,
    ) -> io::Result<JoinHandle<()>> {
        let listener = TcpListener::from_std(listener)?;
        let accepted = self.accepted.clone();
        Ok(tokio::spawn(async move {
            loop {
                match listener.accept().await {
                    Ok((stream, from)) => {
                        let Ok(stream) = stream.into_std() else { continue };
                        let key = flow_key(netns.cookie, from, family);
                        if !accepted.put(Accepted { stream, key, netns: netns.clone() }).await {
                            return;
                        }
                    }
                    // Out of descriptors or memory: the kernel's backlog holds further connections meanwhile.
                    Err(error) => {
                        tracing::error!(%error, "cannot accept a redirected connection");
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                    }
                }
            }
        }))
    }
}
