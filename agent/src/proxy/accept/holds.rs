//! Serves the connections that the kernel side holds: a client whose upstream can't be reached is refused, as
//! by the upstream's own host.
//!
//! An upstream is reached before its client can say what it wants, and so before the session is decided: only
//! a declared one, and only for a job that may act. What was reached waits for its session's admission, and
//! is closed if there is none. A connection for which nothing is reached is let through, and its session
//! dials.

use std::{io, net::TcpStream, sync::Arc};

use agent_abi::{HOLD_BEGINS, Hold};
use agent_core::ruling::Reached;

use super::listeners::Listeners;
use crate::{
    bounds::Bound,
    clock::unix_now,
    ids::Id,
    kernel::{HoldStream, Verdict, address_of, netns::Netns},
    proxy::{
        Drain, Proxy,
        protocols::origin,
        reach::{Origin, REACHABLE, Reach, State, has_room, reach},
        session::standing::objection,
    },
};

/// The `reason` of `lineal_connections_closed_total` for a connection that is refused.
const UNREACHABLE: &str = "upstream_unreachable";

/// Serves held connections until the future is dropped.
pub async fn hold(proxy: Arc<Proxy>, listeners: Arc<Listeners>, holds: HoldStream) {
    let served = holds.run(|hold| {
        if hold.kind == HOLD_BEGINS {
            if !begin(&proxy, &listeners, hold) {
                proxy.parts.kernel.give_verdict(&hold.flow, Verdict::Go);
            }
        } else {
            // Under the lock: a dial that ends now must not leave a verdict behind.
            let mut reaches = proxy.reaches.locked();
            reaches.remove(&hold.flow);
            proxy.parts.kernel.drop_verdict(&hold.flow);
        }
    });
    if let Err(error) = served.await {
        tracing::error!(%error, "held connections cannot be read: each stays held until its client gives up");
    }
}

/// Begins to reach the destination of a held connection; false if that is not to be done.
fn begin(proxy: &Arc<Proxy>, listeners: &Listeners, hold: &Hold) -> bool {
    let Some((origin, netns)) = from_where(proxy, listeners, hold) else { return false };
    let mut reaches = proxy.reaches.locked();
    if !has_room(&reaches, hold.job) {
        proxy.parts.metrics.bound(Bound::Reaches).inc();
        return false;
    }
    let (dialling, hold) = (Arc::clone(proxy), *hold);
    let task = tokio::spawn(async move {
        let to = address_of(hold.address, hold.port);
        let reached = reach(origin, &netns, to, &dialling.parts.limits).await;
        settle(&dialling, &hold, reached);
    });
    reaches.insert(hold.flow, Reach::new(hold.job, origin, task.abort_handle()));
    true
}

/// From where the destination of a held connection is to be reached; `None` if it is not to be reached before
/// the session is decided.
fn from_where(proxy: &Proxy, listeners: &Listeners, hold: &Hold) -> Option<(Origin, Netns)> {
    let parts = &proxy.parts;
    if *parts.drain.borrow() != Drain::No {
        return None;
    }
    let to = address_of(hold.address, hold.port);
    let bundle = parts.policy.current();
    let upstream = bundle.upstream_for(to)?;
    let job = parts.registry.job(Id(hold.job))?;
    if objection(&job.grounds().borrow().at(unix_now())).is_some() {
        return None;
    }
    let netns = listeners.netns(hold.flow.key.netns)?;
    let groups = job.credential.as_ref().map_or(&[][..], |credential| &credential.groups);
    Some((origin(upstream, groups, &netns, to)?, netns))
}

/// Gives the verdict on a held connection by what came of its reach.
fn settle(proxy: &Proxy, hold: &Hold, reached: io::Result<Reached<TcpStream>>) {
    let kernel = &proxy.parts.kernel;
    let (netns, to) = (hold.flow.key.netns, address_of(hold.address, hold.port));
    let mut reaches = proxy.reaches.locked();
    // Else the client has given up meanwhile.
    let Some(reach) = reaches.get_mut(&hold.flow) else { return };
    match reached {
        Ok(reached) => {
            reach.state = State::Reached(reached);
            kernel.set_reachable(netns, to, REACHABLE);
            kernel.give_verdict(&hold.flow, Verdict::Go);
        }
        Err(error) if error.kind() == io::ErrorKind::TimedOut => reach.state = State::Unanswered,
        Err(error) => {
            reaches.remove(&hold.flow);
            let verdict = if is_agents_own(&error) { Verdict::Go } else { Verdict::Refuse };
            if verdict == Verdict::Refuse {
                proxy.parts.metrics.connections_closed.with_label_values(&[UNREACHABLE]).inc();
            }
            tracing::info!(%error, job = %Id(hold.job), %to, ?verdict, "cannot reach an upstream");
            kernel.forget_reachable(netns, to);
            kernel.give_verdict(&hold.flow, verdict);
        }
    }
}

/// Whether dialling failed for a want of the agent's, which says nothing about the destination.
fn is_agents_own(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE | libc::ENOMEM | libc::ENOBUFS))
}
