//! Moves a session's bytes both ways within fixed buffers.
//!
//! Neither side is read while what it sent before is still on its way to the other: a slow reader slows the
//! sender and costs no memory. One task serves both directions, so that nothing is shared.
//!
//! - this file: the session's loop: bytes, and what else can end or change it.
//! - [`advance`]: everything that can be done without waiting; the one place that hands a command to the
//!   upstream.
//! - [`held`]: what a session holds for a long message.
//! - [`long`]: long messages: the room that they take, and the work that is done for them elsewhere.
//! - [`events`]: what the machine found out: keys, readiness, outcomes for the trail.
//! - [`ending`]: how a session ends that does not end by itself.

mod advance;
mod ending;
mod events;
mod held;
mod long;

use std::{
    collections::VecDeque,
    future::poll_fn,
    pin::Pin,
    sync::Arc,
    task::Poll,
    time::{Duration, Instant},
};

use agent_core::{
    postgres::{Session as Machine, Transaction, UpstreamError, Violation},
    standing::Grounds,
};
use held::{Room, Working};
use tokio::{sync::watch, time::Sleep};

use super::{
    keys::{Keys, Registration},
    later::Progress,
    route::Route,
    statements::Statements,
};
use crate::proxy::{
    Drain,
    session::{
        Session,
        ended::{Ended, Refusal},
        standing::changed,
    },
    stream::{Client, Side, Upstream},
};

/// A running session.
pub struct Pump {
    machine: Machine,
    statements: Statements,
    client: Side<Client>,
    upstream: Side<Upstream>,
    /// Bytes of the client's that the machine needs before it is asked again.
    client_needs: usize,
    /// Bytes of the upstream's that the machine needs before it is asked again.
    upstream_needs: usize,
    /// The machine takes nothing from the client before the upstream has said something.
    client_waits: bool,
    /// Commands on their way, oldest first.
    sent: VecDeque<Sent>,
    /// How the upstream was reached: cancel requests take the same route.
    route: Arc<Route>,
    keys: Arc<Keys>,
    /// The session's key, once the upstream has given one.
    key: Option<Registration>,
    /// The upstream has been ready for commands.
    ready: bool,
    transaction: Transaction,
    /// The client has said that it ends.
    client_over: bool,
    /// The error by which the upstream ended the session.
    fatal: Option<UpstreamError>,
    room: Room,
    /// Work that is being done for the question at hand, which is then asked again.
    working: Option<Working>,
    /// What has been done for the question at hand.
    progress: Progress,
}

/// A command on its way.
struct Sent {
    command: u64,
    at: Instant,
    /// The trail holds a decision of this number, so an outcome must follow it there.
    recorded: bool,
}

impl Pump {
    /// A session that has been admitted. Its startup message has been sent, or comes first of what the
    /// machine forwards.
    pub fn new(
        machine: Machine,
        statements: Statements,
        client: Side<Client>,
        upstream: Side<Upstream>,
        route: Route,
        keys: Arc<Keys>,
    ) -> Self {
        Self {
            machine,
            statements,
            client,
            upstream,
            client_needs: 1,
            upstream_needs: 1,
            client_waits: false,
            sent: VecDeque::new(),
            route: Arc::new(route),
            keys,
            key: None,
            ready: false,
            transaction: Transaction::Idle,
            client_over: false,
            fatal: None,
            room: Room::default(),
            working: None,
            progress: Progress::default(),
        }
    }

    /// Runs the session to its end.
    pub async fn run(mut self: Box<Self>, session: &mut Session) -> Ended {
        let limits = session.proxy.parts.limits.clone();
        let startup = Duration::from_secs(limits.startup_s);
        let stalled = Duration::from_secs(limits.stalled_write_s);
        let mut grounds = session.grounds.clone();
        let mut drain = session.proxy.parts.drain.clone();
        let mut deadline = Box::pin(tokio::time::sleep(startup));
        let mut owing = Owing::Startup;
        loop {
            let woken = self.wait(session, owing, &mut grounds, &mut drain, &mut deadline).await;
            match woken {
                Woken::Ended(ended) => return self.finish(session, ended).await,
                Woken::Broken(violation) => return self.break_off(session, &violation).await,
                Woken::Owing(now) => {
                    owing = now;
                    if matches!(owing, Owing::Reading | Owing::Close) {
                        deadline.as_mut().reset(tokio::time::Instant::now() + stalled);
                    }
                }
                Woken::Grounds => {
                    if let Some(revoked) = session.revoked() {
                        return self.cut(session, &revoked).await;
                    }
                }
                Woken::Drain => {
                    let stops = Refusal::new(Ended::AgentStopped, "the agent is stopping");
                    return if self.is_idle() {
                        self.say_goodbye(session, &stops).await
                    } else {
                        self.cut(session, &stops).await
                    };
                }
                Woken::Deadline if owing == Owing::Startup => return Ended::StartupTimedOut,
                // What still runs goes on at the server, as after a client that is gone.
                Woken::Deadline if owing == Owing::Close => {
                    let ended = self.closing().unwrap_or(Ended::Closed);
                    return self.finish(session, ended).await;
                }
                Woken::Deadline => {
                    let words = "what was sent has been left unread for too long";
                    return self.cut(session, &Refusal::new(Ended::Stalled, words)).await;
                }
            }
        }
    }

    /// Moves bytes until something else needs a decision.
    async fn wait(
        &mut self,
        session: &Session,
        owing: Owing,
        grounds: &mut watch::Receiver<Grounds>,
        drain: &mut watch::Receiver<Drain>,
        deadline: &mut Pin<Box<Sleep>>,
    ) -> Woken {
        let stage = *drain.borrow_and_update();
        let draining = stage != Drain::No;
        if stage == Drain::All || draining && self.is_idle() {
            return Woken::Drain;
        }
        let expired = async {
            match owing {
                Owing::Nothing => std::future::pending().await,
                Owing::Startup | Owing::Reading | Owing::Close => deadline.await,
            }
        };
        let io = poll_fn(|cx| match self.poll_advance(cx, session) {
            Poll::Ready(Ok(ended)) => Poll::Ready(Woken::Ended(ended)),
            Poll::Ready(Err(violation)) => Poll::Ready(Woken::Broken(violation)),
            Poll::Pending if self.owing() != owing || self.is_slow_but_moving() => {
                Poll::Ready(Woken::Owing(self.owing()))
            }
            Poll::Pending if draining && self.is_idle() => Poll::Ready(Woken::Drain),
            Poll::Pending => Poll::Pending,
        });
        tokio::select! {
            biased;
            () = changed(grounds) => Woken::Grounds,
            woken = io => woken,
            () = changed(drain) => Woken::Owing(owing),
            () = expired => Woken::Deadline,
        }
    }

    /// What the session waits for the client or the upstream to do. While it waits, a deadline runs.
    fn owing(&self) -> Owing {
        if !self.ready {
            Owing::Startup
        } else if self.client.has_output() || self.upstream.has_output() {
            Owing::Reading
        } else if self.closing().is_some() {
            Owing::Close
        } else {
            Owing::Nothing
        }
    }

    /// Whether nothing is under way: no request unanswered, no transaction open.
    fn is_idle(&self) -> bool {
        let nothing_asked = self.machine.awaited() == 0 && self.working.is_none();
        self.ready && self.transaction == Transaction::Idle && nothing_asked
    }

    /// Whether the client or the upstream has output to read, and has read some since the last call.
    fn is_slow_but_moving(&mut self) -> bool {
        let (client, upstream) = (self.client.take_progress(), self.upstream.take_progress());
        self.owing() == Owing::Reading && (client || upstream)
    }
}

/// What ends a wait.
enum Woken {
    /// The session is over.
    Ended(Ended),
    /// The client or the upstream broke the protocol.
    Broken(Violation),
    /// What the session waits for the client or the upstream to do has changed.
    Owing(Owing),
    /// What the job's standing rests on has changed.
    Grounds,
    /// The agent stops, and nothing is under way.
    Drain,
    /// The client or the upstream took too long.
    Deadline,
}

/// What the session waits for the client or the upstream to do.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Owing {
    /// To become ready for commands.
    Startup,
    /// To read the output that waits for it.
    Reading,
    /// To answer what was sent before the client ended, and to close. A session must not keep its place for
    /// as long as a job that has ended lets the server work.
    Close,
    /// Nothing: an idle session may last.
    Nothing,
}
