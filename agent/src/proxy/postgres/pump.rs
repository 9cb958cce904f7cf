//! Moves a session's bytes both ways within fixed buffers.
//!
//! Neither side is read while what it sent before is still on its way to the other: a slow reader slows its
//! peer and costs no memory. One task serves both directions, so that nothing is shared.

mod ending;

use std::{
    collections::VecDeque,
    future::poll_fn,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use agent_core::{
    audit::record::{OutcomeError, OutcomeRecord, Record},
    postgres::{ClientStep, Denial, Ending, Event, Outcome, Ruling, Transaction, UpstreamStep, Violation},
    standing::{Grounds, Standing},
};
use tokio::{sync::watch, time::Sleep};

use super::{
    Machine,
    cancel::Registered,
    dial::Way,
    judge::{Judge, Judged},
    side::{BUFFER_BYTES, Side, hand_over},
};
use crate::proxy::{Drain, session::Session};

/// A running session.
pub struct Pump {
    machine: Machine,
    judge: Judge,
    client: Side,
    server: Side,
    /// Bytes the machine needs before it is asked again.
    client_needs: usize,
    server_needs: usize,
    /// The machine waits for the server.
    client_waits: bool,
    /// Commands on their way, oldest first: number and when they were sent.
    sent: VecDeque<Sent>,
    /// How the server was reached: cancel requests take the same way.
    way: Arc<Way>,
    key: Option<Registered>,
    ready: bool,
    transaction: Transaction,
    /// The client has said goodbye.
    client_over: bool,
}

/// A command on its way.
struct Sent {
    command: u64,
    at: Instant,
    /// The trail holds its decision.
    recorded: bool,
}

/// How a session ended.
type Ended = &'static str;

impl Pump {
    /// A session that has been allowed. Its startup message has been sent on, or comes first of what the machine
    /// forwards.
    pub fn new(machine: Machine, judge: Judge, client: Side, server: Side, way: Way) -> Self {
        Self {
            machine,
            judge,
            client,
            server,
            client_needs: 1,
            server_needs: 1,
            client_waits: false,
            sent: VecDeque::new(),
            way: Arc::new(way),
            key: None,
            ready: false,
            transaction: Transaction::Idle,
            client_over: false,
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
                    if owing == Owing::Reading {
                        deadline.as_mut().reset(tokio::time::Instant::now() + stalled);
                    }
                }
                // A job whose time is up keeps its sessions, and each of their commands is denied.
                Woken::Grounds => {
                    let standing = session.standing();
                    if let (Standing::Revoked { .. }, Some(reason)) = (&standing, standing.objection()) {
                        let told = format!("lineal: {reason}");
                        return self.cut(session, "28000", &told, standing.word()).await;
                    }
                }
                Woken::Drain => {
                    let (sqlstate, message) = ("57P01", "lineal: the agent is stopping");
                    return if self.is_idle() {
                        self.say_goodbye(session, sqlstate, message, "agent_stopped").await
                    } else {
                        self.cut(session, sqlstate, message, "agent_stopped").await
                    };
                }
                Woken::Deadline if owing == Owing::Startup => return "startup_timed_out",
                Woken::Deadline => {
                    let told = "lineal: what was sent has been left unread for too long";
                    return self.cut(session, "08006", told, "stalled").await;
                }
            }
        }
    }

    /// What a peer owes: a deadline runs while it is anything.
    fn owing(&self) -> Owing {
        if !self.ready {
            Owing::Startup
        } else if self.client.has_output() || self.server.has_output() {
            Owing::Reading
        } else {
            Owing::Nothing
        }
    }

    /// Does everything that can be done without waiting, and leaves a waker for what can't.
    fn poll_advance(&mut self, cx: &mut Context<'_>, session: &Session) -> Poll<Result<Ended, Violation>> {
        loop {
            let mut progress = false;
            if matches!(self.server.poll_flush(cx), Poll::Ready(Err(_))) {
                return Poll::Ready(Ok("upstream_broken"));
            }
            if matches!(self.client.poll_flush(cx), Poll::Ready(Err(_))) {
                return Poll::Ready(Ok("client_left"));
            }
            if !self.client.has_output() {
                if self.server.holds(self.server_needs) {
                    self.take_server(session)?;
                    progress = true;
                } else if self.server.ended {
                    return Poll::Ready(Ok("upstream_closed"));
                } else {
                    match self.server.poll_read(cx) {
                        Poll::Ready(Ok(())) => progress = true,
                        Poll::Ready(Err(_)) => return Poll::Ready(Ok("upstream_broken")),
                        Poll::Pending => {}
                    }
                }
            }
            if !self.server.has_output() {
                if self.client_over {
                    return Poll::Ready(Ok("closed"));
                }
                if !self.client_waits && self.client.holds(self.client_needs) {
                    self.take_client(session)?;
                    progress = true;
                } else if self.client.ended {
                    return Poll::Ready(Ok("client_left"));
                } else if !self.client_waits || self.client.input.len() < BUFFER_BYTES {
                    match self.client.poll_read(cx) {
                        Poll::Ready(Ok(())) => progress = true,
                        Poll::Ready(Err(_)) => return Poll::Ready(Ok("client_left")),
                        Poll::Pending => {}
                    }
                }
            }
            if !progress {
                self.client.rest();
                self.server.rest();
                return Poll::Pending;
            }
        }
    }

    /// Gives the machine what the client sent, as far as it takes it.
    fn take_client(&mut self, session: &Session) -> Result<(), Violation> {
        let mut done = 0;
        let mut input = std::mem::take(&mut self.client.input);
        let outcome = loop {
            let rest = input.get(done..).unwrap_or_default();
            match self.machine.client(rest) {
                Ok(ClientStep::NeedMore { bytes_min }) => {
                    self.client_needs = bytes_min;
                    break Ok(());
                }
                Ok(ClientStep::Wait) => {
                    self.client_waits = true;
                    break Ok(());
                }
                Ok(ClientStep::Forward { bytes }) if done == 0 && self.server.output.is_empty() => {
                    hand_over(&mut input, &mut self.server.output, bytes);
                }
                Ok(ClientStep::Forward { bytes }) => {
                    self.server.output.extend_from_slice(rest.get(..bytes).unwrap_or_default());
                    done += bytes;
                }
                Ok(ClientStep::Replace { consumed, upstream }) => {
                    self.server.output.extend_from_slice(upstream);
                    done += consumed;
                }
                Ok(ClientStep::Reply { consumed, client }) => {
                    self.client.output.extend_from_slice(client);
                    done += consumed;
                }
                Ok(ClientStep::Judge { command, question, .. }) => {
                    let answer = self.judge.judge(session, command, &question);
                    for name in &answer.prepares {
                        self.machine.sql_prepared(name.as_deref().map(str::as_bytes));
                    }
                    if answer.declares {
                        self.machine.sql_declared(None);
                    }
                    self.sent.push_back(Sent { command, at: Instant::now(), recorded: answer.recorded });
                    let ruling = match answer.judged {
                        Judged::Allow => Ruling::Allow,
                        Judged::Deny(message) => Ruling::Deny(Denial::new(message)),
                    };
                    if let Err(violation) = self.machine.verdict(command, ruling) {
                        break Err(violation);
                    }
                }
                Ok(ClientStep::Tls { .. } | ClientStep::Cancel { .. } | ClientStep::End) => {
                    self.client_over = true;
                    break Ok(());
                }
                Err(violation) => break Err(violation),
            }
        };
        self.client.input = input;
        self.client.consume(done);
        outcome
    }

    /// Gives the machine what the server sent, as far as it takes it.
    fn take_server(&mut self, session: &Session) -> Result<(), Violation> {
        let mut done = 0;
        let outcome = loop {
            let rest = self.server.input.get(done..).unwrap_or_default();
            match self.machine.upstream(rest) {
                Ok(UpstreamStep::NeedMore { bytes_min }) => {
                    self.server_needs = bytes_min;
                    break Ok(());
                }
                Ok(UpstreamStep::Forward { bytes }) if done == 0 && self.client.output.is_empty() => {
                    hand_over(&mut self.server.input, &mut self.client.output, bytes);
                }
                Ok(UpstreamStep::Forward { bytes }) => {
                    self.client.output.extend_from_slice(rest.get(..bytes).unwrap_or_default());
                    done += bytes;
                }
                Ok(UpstreamStep::Replace { consumed, client }) => {
                    self.client.output.extend_from_slice(client);
                    done += consumed;
                }
                Err(violation) => break Err(violation),
            }
        };
        self.server.consume(done);
        self.client_waits = false;
        self.client_needs = 1;
        // Nothing has been written yet: a cancel request can't come before its key is known.
        self.take_events(session);
        outcome
    }

    fn take_events(&mut self, session: &Session) {
        while let Some(event) = self.machine.next_event() {
            match event {
                Event::CancelKey(key) => {
                    self.key = Some(Registered::new(session, key, Arc::clone(&self.way)))
                }
                Event::Ready(transaction) => {
                    self.ready = true;
                    self.transaction = transaction;
                }
                Event::Outcome(outcome) => self.record(session, &outcome),
                // The trail says that the session ended; the upstream's own reason is kept here. Its text may quote the
                // client's: `?` escapes it.
                Event::UpstreamFatal(error) => tracing::info!(
                    session = %session.id,
                    sqlstate = error.code(),
                    reason = ?error.message,
                    "the upstream ended the session"
                ),
            }
        }
    }

    /// Whether nothing is under way: no request unanswered, no transaction open.
    fn is_idle(&self) -> bool {
        self.ready && self.transaction == Transaction::Idle && self.machine.awaited() == 0
    }

    /// Whether a peer owes a read, and has read something since this was last asked.
    fn is_slow_but_moving(&mut self) -> bool {
        let (client, server) = (self.client.take_progress(), self.server.take_progress());
        self.owing() == Owing::Reading && (client || server)
    }

    fn record(&mut self, session: &Session, outcome: &Outcome) {
        while self.sent.front().is_some_and(|sent| sent.command < outcome.command) {
            self.sent.pop_front();
        }
        let Some(sent) = self.sent.pop_front_if(|sent| sent.command == outcome.command) else { return };
        if !sent.recorded {
            return;
        }
        let error = match &outcome.ending {
            Ending::Complete | Ending::Suspended => None,
            Ending::Error(error) => Some((error.code(), &*error.message)),
            Ending::Denied => Some(("42501", "denied: see the decision")),
            Ending::Skipped => Some(("", "an earlier error of the same pipeline made the server skip it")),
            Ending::Unknown => Some(("", "the session ended before the server had answered")),
        };
        let duration = sent.at.elapsed();
        let parts = &session.proxy.parts;
        parts.metrics.command_duration.observe(duration.as_secs_f64());
        let record = Record::Outcome(OutcomeRecord {
            session: &session.id,
            command: outcome.command,
            rows: error.is_none().then_some(outcome.rows),
            bytes: outcome.bytes,
            error: error.map(|(code, message)| OutcomeError { code, message }),
            duration_us: duration.as_micros() as u64,
        });
        if let Err(error) = parts.trail.append_deferred(&record) {
            tracing::error!(%error, "an outcome could not be recorded");
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
                Owing::Startup | Owing::Reading => deadline.await,
            }
        };
        let grounds = async {
            // A job outlives its sessions: its sender can't be gone.
            if grounds.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        };
        let drain = async {
            if drain.changed().await.is_err() {
                std::future::pending::<()>().await;
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
            () = grounds => Woken::Grounds,
            woken = io => woken,
            () = drain => Woken::Owing(owing),
            () = expired => Woken::Deadline,
        }
    }
}

/// What ends a wait.
enum Woken {
    /// The session is over.
    Ended(Ended),
    /// A peer broke the protocol.
    Broken(Violation),
    /// What a peer owes has changed.
    Owing(Owing),
    /// What the job's standing rests on has changed.
    Grounds,
    /// The agent stops, and nothing is under way.
    Drain,
    /// A peer took too long.
    Deadline,
}

/// What a peer owes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Owing {
    /// To become ready for commands.
    Startup,
    /// To read what waits for it.
    Reading,
    /// Nothing: an idle session may last.
    Nothing,
}
