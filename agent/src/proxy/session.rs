//! What every session has, whatever it speaks: its identity, its place in the trail, its bounds, and the
//! signals that end it. Dropping it closes the session everywhere.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use agent_core::{
    audit::record::{DecisionRecord, Record, SessionRecord, StatementRef, Texts, UpstreamRef},
    decision::{Decision, Effect},
    facts::{Action, Facts},
    standing::{Grounds, Standing},
};
use agent_policy::Subject;
use socket2::{SockRef, Socket, TcpKeepalive};
use tokio::{net::TcpStream, sync::watch};

use super::{Drain, Proxy};
use crate::{
    audit::AuditError,
    clock::unix_now,
    config::Limits,
    ids::Id,
    jobs::{Job, Place},
    kernel::netns::Netns,
};

/// How often the clock is asked at least whether a job's time is up: it can be set.
const CLOCK_LOOK_S_MAX: u64 = 60;

/// A flow whose job is known.
pub struct Session {
    /// The proxy it belongs to.
    pub proxy: Arc<Proxy>,
    /// Its id, as text: the trail names it on every record.
    pub id: String,
    /// The job.
    pub job: Arc<Job>,
    /// Its place among the job's sessions.
    _place: Place,
    /// Node of the connecting process.
    pub node: u64,
    /// Job and process as policies see them.
    pub subject: Subject,
    /// Where the job meant to go.
    pub destination: SocketAddr,
    /// Where it came from.
    pub netns: Netns,
    /// What the job's standing rests on: subscribed to before it is asked for.
    pub grounds: watch::Receiver<Grounds>,
    protocol: &'static str,
    opened: bool,
    ended: &'static str,
}

/// What a session is made of.
pub struct SessionParts {
    pub proxy: Arc<Proxy>,
    pub place: Place,
    pub node: u64,
    pub subject: Subject,
    pub destination: SocketAddr,
    pub netns: Netns,
    pub protocol: &'static str,
}

impl Session {
    /// Takes a place among the open sessions, or answers none at the bound.
    pub fn open(parts: SessionParts) -> Option<Self> {
        let SessionParts { proxy, place, node, subject, destination, netns, protocol } = parts;
        let id = Id::random().ok()?.to_string();
        if !proxy.try_open() {
            return None;
        }
        let per_job = proxy.parts.limits.sessions_per_job_max;
        let job = Arc::clone(place.job());
        let open = place.before;
        proxy.parts.metrics.sessions.with_label_values(&[protocol]).inc();
        let grounds = job.grounds();
        let session = Self {
            proxy,
            id,
            job,
            _place: place,
            node,
            subject,
            destination,
            netns,
            grounds,
            protocol,
            opened: false,
            ended: "closed",
        };
        // Dropped at the bound, which gives every count back.
        (open < per_job).then_some(session)
    }

    /// The job's standing now: every new session and every command asks.
    pub fn standing(&self) -> Standing {
        self.grounds.borrow().at(unix_now())
    }

    /// Waits until the job may begin nothing any more, and answers its standing then.
    pub async fn out_of_standing(mut grounds: watch::Receiver<Grounds>) -> Standing {
        loop {
            let (standing, until) = {
                let grounds = grounds.borrow_and_update();
                (grounds.at(unix_now()), grounds.acts_until_unix())
            };
            if standing.objection().is_some() {
                return standing;
            }
            let left = until.map_or(CLOCK_LOOK_S_MAX, |until| {
                until.saturating_sub(unix_now()).clamp(1, CLOCK_LOOK_S_MAX as i64) as u64
            });
            tokio::select! {
                changed = grounds.changed() => {
                    // A job outlives its sessions: its sender can't be gone.
                    if changed.is_err() {
                        std::future::pending::<()>().await;
                    }
                }
                () = tokio::time::sleep(Duration::from_secs(left)) => {}
            }
        }
    }

    /// Writes the session's opening to the trail.
    pub fn record_open(&mut self, upstream: &str, database: &str, user: &str) -> Result<(), AuditError> {
        let address = self.destination.to_string();
        let job = self.job.id.to_string();
        let upstream = UpstreamRef { name: upstream, address: &address, database, user };
        self.proxy.parts.trail.append(&Record::Session(SessionRecord::Opened {
            session: &self.id,
            job: &job,
            process: self.node,
            protocol: self.protocol,
            upstream,
        }))?;
        self.opened = true;
        self.proxy.parts.metrics.sessions_opened.with_label_values(&[self.protocol]).inc();
        Ok(())
    }

    /// Writes a decision to the trail; nothing may be forwarded before this has returned well.
    pub fn record_decision(
        &self,
        command: u64,
        facts: &Facts,
        resources: &[String],
        statement: Option<StatementRef<'_>>,
        decision: &Decision,
    ) -> Result<(), AuditError> {
        let actions: Vec<Action> = facts.accesses.iter().map(|access| access.action).collect();
        self.proxy.parts.trail.append(&Record::Decision(DecisionRecord {
            session: &self.id,
            command,
            protocol: self.protocol,
            actions: &actions,
            resources: Texts::Strings(resources),
            statement,
            decision: decision.effect,
            policies: Texts::Boxed(&decision.policies),
            reason: &decision.reason,
            masked: Texts::Strs(&[]),
            observed: decision.observed,
        }))?;
        let effect = match decision.effect {
            Effect::Deny | Effect::Hold if decision.observed => "would_deny",
            effect => effect.name(),
        };
        self.proxy.parts.metrics.decisions.with_label_values(&[self.protocol, effect]).inc();
        Ok(())
    }

    /// Says why the session ends, for the trail and the metrics.
    pub fn end(&mut self, reason: &'static str) {
        self.ended = reason;
    }

    /// Waits until the agent ends every session.
    pub async fn stopped(mut drain: watch::Receiver<Drain>) {
        if drain.wait_for(|drain| *drain == Drain::All).await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Dials the destination from the network namespace that the job is in.
    pub async fn dial(&self) -> std::io::Result<TcpStream> {
        self.connect(self.netns.socket_for(self.destination)?).await
    }

    /// Dials the destination from the agent's own network namespace.
    pub async fn dial_from_agent(&self) -> std::io::Result<TcpStream> {
        self.connect(crate::kernel::netns::socket_here(self.destination)?).await
    }

    async fn connect(&self, socket: Socket) -> std::io::Result<TcpStream> {
        keep_alive(SockRef::from(&socket), &self.proxy.parts.limits)?;
        let socket = tokio::net::TcpSocket::from_std_stream(socket.into());
        let patience = Duration::from_secs(self.proxy.parts.limits.dial_s);
        tokio::time::timeout(patience, socket.connect(self.destination))
            .await
            .unwrap_or_else(|_| Err(std::io::ErrorKind::TimedOut.into()))
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        let parts = &self.proxy.parts;
        parts.metrics.sessions.with_label_values(&[self.protocol]).dec();
        if self.opened {
            parts.metrics.sessions_ended.with_label_values(&[self.ended]).inc();
            let job = self.job.id.to_string();
            let record =
                Record::Session(SessionRecord::Closed { session: &self.id, job: &job, reason: self.ended });
            if let Err(error) = parts.trail.append(&record) {
                tracing::error!(%error, "the end of a session could not be recorded");
            }
        }
        self.proxy.closed();
    }
}

/// Has the kernel ask a silent peer whether it is still there, so that a half-open connection ends
/// (`limits.keepalive_s`).
pub fn keep_alive(socket: SockRef<'_>, limits: &Limits) -> std::io::Result<()> {
    const PROBES: u32 = 4;
    let silence = Duration::from_secs(limits.keepalive_s.max(1));
    let between = (silence / PROBES).max(Duration::from_secs(1));
    let keepalive = TcpKeepalive::new().with_time(silence).with_interval(between).with_retries(PROBES);
    socket.set_tcp_keepalive(&keepalive)
}

/// Closes a connection with a reset: what was refused must not look like an orderly end.
pub fn reset(stream: &std::net::TcpStream) {
    let _ = SockRef::from(stream).set_linger(Some(Duration::ZERO));
}
