//! Connections whose content nobody reads: decided as a whole, and again when the bundle changes; cut when the job's
//! standing ends or the agent stops.

use std::sync::Arc;

use agent_core::{decision::Decision, facts::Facts, target::Scope};
use agent_policy::{Bundle, Decider, Judgement, Protocol, decide_undeclared};
use tokio::{io::copy_bidirectional, net::TcpStream};

use super::session::{Session, reset};
use crate::{audit::AuditError, clock::unix_now};

/// Decides the connection; forwards both ways until either side ends or the job may no longer have it.
pub async fn serve(mut session: Session, client: std::net::TcpStream) {
    // Subscribed before it is asked for, so that no change falls between.
    let mut changes = session.proxy.parts.policy.subscribe();
    let bundle = changes.borrow_and_update().bundle.clone();
    if let Err(reason) = admit(&mut session, &bundle) {
        session.end(reason);
        return reset(&client);
    }
    let Ok(mut client) = client.set_nonblocking(true).and_then(|()| TcpStream::from_std(client)) else {
        return session.end("client_failed");
    };
    let mut upstream = match session.dial().await {
        Ok(upstream) => upstream,
        Err(error) => {
            tracing::info!(%error, destination = %session.destination, "cannot reach the upstream");
            return session.end("upstream_unreachable");
        }
    };
    let stopped = Session::stopped(session.proxy.parts.drain.clone());
    let mut stopped = std::pin::pin!(stopped);
    let out_of_standing = Session::out_of_standing(session.grounds.clone());
    let mut out_of_standing = std::pin::pin!(out_of_standing);
    let mut commands = 0;
    // Boxed, so that it can be dropped for the connections' sake.
    let mut copied = Box::pin(copy_bidirectional(&mut client, &mut upstream));
    let reason = loop {
        tokio::select! {
            biased;
            standing = &mut out_of_standing => break standing.word(),
            () = &mut stopped => break "agent_stopped",
            changed = changes.changed() => {
                let bundle = changes.borrow_and_update().bundle.clone();
                let judgement = decide(&session, &bundle);
                if changed.is_err() || !judgement.decision.passes() {
                    commands += 1;
                    if let Err(error) = record(&session, commands, &judgement) {
                        tracing::error!(%error, "the end of a connection could not be recorded");
                    }
                    break "denied";
                }
            }
            copied = &mut copied => break if copied.is_ok() { "closed" } else { "broken" },
        }
    };
    drop(copied);
    if !matches!(reason, "closed" | "broken") {
        // Nothing that is on its way arrives any more.
        for stream in [&client, &upstream] {
            let _ = socket2::SockRef::from(stream).set_linger(Some(std::time::Duration::ZERO));
        }
    }
    session.end(reason);
}

/// Records the connection and policy's answer to it; why there is none, if there is none.
fn admit(session: &mut Session, bundle: &Arc<Bundle>) -> Result<(), &'static str> {
    let mut judgement = decide(session, bundle);
    // Followed since it was opened; asked now, so that no revocation falls between.
    let standing = session.standing();
    let objection = standing.objection();
    if let Some(reason) = &objection {
        judgement.decision = Decision::denied(reason.as_str());
    }
    let name = bundle.upstream_for(session.destination).map_or("", |upstream| &*upstream.name);
    let recorded = session.record_open(name, "", "").and_then(|()| record(session, 0, &judgement));
    if let Err(error) = recorded {
        tracing::error!(%error, "a connection could not be recorded, so it is refused");
        return Err("unrecorded");
    }
    if !judgement.decision.passes() {
        let reason = &*judgement.decision.reason;
        tracing::info!(destination = %session.destination, reason, "denied");
        return Err(if objection.is_some() { standing.word() } else { "denied" });
    }
    Ok(())
}

/// Policy's answer to a connection of which nothing but its destination will be seen.
fn decide(session: &Session, bundle: &Arc<Bundle>) -> Judgement {
    let Some(upstream) = bundle.upstream_for(session.destination) else {
        return decide_undeclared(bundle, &session.subject, session.destination, unix_now(), &[]);
    };
    let denied = |reason: String| Judgement {
        decision: Decision::denied(reason),
        resources: vec![upstream.name.to_string()],
    };
    match upstream.protocol {
        Protocol::Tcp => match Decider::new(bundle, &session.subject, upstream, &Scope::Connection) {
            Ok(policy) => policy.decide(&Facts::connect(), unix_now(), &[]),
            Err(error) => denied(format!("policy cannot represent this connection: {error}")),
        },
        Protocol::Postgres => denied("the bundle now declares another protocol for this upstream".to_owned()),
    }
}

fn record(session: &Session, command: u64, judgement: &Judgement) -> Result<(), AuditError> {
    let Judgement { decision, resources } = judgement;
    session.record_decision(command, &Facts::connect(), resources, None, decision)
}
