//! The PostgreSQL adapter: performs what the session machine in `agent-core` asks for, and brings policy and
//! the audit trail to its questions.
//!
//! - [`judge`]: facts, decision, record: what stands between a statement and the server.
//! - [`reading`]: what statements come to, remembered where that is safe.
//! - [`names`]: what an `EXECUTE` can run.
//! - [`pump`]: moves bytes both ways within fixed buffers, and ends sessions that don't end by themselves.
//! - [`side`]: one peer's stream and its two buffers.
//! - [`greet`]: a connection's beginning, and whether it is encrypted.
//! - [`dial`]: the leg towards the server; [`login`]: logging in there with a credential of the agent's own.
//! - [`cancel`]: the keys of running sessions, and requests to cancel them.

pub mod cancel;
mod dial;
mod greet;
mod judge;
mod login;
mod names;
mod pump;
mod reading;
mod side;

use std::time::Duration;

use agent_core::{
    decision::Decision,
    postgres::{Ruling, Startup, fatal_error},
};
use agent_policy::{Decided, TlsMode, Upstream};
use tokio::{
    io::AsyncWriteExt,
    net::TcpStream,
    time::{Instant, timeout_at},
};

use super::session::Session;
use crate::{logins::LoginsError, tls::Stream};
use dial::{DialError, Way, dial};
use greet::{Greeted, Wants, greet};
use judge::Judge;
use login::{LoginError, login};
use pump::Pump;
use side::Side;

/// The session machine.
type Machine = agent_core::postgres::Session;

/// Serves one connection to its end.
pub async fn serve(mut session: Session, upstream: Upstream, client: std::net::TcpStream) {
    let client = client
        .set_nonblocking(true)
        .and_then(|()| client.set_nodelay(true))
        .and_then(|()| TcpStream::from_std(client));
    let Ok(client) = client else { return session.end("client_failed") };
    let stopped = Session::stopped(session.proxy.parts.drain.clone());
    let opened = tokio::select! {
        biased;
        () = stopped => return session.end("agent_stopped"),
        // Boxed: beginning takes more room than all that follows, and gives it back.
        opened = Box::pin(open(&mut session, &upstream, client)) => opened,
    };
    let ended = match opened {
        Ok(pump) => pump.run(&mut session).await,
        Err(ended) => ended,
    };
    session.end(ended);
}

/// Why there is no session; the client is told.
pub struct Refusal {
    sqlstate: &'static str,
    message: String,
    reason: &'static str,
}

impl Refusal {
    fn new(sqlstate: &'static str, message: impl Into<String>, reason: &'static str) -> Self {
        Self { sqlstate, message: message.into(), reason }
    }
}

/// From the client's first byte to a session that policy has allowed; or how the connection ended.
async fn open(
    session: &mut Session,
    upstream: &Upstream,
    client: TcpStream,
) -> Result<Box<Pump>, &'static str> {
    let late = |_| "startup_timed_out";
    let deadline = Instant::now() + Duration::from_secs(session.proxy.parts.limits.startup_s);
    let authority = (!upstream.leg.declines_tls).then_some(&*session.proxy.parts.authority);
    let greeted =
        timeout_at(deadline, greet(client, session.destination, authority)).await.map_err(late)??;
    let Greeted { mut client, mut machine, buffered, wants } = greeted;
    let admitted = match wants {
        Wants::Cancel(key) => {
            // A new connection as any other.
            let standing = session.standing();
            if let Some(reason) = standing.objection() {
                tracing::info!(reason, "a request to cancel was refused");
                return Err(standing.word());
            }
            let cancelled = timeout_at(deadline, cancel::forward(session, &key)).await;
            return Err(cancelled.map_err(late)?);
        }
        Wants::Refused(refusal) => Err(refusal),
        Wants::Session { command, startup } => {
            timeout_at(deadline, admit(session, upstream, &startup, &mut machine, command))
                .await
                .map_err(late)?
        }
    };
    match admitted {
        Ok(Admitted { judge, server, way }) => {
            Ok(Box::new(Pump::new(*machine, judge, Side::new(client, buffered), server, way)))
        }
        Err(Refusal { sqlstate, message, reason }) => {
            tracing::info!(message, "a session was refused");
            let _ = timeout_at(deadline, refuse(&mut client, sqlstate, &message)).await;
            Err(reason)
        }
    }
}

/// A session that may begin.
struct Admitted {
    judge: Judge,
    server: Side,
    way: Way,
}

/// Asks policy, dials the server and, where the agent has a credential for it, logs in.
async fn admit(
    session: &mut Session,
    upstream: &Upstream,
    startup: &Startup,
    machine: &mut Machine,
    command: u64,
) -> Result<Admitted, Refusal> {
    let internal = |violation: agent_core::postgres::Violation| {
        Refusal::new("XX000", format!("lineal: {violation}"), "internal")
    };
    let groups = session.job.credential.as_ref().map_or(&[][..], |credential| &credential.groups);
    let credential = upstream.leg.credential_for(groups);
    let own = match credential {
        // Nobody is asked for a secret on behalf of a job that may not act.
        Some(name) if session.standing().objection().is_none() => {
            let own = session.proxy.parts.logins.fetch(name).await;
            Some(own.map_err(|error| no_credential(upstream, &error))?)
        }
        _ => None,
    };
    let role = own.as_ref().and_then(|own| own.user.clone()).unwrap_or_else(|| startup.user.clone());
    let judge = decide(session, upstream, startup, &role, credential.is_some())?;
    let identity = own.as_ref().and_then(|own| own.identity.clone());
    let way = Way { leg: upstream.leg.clone(), secret: credential.is_some(), identity };
    let mut server = dial(session, &way).await.map_err(|error| unreachable(session, upstream, &error))?;
    if server.is_encrypted() {
        machine.upstream_encrypted();
    }
    let (ruling, greeting) = match &own {
        // The machine forwards the startup message itself, as the first thing of the session.
        None => (Ruling::Allow, Vec::new()),
        Some(own) => {
            let verified = way.leg.tls == TlsMode::VerifyFull;
            let greeting = login(&mut server, startup, &role, own, verified).await;
            (Ruling::AllowAuthenticated, greeting.map_err(|error| not_logged_in(upstream, &error))?)
        }
    };
    machine.verdict(command, ruling).map_err(internal)?;
    Ok(Admitted { judge, server: Side::new(server, greeting), way })
}

fn no_credential(upstream: &Upstream, error: &LoginsError) -> Refusal {
    tracing::error!(upstream = &*upstream.name, %error, "there is no credential to log in with");
    let message = format!("lineal: the credential for {} cannot be had: see the agent's log", upstream.name);
    Refusal::new("58000", message, "no_credential")
}

fn unreachable(session: &Session, upstream: &Upstream, error: &DialError) -> Refusal {
    let (name, at) = (&upstream.name, session.destination);
    Refusal::new("08001", format!("lineal: cannot reach {name} at {at}: {error}"), "upstream_unreachable")
}

/// What the server says of the role and its password is the administrator's to know; what it says of the database or
/// of its own state is the client's.
fn not_logged_in(upstream: &Upstream, error: &LoginError) -> Refusal {
    tracing::error!(upstream = &*upstream.name, %error, "the agent could not log in");
    let told = match error {
        LoginError::Refused { sqlstate, message } if !sqlstate.starts_with("28") => message.as_str(),
        _ => "see the agent's log",
    };
    let message = format!("lineal: cannot log in to {} with the agent's credential: {told}", upstream.name);
    Refusal::new("28000", message, "login_failed")
}

/// Decides whether the job may have this session. Recorded before anything is dialled.
fn decide(
    session: &mut Session,
    upstream: &Upstream,
    startup: &Startup,
    role: &str,
    credentialed: bool,
) -> Result<Judge, Refusal> {
    let unrecorded = |error: crate::audit::AuditError| {
        Refusal::new("58030", format!("lineal: the session cannot be recorded: {error}"), "unrecorded")
    };
    session.record_open(&upstream.name, &startup.database, role).map_err(unrecorded)?;
    let settings = startup
        .settings()
        .map_err(|error| Refusal::new("42501", format!("lineal: {error}"), "forbidden_option"))?;
    if let Some(setting) = judge::forbidden_setting(&settings) {
        let message = format!(
            "lineal: the startup option {setting} is not carried: it changes how statements are read"
        );
        return Err(Refusal::new("42501", message, "forbidden_option"));
    }
    let bundle = session.proxy.parts.policy.current();
    if bundle.upstream_for(session.destination) != Some(upstream) {
        let message = "lineal: the policy bundle no longer declares this upstream so: connect again";
        return Err(Refusal::new("57P03", message, "upstream_changed"));
    }
    let mut judge =
        Judge::new(session, &bundle, upstream, &startup.database, role, credentialed).map_err(|error| {
            Refusal::new(
                "58000",
                format!("lineal: policy cannot represent this session: {error}"),
                "unrepresentable",
            )
        })?;
    // Followed since it was opened; asked now, so that no revocation falls between.
    let standing = session.standing();
    let objection = standing.objection();
    let (facts, Decided { mut decision, resources }) = judge.begin(&settings);
    if let Some(reason) = &objection {
        decision = Decision::denied(reason.as_str());
    }
    session.record_decision(0, &facts, &resources, None, &decision).map_err(unrecorded)?;
    if let Some(reason) = objection {
        return Err(Refusal::new("28000", format!("lineal: {reason}"), standing.word()));
    }
    if !decision.passes() {
        return Err(Refusal::new("42501", judge::denial(&decision), "denied"));
    }
    Ok(judge)
}

/// Tells the client why, as the server would.
async fn refuse(client: &mut Stream, sqlstate: &str, message: &str) {
    let error = fatal_error(sqlstate_bytes(sqlstate), message);
    if client.write_all(&error).await.is_ok() && client.flush().await.is_ok() {
        side::linger(client).await;
    }
}

/// A SQLSTATE as the protocol has it: five characters.
fn sqlstate_bytes(sqlstate: &str) -> [u8; 5] {
    sqlstate.as_bytes().try_into().unwrap_or(*b"XX000")
}
