//! The PostgreSQL adapter: performs what the session machine in `agent-core` asks for, and answers its
//! questions by policy and the audit trail.
//!
//! - this file: a connection from its first byte to its end.
//! - [`greet`]: what the client wants, and whether its connection is encrypted.
//! - [`admission`]: decides whether the client gets a session, dials the upstream and, where the agent has a
//!   login of its own, logs in. [`refusal`]: what a refused client is told.
//! - [`dial`] and [`route`]: the connection to the upstream; [`login`]: logging in there.
//! - [`pump`]: moves bytes both ways within fixed buffers, and ends sessions that don't end by themselves.
//! - [`statements`]: facts, decision, record: what stands between a statement and the upstream. [`reading`]:
//!   what the SQL grammar reads in a statement, cached where that is safe. [`names`]: which statements an
//!   `EXECUTE` or a `FETCH` can run.
//! - [`cancel`] and [`keys`]: requests to cancel what a session runs.

mod admission;
mod cancel;
mod changes;
mod dial;
mod executed;
mod greet;
mod keys;
mod login;
mod names;
mod pump;
mod reading;
mod refusal;
mod route;
mod schemas;
mod statements;

use std::{sync::Arc, time::Duration};

use admission::{Admitted, admit};
use agent_policy::Upstream;
use greet::{Greeted, Wants, greet};
use keys::Keys;
use pump::Pump;
use tokio::{
    net::TcpStream,
    time::{Instant, timeout_at},
};

use crate::proxy::{
    session::{Session, ended::Ended},
    stream::Side,
};

/// What all PostgreSQL sessions share.
#[derive(Default)]
pub struct Shared {
    cancel_keys: Arc<Keys>,
}

/// Serves one connection to its end.
pub async fn serve(shared: &Shared, mut session: Session, client: std::net::TcpStream) {
    let ended = serve_to_end(shared, &mut session, client).await;
    session.end(ended);
}

async fn serve_to_end(shared: &Shared, session: &mut Session, client: std::net::TcpStream) -> Ended {
    let client = client
        .set_nonblocking(true)
        .and_then(|()| client.set_nodelay(true))
        .and_then(|()| TcpStream::from_std(client));
    let Ok(client) = client else { return Ended::ClientFailed };
    // There always is an upstream: its declaration says that the session speaks PostgreSQL.
    let Some(upstream) = session.upstream.clone() else { return Ended::Internal };
    let stopped = Session::stopped(session.proxy.parts.drain.clone());
    let opened = tokio::select! {
        biased;
        () = stopped => return Ended::AgentStopped,
        // Boxed: `open` needs more memory than the rest of the session, and frees it when done.
        opened = Box::pin(open(shared, session, &upstream, client)) => opened,
    };
    match opened {
        Ok(pump) => pump.run(session).await,
        Err(ended) => ended,
    }
}

/// Reads what the client wants and makes its session ready to run. The error says how the connection ended
/// instead: with the client refused or gone, or with its cancel request carried out.
async fn open(
    shared: &Shared,
    session: &mut Session,
    upstream: &Upstream,
    client: TcpStream,
) -> Result<Box<Pump>, Ended> {
    let late = |_| Ended::StartupTimedOut;
    let deadline = Instant::now() + Duration::from_secs(session.proxy.parts.limits.startup_s);
    // Without an authority, the client's request for TLS is declined.
    let authority = (!upstream.leg.declines_tls).then_some(&*session.proxy.parts.authority);
    let greeted =
        timeout_at(deadline, greet(client, session.destination, authority)).await.map_err(late)??;
    let Greeted { mut client, mut machine, buffered, wants } = greeted;
    let admitted = match wants {
        Wants::Cancel(key) => {
            let forwarded = cancel::forward(session, &shared.cancel_keys, &key);
            return Err(timeout_at(deadline, forwarded).await.map_err(late)?);
        }
        Wants::Refused(refusal) => Err(refusal),
        Wants::Session { command, startup } => {
            timeout_at(deadline, admit(session, upstream, &startup, &mut machine, command))
                .await
                .map_err(late)?
        }
    };
    match admitted {
        Ok(Admitted { statements, upstream, route }) => {
            let client = Side::new(client, buffered);
            let keys = Arc::clone(&shared.cancel_keys);
            Ok(Box::new(Pump::new(*machine, statements, client, upstream, route, keys)))
        }
        Err(refusal) => {
            tracing::info!(message = refusal::message(&refusal), "a session was refused");
            let _ = timeout_at(deadline, refusal::refuse(&mut client, &refusal)).await;
            Err(refusal.why)
        }
    }
}
