//! Connections to upstreams: made for a session, or ahead of it.
//!
//! A *reach* is a TCP handshake and sends nothing. One that is made ahead of a session waits here, under the
//! held connection that it is made for, until the session takes it.

use std::{
    collections::HashMap,
    io,
    net::{SocketAddr, TcpStream},
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use agent_abi::HeldFlow;
use agent_core::ruling::Reached;
use socket2::SockRef;
use tokio::{net::TcpSocket, task::AbortHandle};

use super::stream::keep_alive;
use crate::{
    config::Limits,
    kernel::netns::{Netns, socket_here},
};

/// How long a destination that was reached counts as one that can be reached: connections to it are not held.
pub const REACHABLE: Duration = Duration::from_secs(1);
/// Reaches under way or waiting for their sessions, of all jobs.
const REACHES_MAX: usize = 1_024;
/// The same, of one job.
const REACHES_PER_JOB_MAX: usize = 64;

/// The network namespace that an upstream is dialled from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The job's.
    Job,
    /// The agent's own.
    Agent,
}

/// Connects to a destination and sends nothing. `netns` is the job's namespace.
#[expect(clippy::disallowed_methods, reason = "the one place that dials")]
pub async fn reach(
    origin: Origin,
    netns: &Netns,
    to: SocketAddr,
    limits: &Limits,
) -> io::Result<Reached<TcpStream>> {
    let socket = match origin {
        Origin::Job => netns.socket_for(to)?,
        Origin::Agent => socket_here(to)?,
    };
    keep_alive(SockRef::from(&socket), limits)?;
    let socket = TcpSocket::from_std_stream(socket.into());
    // Belongs to no runtime: the session may run on another one.
    socket.connect(to).await?.into_std().map(Reached::new)
}

/// The reaches that are made ahead of sessions, by the held connection that each is made for.
#[derive(Default)]
pub struct Reaches(Mutex<HashMap<HeldFlow, Reach>>);

/// One of them.
pub struct Reach {
    job: u64,
    origin: Origin,
    began: Instant,
    /// What has come of it.
    pub state: State,
}

/// What has come of a reach.
pub enum State {
    /// The upstream is being dialled.
    Dialling(AbortHandle),
    /// It did not answer for as long as a client waits. The client finds that out by itself.
    Unanswered,
    /// It was reached; the client's connection is on its way to the listener.
    Reached(Reached<TcpStream>),
}

impl Reach {
    /// A reach that begins now.
    pub fn new(job: u64, origin: Origin, task: AbortHandle) -> Self {
        Self { job, origin, began: Instant::now(), state: State::Dialling(task) }
    }
}

impl Drop for Reach {
    fn drop(&mut self) {
        if let State::Dialling(task) = &self.state {
            task.abort();
        }
    }
}

impl Reaches {
    /// What was reached for a connection that has been accepted, and from where.
    pub fn take(&self, flow: &HeldFlow) -> Option<(Origin, Reached<TcpStream>)> {
        let mut reach = self.locked().remove(flow)?;
        match std::mem::replace(&mut reach.state, State::Unanswered) {
            State::Reached(reached) => Some((reach.origin, reached)),
            state => {
                reach.state = state;
                None
            }
        }
    }

    /// Closes what no session took, where the kernel side's word that the client has gone was lost.
    pub fn sweep(&self, older_than: Duration) {
        self.locked().retain(|_, reach| reach.began.elapsed() < older_than);
    }

    /// All of them.
    pub fn locked(&self) -> MutexGuard<'_, HashMap<HeldFlow, Reach>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether one more reach for a job is within the bounds.
pub fn has_room(reaches: &HashMap<HeldFlow, Reach>, job: u64) -> bool {
    reaches.len() < REACHES_MAX
        && reaches.values().filter(|reach| reach.job == job).count() < REACHES_PER_JOB_MAX
}
