//! From an accepted connection to a session: which job, which process, which upstream.
//!
//! Whatever can't be answered closes the connection: one that was not redirected, one whose lineage has a
//! gap, one to a destination that no policy allows.

use std::sync::Arc;

use agent_policy::{Principal, Protocol, Subject};
use tracing::Instrument;

use super::{
    Proxy,
    listeners::Accepted,
    opaque, postgres,
    session::{Session, SessionParts, keep_alive, reset},
};
use crate::kernel::address_of;

/// Serves one accepted connection to its end.
pub async fn serve(proxy: Arc<Proxy>, accepted: Accepted) {
    let Accepted { stream, key, netns } = accepted;
    let refuse = |reason: &'static str| {
        proxy.parts.metrics.connections_closed.with_label_values(&[reason]).inc();
        reset(&stream);
    };
    if keep_alive((&stream).into(), &proxy.parts.limits).is_err() {
        return refuse("client_failed");
    }
    // Someone dialled the listener itself, or the flow map was full.
    let Some(flow) = proxy.parts.kernel.take_flow(&key) else { return refuse("not_redirected") };
    let destination = address_of(flow.address, flow.port);
    let (place, lineage) = match proxy.parts.registry.attribute(&flow) {
        Ok(attributed) => attributed,
        Err(error) => {
            tracing::warn!(%error, pid = flow.tgid, %destination, "a connection could not be attributed");
            return refuse("unattributable");
        }
    };
    let job = place.job();
    let principal = match &job.credential {
        Some(credential) => Principal::Credential(credential),
        None => Principal::Unidentified { rule: &job.name },
    };
    let subject = match Subject::new(principal, &job.id.to_string(), &lineage) {
        Ok(subject) => subject,
        Err(error) => {
            tracing::error!(%error, job = %job.id, "policy can't represent this job");
            return refuse("unrepresentable");
        }
    };
    let bundle = proxy.parts.policy.current();
    let upstream = bundle.upstream_for(destination).cloned();
    let protocol = match upstream.as_ref().map(|upstream| upstream.protocol) {
        Some(Protocol::Postgres) => "postgres",
        Some(Protocol::Tcp) | None => "tcp",
    };
    let parts = SessionParts {
        proxy: Arc::clone(&proxy),
        place,
        node: flow.node,
        subject,
        destination,
        netns,
        protocol,
    };
    let Some(session) = Session::open(parts) else { return refuse("too_many_sessions") };
    // Of the highest level, so that no filter takes job and session off a line.
    let span = tracing::error_span!("session", session = session.id, job = %session.job.id);
    let served = async move {
        match upstream {
            Some(upstream) if upstream.protocol == Protocol::Postgres => {
                Box::pin(postgres::serve(session, upstream, stream)).await;
            }
            _ => Box::pin(opaque::serve(session, stream)).await,
        }
    };
    served.instrument(span).await;
}
