//! From an accepted connection to a session: which job, which process, which upstream.
//!
//! A connection for which one of these can't be answered is reset: one that was not redirected, one whose
//! lineage has a gap, one beyond a bound. What may be dialled is not decided here.

use std::sync::Arc;

use agent_abi::HeldFlow;
use agent_policy::{Principal, Protocol, Subject};
use tracing::Instrument;

use super::listeners::Accepted;
use crate::{
    kernel::address_of,
    proxy::{
        Proxy,
        protocols::Protocols,
        session::{Session, SessionParts},
        stream::{keep_alive, reset},
    },
};

/// Why an accepted connection becomes no session.
#[derive(Clone, Copy)]
enum Unserved {
    /// The client has gone already.
    ClientFailed,
    /// Somebody dialled the listener itself, or the map of flows was full.
    NotRedirected,
    /// Its job and process are not known for sure.
    Unattributable,
    /// Policy has no way to express its job.
    Unrepresentable,
    /// The agent or the job has as many sessions open as it may.
    TooManySessions,
}

impl Unserved {
    /// The `reason` of `lineal_connections_closed_total`.
    const fn label(self) -> &'static str {
        match self {
            Self::ClientFailed => "client_failed",
            Self::NotRedirected => "not_redirected",
            Self::Unattributable => "unattributable",
            Self::Unrepresentable => "unrepresentable",
            Self::TooManySessions => "too_many_sessions",
        }
    }
}

/// Serves one accepted connection to its end.
pub async fn serve(proxy: Arc<Proxy>, protocols: Arc<Protocols>, accepted: Accepted) {
    let (session, stream) = match open(&proxy, accepted) {
        Ok(opened) => opened,
        Err((why, stream)) => {
            proxy.parts.metrics.connections_closed.with_label_values(&[why.label()]).inc();
            return reset(&stream);
        }
    };
    // Of the highest level, so that no filter takes job and session off a line.
    let span = tracing::error_span!("session", session = session.id, job = %session.job.id);
    protocols.serve(session, stream).instrument(span).await;
}

fn open(
    proxy: &Arc<Proxy>,
    accepted: Accepted,
) -> Result<(Session, std::net::TcpStream), (Unserved, std::net::TcpStream)> {
    let Accepted { stream, key, netns } = accepted;
    if keep_alive((&stream).into(), &proxy.parts.limits).is_err() {
        return Err((Unserved::ClientFailed, stream));
    }
    let Some(flow) = proxy.parts.kernel.take_flow(&key) else {
        return Err((Unserved::NotRedirected, stream));
    };
    let destination = address_of(flow.address, flow.port);
    let (slot, lineage) = match proxy.parts.registry.attribute(&flow) {
        Ok(attributed) => attributed,
        Err(error) => {
            tracing::warn!(%error, pid = flow.tgid, %destination, "a connection could not be attributed");
            return Err((Unserved::Unattributable, stream));
        }
    };
    let job = slot.job();
    let principal = match &job.credential {
        Some(credential) => Principal::Credential(credential),
        None => Principal::Unidentified { rule: &job.name },
    };
    let subject = match Subject::new(principal, &job.id.to_string(), &lineage) {
        Ok(subject) => subject,
        Err(error) => {
            tracing::error!(%error, job = %job.id, "policy can't represent this job");
            return Err((Unserved::Unrepresentable, stream));
        }
    };
    let reached = proxy.reaches.take(&HeldFlow { key, time_ns: flow.time_ns });
    let upstream = proxy.parts.policy.current().upstream_for(destination).cloned();
    let parts = SessionParts {
        proxy: Arc::clone(proxy),
        slot,
        node: flow.node,
        subject,
        destination,
        netns,
        reached,
        protocol: upstream.as_ref().map_or(Protocol::Tcp, |upstream| upstream.protocol),
        upstream,
    };
    match Session::open(parts) {
        Some(session) => Ok((session, stream)),
        None => Err((Unserved::TooManySessions, stream)),
    }
}
