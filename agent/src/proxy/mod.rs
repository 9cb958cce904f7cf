//! The proxy: takes redirected connections, finds out whose they are, and serves them by their upstream's
//! protocol. Nothing is dialled before policy has allowed the connection.

mod flow;
mod listeners;
mod opaque;
mod postgres;
mod queue;
mod session;
mod workers;

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use agent_abi::Event;
use tokio::sync::{Notify, Semaphore, mpsc, watch};

pub use listeners::Listeners;
pub use workers::Workers;

use crate::{
    audit::{Literals, Trail},
    config::Limits,
    jobs::Registry,
    kernel::Kernel,
    logging::Throttle,
    logins::{LoginsError, Logins},
    metrics::Metrics,
    policy::{Check, PolicyStore},
    tls::{Authority, Connector},
};
use listeners::Accepted;

/// What the proxy is made of.
pub struct ProxyParts {
    /// The kernel side.
    pub kernel: Arc<Kernel>,
    /// Live jobs.
    pub registry: Arc<Registry>,
    /// The bundle in force.
    pub policy: Arc<PolicyStore>,
    /// The trail.
    pub trail: Arc<Trail>,
    /// Counters.
    pub metrics: Arc<Metrics>,
    /// Bounds.
    pub limits: Limits,
    /// Whether the trail keeps literals.
    pub literals: Literals,
    /// What vouches to jobs' clients that the agent is the server they meant.
    pub authority: Arc<Authority>,
    /// What makes TLS connections to servers.
    pub connector: Arc<Connector>,
    /// What the agent itself logs in with.
    pub logins: Arc<Logins>,
    /// How the agent stops.
    pub drain: watch::Receiver<Drain>,
}

/// Says why a bundle's upstreams can't be reached as they say: a file that can't be used, a login that the configuration
/// does not have.
pub fn usable(connector: Arc<Connector>, logins: Arc<Logins>) -> Check {
    Box::new(move |bundle| {
        for upstream in bundle.upstreams() {
            let wrong = |reason: &dyn std::fmt::Display| {
                format!("upstreams.toml: the upstream \"{}\": {reason}", upstream.name)
            };
            connector.check(&upstream.leg).map_err(|error| wrong(&error))?;
            if let Some(name) = upstream.leg.credentials().find(|name| !logins.has(name)) {
                return Err(wrong(&LoginsError::Unknown(name.into())));
            }
        }
        Ok(())
    })
}

/// Idle sessions that are closed at their servers at once when many are cut: each costs its server the end of a process.
const CLOSINGS_AT_ONCE: usize = 4;

/// How far the agent has come in stopping.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Drain {
    /// It runs.
    No,
    /// Sessions end as soon as nothing is under way in them.
    Idle,
    /// Sessions end.
    All,
}

/// The proxy, shared by all its sessions.
pub struct Proxy {
    parts: ProxyParts,
    sessions: AtomicUsize,
    idle: Notify,
    refusals_logged: Throttle,
    cancel_keys: postgres::cancel::Keys,
    /// Idle sessions that are being closed at their servers.
    closings: Semaphore,
}

impl Proxy {
    /// A proxy without sessions.
    pub fn new(parts: ProxyParts) -> Self {
        Self {
            parts,
            sessions: AtomicUsize::new(0),
            idle: Notify::new(),
            refusals_logged: Throttle::default(),
            cancel_keys: postgres::cancel::Keys::default(),
            closings: Semaphore::new(CLOSINGS_AT_ONCE),
        }
    }

    /// Hands accepted connections to the workers until the listeners are gone.
    pub async fn run(self: Arc<Self>, mut accepted: mpsc::Receiver<Accepted>, workers: Arc<Workers>) {
        while let Some(connection) = accepted.recv().await {
            if !workers.give(Box::pin(flow::serve(Arc::clone(&self), connection))).await {
                return;
            }
        }
    }

    /// Open sessions.
    pub fn sessions(&self) -> usize {
        self.sessions.load(Ordering::Acquire)
    }

    /// Waits until no session is open, for at most `patience`; whether none is.
    pub async fn drained(&self, patience: Duration) -> bool {
        let none_left = async {
            loop {
                let woken = self.idle.notified();
                if self.sessions() == 0 {
                    return;
                }
                woken.await;
            }
        };
        tokio::time::timeout(patience, none_left).await.is_ok()
    }

    /// Logs what the kernel side refused on its own.
    pub fn on_refused(&self, event: &Event) {
        let Some(left_out) = self.refusals_logged.admit(Instant::now()) else { return };
        let to = crate::kernel::address_of(event.address, event.port);
        let reason = match event.detail {
            0 => "this kind of socket passes the redirect",
            1 => "datagrams go to declared resolvers only",
            2 => "the agent does not serve this network namespace",
            3 => "the agent's lease has lapsed",
            _ => "the socket could not be marked",
        };
        let job = crate::ids::Id(event.job);
        tracing::info!(%job, pid = event.tgid, %to, reason, left_out, "refused in the kernel");
    }

    fn try_open(&self) -> bool {
        let max = self.parts.limits.sessions_max;
        self.sessions
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |open| (open < max).then_some(open + 1))
            .is_ok()
    }

    fn closed(&self) {
        if self.sessions.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.idle.notify_waiters();
        }
    }
}
