//! From an accepted connection to a session: which job, which process, which upstream.
//!
//! Whatever can't be answered closes the connection: one that was not redirected, one whose lineage has a
//! gap, one to a destination that no policy allows.

use std::sync::Arc;

use agent_core::{decision::Verdict, facts::Facts};
use agent_policy::{Principal, Protocol, Subject, Undeclared};
use tracing::Instrument;

use super::{
    Proxy,
    listeners::Accepted,
    opaque, postgres,
    session::{Session, SessionParts, reset, unix_now},
};
use crate::kernel::address_of;

/// Serves one accepted connection to its end.
pub async fn serve(proxy: Arc<Proxy>, accepted: Accepted) {
    let Accepted { stream, key, netns } = accepted;
    let refuse = |reason: &'static str| {
        proxy.parts.metrics.connections_closed.with_label_values(&[reason]).inc();
        reset(&stream);
    };
    // Someone dialled the listener itself, or the flow map was full.
    let Some(flow) = proxy.parts.kernel.take_flow(&key) else { return refuse("not_redirected") };
    let destination = address_of(flow.address, flow.port);
    let (job, lineage) = match proxy.parts.registry.attribute(&flow) {
        Ok(attributed) => attributed,
        Err(error) => {
            tracing::warn!(%error, pid = flow.tgid, %destination, "a connection could not be attributed");
            return refuse("unattributable");
        }
    };
    let subject = match Subject::new(Principal::Credential(&job.credential), &job.id.to_string(), &lineage) {
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
        job,
        node: flow.node,
        subject,
        destination,
        netns,
        protocol,
    };
    let Some(mut session) = Session::open(parts) else { return refuse("too_many_sessions") };
    // Of the highest level, so that no filter takes job and session off a line.
    let span = tracing::error_span!("session", session = session.id, job = %session.job.id);
    let served = async move {
        match upstream {
            Some(upstream) if upstream.protocol == Protocol::Postgres => {
                postgres::serve(session, upstream, stream).await;
            }
            upstream => {
                if connect_allowed(&mut session, &bundle, upstream.as_ref()) {
                    opaque::serve(session, stream).await;
                } else {
                    session.end("denied");
                    reset(&stream);
                }
            }
        }
    };
    served.instrument(span).await;
}

/// Decides a connection of which nothing but its destination will be seen.
fn connect_allowed(
    session: &mut Session,
    bundle: &Arc<agent_policy::Bundle>,
    upstream: Option<&agent_policy::Upstream>,
) -> bool {
    let facts = Facts::connect();
    let decision = match upstream {
        Some(upstream) => match bundle.session(&session.subject, upstream, "", "") {
            Ok(policy) => policy.decide(&facts, unix_now(), &[]),
            Err(error) => {
                tracing::error!(%error, "policy can't represent this session");
                return false;
            }
        },
        None => bundle.decide_undeclared(&session.subject, session.destination, unix_now(), &[]),
    };
    let name = upstream.map_or("", |upstream| &*upstream.name);
    let resource = if name.is_empty() { session.destination.to_string() } else { name.to_owned() };
    let recorded = session
        .record_open(name, "", "")
        .and_then(|()| session.record_decision(0, &facts, &[resource], None, &decision));
    if let Err(error) = recorded {
        tracing::error!(%error, "a connection could not be recorded, so it is refused");
        return false;
    }
    let undeclared = upstream.is_none() && bundle.undeclared() == Undeclared::Deny;
    if decision.verdict != Verdict::Allow {
        tracing::info!(destination = %session.destination, undeclared, reason = &*decision.reason, "denied");
    }
    decision.verdict == Verdict::Allow && session.ended_by_standing().is_none()
}
