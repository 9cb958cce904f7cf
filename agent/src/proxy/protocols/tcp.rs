//! Connections whose content nobody reads: decided as a whole, and again when the bundle changes; cut when
//! the job may no longer have them or the agent stops.

use std::{net::TcpStream as StdStream, pin::pin, sync::Arc};

use agent_core::{
    facts::Facts,
    ruling::Admission,
    target::{Scope, Target},
};
use agent_policy::{Bundle, Decider, Judgement, Protocol, decide_undeclared};
use tokio::net::TcpStream;

use crate::{
    clock::unix_now,
    proxy::{
        session::{Session, ended::Ended, standing::changed},
        stream::{copy_both_ways, reset},
    },
};

/// The number under which the trail holds the decision that ends a connection after it was admitted.
const LATER: u64 = 1;

/// Decides the connection; forwards both ways until either side ends or the job may no longer have it.
pub async fn serve(mut session: Session, client: StdStream) {
    let ended = carry(&mut session, client).await;
    session.end(ended);
}

async fn carry(session: &mut Session, client: StdStream) -> Ended {
    // Subscribed before it is asked for, so that no change falls between.
    let mut changes = session.proxy.parts.policy.subscribe();
    let bundle = changes.borrow_and_update().bundle.clone();
    let admission = match admit(session, &bundle) {
        Ok(admission) => admission,
        Err(ended) => {
            reset(&client);
            return ended;
        }
    };
    // What either end writes is passed on at once, as without lineal: when to wait for more is for the end
    // to choose.
    let client = client
        .set_nonblocking(true)
        .and_then(|()| client.set_nodelay(true))
        .and_then(|()| TcpStream::from_std(client));
    let Ok(mut client) = client else { return Ended::ClientFailed };
    let mut upstream = match session.dial(&admission).await {
        Ok(upstream) => upstream,
        Err(error) => {
            tracing::info!(%error, destination = %session.destination, "cannot reach the upstream");
            return Ended::UpstreamUnreachable;
        }
    };
    let mut stopped = pin!(Session::stopped(session.proxy.parts.drain.clone()));
    let mut out_of_standing = pin!(Session::out_of_standing(session.grounds.clone()));
    let ended = {
        let mut copied = pin!(copy_both_ways(&mut client, &mut upstream));
        loop {
            tokio::select! {
                biased;
                ended = &mut out_of_standing => break ended,
                () = &mut stopped => break Ended::AgentStopped,
                () = changed(&mut changes) => {
                    let bundle = changes.borrow_and_update().bundle.clone();
                    if !still_passes(session, &bundle) {
                        break Ended::Denied;
                    }
                }
                copied = &mut copied => break if copied.is_ok() { Ended::Closed } else { Ended::Broken },
            }
        }
    };
    if ended != Ended::Closed {
        // What was cut short must not look complete, and of what may not go on nothing more may arrive.
        reset(&client);
        reset(&upstream);
    }
    ended
}

/// Records the connection and policy's decision on it.
fn admit(session: &mut Session, bundle: &Arc<Bundle>) -> Result<Admission, Ended> {
    let name = bundle.upstream_for(session.destination).map_or("", |upstream| &*upstream.name);
    let address = session.destination.to_string().into();
    let target = Target { upstream: name.into(), address, scope: Scope::Connection };
    let judgement = decide(session, bundle);
    let admitted = session.record_open(&target).and_then(|()| session.begin(&Facts::connect(), &judgement));
    admitted.map_err(|refusal| {
        let (destination, reason) = (session.destination, refusal.words);
        tracing::info!(%destination, reason, "a connection was refused");
        refusal.why
    })
}

/// Whether a new bundle lets the connection go on; where it does not, that is recorded.
fn still_passes(session: &Session, bundle: &Arc<Bundle>) -> bool {
    let judgement = decide(session, bundle);
    if judgement.decision().passes() {
        return true;
    }
    if let Err(error) = session.rule(LATER, &Facts::connect(), None, &judgement) {
        tracing::error!(%error, "the denial that ends a connection could not be recorded");
    }
    false
}

/// Policy's decision on a connection of which nothing but its destination will be seen.
fn decide(session: &Session, bundle: &Arc<Bundle>) -> Judgement {
    let Some(upstream) = bundle.upstream_for(session.destination) else {
        return decide_undeclared(bundle, &session.subject, session.destination, unix_now(), &[]);
    };
    let denied = |reason: String| Judgement::denied(reason, vec![upstream.name.to_string()]);
    if upstream.protocol != Protocol::Tcp {
        return denied("the bundle now declares another protocol for this upstream".to_owned());
    }
    match Decider::new(bundle, &session.subject, upstream, &Scope::Connection) {
        Ok(decider) => decider.decide(&Facts::connect(), unix_now(), &[]),
        Err(error) => denied(format!("policy cannot represent this connection: {error}")),
    }
}
