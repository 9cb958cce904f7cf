//! The proxy: redirected connections come in, and each is served as a session by its upstream's protocol.
//!
//! - [`accept`]: the listeners, and the way from an accepted connection to a session.
//! - [`session`]: what every session has, whatever it speaks: identity, standing, decisions on record, an
//!   end.
//! - [`stream`]: bytes between two connections, within bounds.
//! - [`protocols`]: one adapter for each protocol, and the one place that tells them apart.
//!
//! This file holds what all sessions share: the agent's parts, how many sessions are open, and how they are
//! told that the agent stops. It must never name a protocol.

pub mod accept;
mod protocols;
mod reachable;
mod session;
mod stream;

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use agent_abi::Event;
pub use reachable::reachable;
use tokio::sync::{Notify, Semaphore, watch};

use crate::{
    audit::{Literals, Trail},
    config::Limits,
    jobs::Registry,
    kernel::{Kernel, address_of, refusals},
    logging::Throttle,
    logins::Logins,
    metrics::Metrics,
    policy::PolicyStore,
    tls::{Authority, Connector},
};

/// How many idle sessions are closed at their upstreams at the same time when many are cut: each costs its
/// server the end of a process.
const CLOSINGS_AT_ONCE: usize = 4;

/// The parts of the agent that sessions use.
pub struct ProxyParts {
    /// The kernel side.
    pub kernel: Arc<Kernel>,
    /// Live jobs.
    pub registry: Arc<Registry>,
    /// The policy bundle in force.
    pub policy: Arc<PolicyStore>,
    /// The audit trail.
    pub trail: Arc<Trail>,
    /// Counters.
    pub metrics: Arc<Metrics>,
    /// The configured bounds.
    pub limits: Limits,
    /// Whether the trail keeps literals.
    pub literals: Literals,
    /// Issues the certificates by which jobs' clients accept the agent as the server they meant.
    pub authority: Arc<Authority>,
    /// Makes TLS connections to upstreams.
    pub connector: Arc<Connector>,
    /// The agent's own logins at upstreams.
    pub logins: Arc<Logins>,
    /// How far the agent has come in stopping.
    pub drain: watch::Receiver<Drain>,
}

/// How far the agent has come in stopping.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Drain {
    /// It runs.
    No,
    /// A session ends as soon as it is idle.
    Idle,
    /// Every session ends now.
    All,
}

/// What all sessions share.
pub struct Proxy {
    parts: ProxyParts,
    sessions: AtomicUsize,
    /// Woken when the last session has ended.
    idle: Notify,
    refusals_logged: Throttle,
    /// A turn for each idle session that is being closed at its upstream.
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
            closings: Semaphore::new(CLOSINGS_AT_ONCE),
        }
    }

    /// How many sessions are open.
    pub fn sessions(&self) -> usize {
        self.sessions.load(Ordering::Acquire)
    }

    /// Waits until no session is open, for at most `patience`; true if none is.
    pub async fn drained(&self, patience: Duration) -> bool {
        let none_left = async {
            loop {
                // Before the count is read, or the last session's end could fall between.
                let woken = self.idle.notified();
                if self.sessions() == 0 {
                    return;
                }
                woken.await;
            }
        };
        tokio::time::timeout(patience, none_left).await.is_ok()
    }

    /// Logs what the kernel side refused on its own; false if this is left out because so much is logged.
    pub fn on_refused(&self, event: &Event) -> bool {
        let Some(left_out) = self.refusals_logged.admit(Instant::now()) else { return false };
        let to = address_of(event.address, event.port);
        let reason = refusals::of_detail(event.detail).map_or("for an unknown reason", refusals::words);
        let job = crate::ids::Id(event.job);
        tracing::info!(%job, pid = event.tgid, %to, reason, left_out, "refused in the kernel");
        true
    }

    /// Counts one more session, unless as many are open as may be.
    fn try_open(&self) -> bool {
        let max = self.parts.limits.sessions_max;
        self.sessions
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |open| (open < max).then_some(open + 1))
            .is_ok()
    }

    /// Counts one session less.
    fn closed(&self) {
        if self.sessions.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.idle.notify_waiters();
        }
    }
}
