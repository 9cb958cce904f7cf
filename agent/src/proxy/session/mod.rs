//! What every session has, whatever it speaks.
//!
//! - this file: a session's identity, its place in the counts, its end. Dropping it closes the session
//!   everywhere.
//! - [`standing`]: whether the job may still act, and the signals that end a session.
//! - [`record`]: the trail's records of a session; a decision on record is what lets a command pass.
//! - [`judge`]: policy's decisions for a session, under the bundle of the moment.
//! - [`dial`]: the connection to the upstream.
//! - [`ended`]: how sessions end.

mod dial;
pub mod ended;
pub mod judge;
mod record;
pub mod standing;

use std::{
    net::{SocketAddr, TcpStream},
    sync::{Arc, Mutex, OnceLock, PoisonError},
};

use agent_core::{
    audit::{
        record::{OutcomeError, Record, SessionRecord},
        redact,
    },
    ruling::Reached,
    standing::Grounds,
};
use agent_policy::{Protocol, Subject, Upstream};
use ended::Ended;
use tokio::sync::watch;

use super::{Proxy, reach::Origin};
use crate::{
    ids::Id,
    jobs::{Job, SessionSlot},
    kernel::netns::Netns,
};

/// A redirected connection whose job is known.
pub struct Session {
    /// The proxy it belongs to.
    pub proxy: Arc<Proxy>,
    /// Its id, as text: every record of it in the trail has it.
    pub id: String,
    /// The job.
    pub job: Arc<Job>,
    /// The job's count of open sessions holds one for this.
    _slot: SessionSlot,
    /// The connecting process's node.
    pub node: u64,
    /// Job and process as policies see them.
    pub subject: Subject,
    /// Where the job's process meant to connect to.
    pub destination: SocketAddr,
    /// The upstream that the destination belonged to when the connection came; `None` for an undeclared one.
    pub upstream: Option<Upstream>,
    /// What is spoken.
    pub protocol: Protocol,
    /// The job's network namespace.
    pub netns: Netns,
    /// The connection that was made when the client connected, if one was.
    reached: Mutex<Option<(Origin, Reached<TcpStream>)>>,
    /// What the job's standing rests on; subscribed to before it is asked for, so that no change is missed.
    pub grounds: watch::Receiver<Grounds>,
    /// The trail holds its opening, so it must hold its end.
    opened: bool,
    ended: Ended,
    /// The error by which the upstream refused or ended it.
    upstream_error: OnceLock<UpstreamError>,
}

/// An upstream's own error, as the trail shows it.
struct UpstreamError {
    code: String,
    message: String,
}

/// What a session is made of; as in [`Session`].
pub struct SessionParts {
    pub proxy: Arc<Proxy>,
    pub slot: SessionSlot,
    pub node: u64,
    pub subject: Subject,
    pub destination: SocketAddr,
    pub upstream: Option<Upstream>,
    pub protocol: Protocol,
    pub netns: Netns,
    pub reached: Option<(Origin, Reached<TcpStream>)>,
}

impl Session {
    /// Counts the session among the agent's and the job's; `None` where either has as many as it may.
    pub fn open(parts: SessionParts) -> Option<Self> {
        let SessionParts { proxy, slot, node, subject, destination, upstream, protocol, netns, reached } =
            parts;
        let id = Id::random().ok()?.to_string();
        if !proxy.try_open() {
            return None;
        }
        let per_job = proxy.parts.limits.sessions_per_job_max;
        let job = Arc::clone(slot.job());
        let open_before = slot.before;
        proxy.parts.metrics.sessions.with_label_values(&[protocol.name()]).inc();
        let grounds = job.grounds();
        let session = Self {
            proxy,
            id,
            job,
            _slot: slot,
            node,
            subject,
            destination,
            upstream,
            protocol,
            netns,
            reached: Mutex::new(reached),
            grounds,
            opened: false,
            ended: Ended::Closed,
            upstream_error: OnceLock::new(),
        };
        // Dropped at the bound, which takes it out of every count again.
        (open_before < per_job).then_some(session)
    }

    /// Says by which error of its own the upstream refuses or ends the session, for the trail; the first one
    /// stays. What its message may quote of secrets is masked.
    pub fn note_upstream_error(&self, code: &str, message: &str) {
        let (code, message) = (code.to_owned(), redact::command_line(message));
        let _ = self.upstream_error.set(UpstreamError { code, message });
    }

    /// The connection that was made when the client connected, if it was made from there.
    fn take_reached(&self, origin: Origin) -> Option<Reached<TcpStream>> {
        let reached = self.reached.lock().unwrap_or_else(PoisonError::into_inner).take();
        reached.filter(|(from, _)| *from == origin).map(|(_, reached)| reached)
    }

    /// Says how the session ends, for the trail and the metrics.
    pub fn end(&mut self, ended: Ended) {
        self.ended = ended;
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        let parts = &self.proxy.parts;
        let reason = self.ended.label();
        if self.ended.is_upstreams_failure() {
            parts.kernel.forget_reachable(self.netns.cookie, self.destination);
        }
        parts.metrics.sessions.with_label_values(&[self.protocol.name()]).dec();
        if self.opened {
            parts.metrics.sessions_ended.with_label_values(&[reason]).inc();
            let job = self.job.id.to_string();
            let error = self.upstream_error.get();
            let error = error.map(|error| OutcomeError { code: &error.code, message: &error.message });
            let record =
                Record::Session(SessionRecord::Closed { session: &self.id, job: &job, reason, error });
            if let Err(error) = parts.trail.append(&record) {
                tracing::error!(%error, "the end of a session could not be recorded");
            }
        }
        self.proxy.closed();
    }
}
