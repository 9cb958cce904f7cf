//! The PostgreSQL adapter: performs what the session machine in `agent-core` asks for, and brings policy and
//! the audit trail to its questions.
//!
//! - [`judge`]: facts, decision, record: what stands between a statement and the server.
//! - [`reading`]: what statements come to, remembered where that is safe.
//! - [`names`]: what an `EXECUTE` can run.
//! - [`pump`]: moves bytes both ways within fixed buffers.
//! - [`side`]: one peer's stream and its two buffers.
//! - [`cancel`]: the keys of running sessions, and requests to cancel them.

pub mod cancel;
mod judge;
mod names;
mod pump;
mod reading;
mod side;

use std::time::Duration;

use agent_core::{
    decision::{Decision, Verdict},
    postgres::{ClientStep, Limits, Question, Ruling, Startup, fatal_error},
};
use agent_policy::{Decided, Upstream};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

use super::session::Session;
use judge::Judge;
use pump::Pump;

/// Bytes read while a connection hasn't said what it wants: a startup packet and what may be sent ahead.
const OPENING_BYTES: usize = 16 << 10;

/// The session machine.
type Machine = agent_core::postgres::Session;

/// Serves one connection to its end.
pub async fn serve(mut session: Session, upstream: Upstream, client: std::net::TcpStream) {
    let client = client
        .set_nonblocking(true)
        .and_then(|()| client.set_nodelay(true))
        .and_then(|()| TcpStream::from_std(client));
    let Ok(mut client) = client else { return session.end("client_failed") };
    let patience = Duration::from_secs(session.proxy.parts.limits.startup_s);
    let stopped = Session::stopped(session.proxy.parts.drain.clone());
    let opened = tokio::select! {
        biased;
        () = stopped => return session.end("agent_stopped"),
        opened = timeout(patience, open(&mut session, &upstream, &mut client)) => opened,
    };
    let ended = match opened {
        Ok(Ok(Opened::Session { machine, judge, buffered, server })) => {
            Pump::new(*machine, *judge, client, server, buffered).run(&mut session).await
        }
        Ok(Ok(Opened::Over(reason))) => reason,
        Ok(Err(refusal)) => {
            let Refusal { sqlstate, message, reason } = refusal;
            tracing::info!(message, "a session was refused");
            refuse(&mut client, sqlstate, &message).await;
            reason
        }
        Err(_) => "startup_timed_out",
    };
    session.end(ended);
}

/// What a connection's beginning comes to.
enum Opened {
    /// A session: its startup message has been allowed and sent on.
    Session { machine: Box<Machine>, judge: Box<Judge>, buffered: Vec<u8>, server: TcpStream },
    /// Nothing more to do.
    Over(&'static str),
}

/// Why there is no session; the client is told.
struct Refusal {
    sqlstate: &'static str,
    message: String,
    reason: &'static str,
}

impl Refusal {
    fn new(sqlstate: &'static str, message: impl Into<String>, reason: &'static str) -> Self {
        Self { sqlstate, message: message.into(), reason }
    }
}

/// Reads the connection's beginning, asks policy and dials the server.
async fn open(session: &mut Session, upstream: &Upstream, client: &mut TcpStream) -> Result<Opened, Refusal> {
    let mut machine = Machine::new(Limits::default());
    let mut buffered = Vec::with_capacity(OPENING_BYTES);
    loop {
        let step = machine.client(&buffered).map_err(|violation| {
            Refusal::new("08P01", format!("lineal: {violation}"), "protocol_violation")
        })?;
        match step {
            ClientStep::NeedMore { .. } => {
                if buffered.len() >= OPENING_BYTES {
                    return Err(Refusal::new(
                        "08P01",
                        "lineal: the startup packet is too long",
                        "protocol_violation",
                    ));
                }
                match client.read_buf(&mut buffered).await {
                    Ok(0) | Err(_) => return Ok(Opened::Over("client_left")),
                    Ok(_) => {}
                }
            }
            ClientStep::Reply { consumed, client: answer } => {
                if client.write_all(answer).await.is_err() {
                    return Ok(Opened::Over("client_left"));
                }
                buffered.drain(..consumed);
            }
            ClientStep::Cancel { key } => return Ok(Opened::Over(cancel::forward(session, &key).await)),
            ClientStep::Judge { command, question: Question::Startup(startup), .. } => {
                let startup = startup.clone();
                let judge = admit(session, upstream, &startup)?;
                let server = session.dial().await.map_err(|error| {
                    let (name, at) = (&upstream.name, session.destination);
                    let message = format!("lineal: cannot reach {name} at {at}: {error}");
                    Refusal::new("08001", message, "upstream_unreachable")
                })?;
                machine
                    .verdict(command, Ruling::Allow)
                    .map_err(|violation| Refusal::new("XX000", violation.to_string(), "internal"))?;
                // The machine forwards the startup message itself, as the first thing of the session.
                return Ok(Opened::Session {
                    machine: Box::new(machine),
                    judge: Box::new(judge),
                    buffered,
                    server,
                });
            }
            ClientStep::End => return Ok(Opened::Over("client_left")),
            ClientStep::Wait
            | ClientStep::Forward { .. }
            | ClientStep::Replace { .. }
            | ClientStep::Judge { .. } => {
                let message = "lineal: the connection does not begin with a startup packet";
                return Err(Refusal::new("08P01", message, "protocol_violation"));
            }
        }
    }
}

/// Decides whether the job may have this session. Recorded before anything is dialled.
fn admit(session: &mut Session, upstream: &Upstream, startup: &Startup) -> Result<Judge, Refusal> {
    let unrecorded = |error: crate::audit::AuditError| {
        Refusal::new("58030", format!("lineal: the session cannot be recorded: {error}"), "unrecorded")
    };
    session.record_open(&upstream.name, &startup.database, &startup.user).map_err(unrecorded)?;
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
    let mut judge = Judge::new(session, &bundle, upstream, startup).map_err(|error| {
        Refusal::new(
            "58000",
            format!("lineal: policy cannot represent this session: {error}"),
            "unrepresentable",
        )
    })?;
    // Registered with the job's standing since it was opened; asked now, so that no revocation falls between.
    let revoked = session.ended_by_standing();
    let (facts, Decided { mut decision, resources }) = judge.begin(&settings);
    if let Some(reason) = &revoked {
        decision = Decision { verdict: Verdict::Deny, policies: Vec::new(), reason: reason.as_str().into() };
    }
    session.record_decision(0, &facts, &resources, None, &decision).map_err(unrecorded)?;
    if let Some(reason) = revoked {
        return Err(Refusal::new("28000", format!("lineal: {reason}"), "revoked"));
    }
    if decision.verdict != Verdict::Allow {
        return Err(Refusal::new("42501", judge::denial(&decision), "denied"));
    }
    Ok(judge)
}

/// Tells the client why, as the server would.
async fn refuse(client: &mut TcpStream, sqlstate: &str, message: &str) {
    let error = fatal_error(sqlstate_bytes(sqlstate), message);
    if client.write_all(&error).await.is_ok() {
        side::linger(client).await;
    }
}

/// A SQLSTATE as the protocol has it: five characters.
fn sqlstate_bytes(sqlstate: &str) -> [u8; 5] {
    sqlstate.as_bytes().try_into().unwrap_or(*b"XX000")
}
