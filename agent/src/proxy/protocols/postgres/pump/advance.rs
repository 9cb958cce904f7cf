//! Everything that a session can do without waiting: read, ask the machine, decide, write.
//!
//! The machine hands a command out for the upstream only for the permit that a recorded decision makes; what
//! it hands out is written as it is.

use std::{
    task::{Context, Poll},
    time::Instant,
};

use agent_core::{
    postgres::{ClientStep, Denial, UpstreamStep, Violation},
    ruling::Ruling,
};

use super::{
    super::{
        later::{NotYet, Progress},
        statements::{Grant, Ruled},
    },
    Pump, Sent,
};
use crate::proxy::{
    session::{Session, ended::Ended},
    stream::BUFFER_BYTES,
};

impl Pump {
    /// Does everything that can be done without waiting, and leaves a waker for what can't.
    pub(super) fn poll_advance(
        &mut self,
        cx: &mut Context<'_>,
        session: &Session,
    ) -> Poll<Result<Ended, Violation>> {
        loop {
            let mut progress = false;
            if matches!(self.upstream.poll_flush(cx), Poll::Ready(Err(_))) {
                // A server that ends a session says why, and then takes nothing more: that must be read.
                self.upstream.give_up_writing();
            }
            if matches!(self.client.poll_flush(cx), Poll::Ready(Err(_))) {
                return Poll::Ready(Ok(Ended::ClientLeft));
            }
            if !self.client.has_output() {
                if self.upstream.holds(self.upstream_needs) {
                    self.take_upstream(session)?;
                    progress = true;
                } else if self.upstream.ended {
                    return Poll::Ready(Ok(self.closing().unwrap_or(Ended::UpstreamClosed)));
                } else {
                    match self.upstream.poll_read(cx) {
                        Poll::Ready(Ok(())) => progress = true,
                        Poll::Ready(Err(_)) => {
                            return Poll::Ready(Ok(self.closing().unwrap_or(Ended::UpstreamBroken)));
                        }
                        Poll::Pending => {}
                    }
                }
            }
            if !self.upstream.has_output() {
                if self.closing().is_some() {
                    // What was sent before the end is carried out and answered: the upstream closes then.
                    let _ = self.upstream.poll_close(cx);
                } else if self.working.is_some() {
                    progress |= self.poll_work(cx).is_ready();
                } else if !self.client_waits && self.client.holds(self.client_needs) {
                    self.take_client(session)?;
                    progress = true;
                } else if !self.client.ended
                    && (!self.client_waits || self.client.input().len() < BUFFER_BYTES)
                    && self.poll_room(cx, session).is_ready()
                {
                    match self.client.poll_read(cx) {
                        Poll::Ready(Ok(())) => progress = true,
                        Poll::Ready(Err(_)) => return Poll::Ready(Ok(Ended::ClientLeft)),
                        Poll::Pending => {}
                    }
                }
            }
            if !progress {
                self.rest_room();
                self.client.rest();
                self.upstream.rest();
                return Poll::Pending;
            }
        }
    }

    /// How the session ends, once nothing more can go to the upstream: the client has said that it ends, its
    /// last byte has been taken, or the upstream takes nothing more.
    pub(super) fn closing(&self) -> Option<Ended> {
        if self.client_over {
            Some(Ended::Closed)
        } else if self.client.ended && !self.client.holds(self.client_needs) {
            Some(Ended::ClientLeft)
        } else {
            self.upstream.deaf.then_some(Ended::UpstreamBroken)
        }
    }

    /// Hands the client's bytes to the machine, as far as it takes them, and has its questions ruled on.
    fn take_client(&mut self, session: &Session) -> Result<(), Violation> {
        let mut done = 0;
        let mut input = self.client.take_input();
        let outcome = loop {
            let rest = input.bytes().get(done..).unwrap_or_default();
            match self.machine.client(rest) {
                Ok(ClientStep::NeedMore { bytes_min }) => {
                    self.client_needs = bytes_min;
                    break Ok(());
                }
                Ok(ClientStep::Wait) => {
                    self.client_waits = true;
                    break Ok(());
                }
                Ok(ClientStep::Forward(forward)) => done = self.upstream.forward(forward, &mut input, done),
                Ok(ClientStep::Replace(replace)) => done += self.upstream.replace(replace),
                Ok(ClientStep::Reply { consumed, client }) => {
                    self.client.answer(client);
                    done += consumed;
                }
                Ok(ClientStep::Judge { command, question, meanings, settings_awaited, .. }) => {
                    let Self { statements, progress, .. } = self;
                    let asked =
                        statements.rule(session, command, &question, &meanings, settings_awaited, progress);
                    let told = match asked {
                        Ok(ruled) => self.carry_out(command, ruled),
                        Err(NotYet::Unsettled) => self.machine.postpone(command),
                        Err(NotYet::Work(work)) => {
                            self.work(session, *work);
                            self.machine.postpone(command)
                        }
                    };
                    if let Err(violation) = told {
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
        self.client.put_back(input, done);
        outcome
    }

    /// Tells the machine the ruling on a command, and notes that the command is on its way.
    fn carry_out(&mut self, command: u64, ruled: Ruled) -> Result<(), Violation> {
        self.progress = Progress::default();
        let Ruled { ruling, recorded, prepares, declares, deallocates, awaits_settings, hint } = ruled;
        for name in &prepares {
            self.machine.sql_prepared(name.as_deref().map(str::as_bytes));
        }
        if declares {
            self.machine.sql_declared(None);
        }
        if matches!(ruling, Ruling::Allow(_)) {
            let names = deallocates.into_iter().map(|name| name.into_boxed_bytes());
            self.machine.sql_deallocates(command, names);
            if awaits_settings {
                self.machine.settings_awaited(command);
            }
        }
        self.sent.push_back(Sent { command, at: Instant::now(), recorded });
        match ruling {
            Ruling::Allow(Grant::Run(permit)) => self.machine.allow(permit),
            Ruling::Allow(Grant::Prepare(preparation)) => self.machine.allow_preparation(preparation),
            Ruling::Deny(denied) => {
                let mut denial = Denial::new(format!("lineal: {}", denied.words()));
                denial.hint = hint.map(Into::into);
                self.machine.deny(command, denial)
            }
        }
    }

    /// Hands the upstream's bytes to the machine, as far as it takes them.
    fn take_upstream(&mut self, session: &Session) -> Result<(), Violation> {
        let mut done = 0;
        let outcome = loop {
            let rest = self.upstream.input().get(done..).unwrap_or_default();
            match self.machine.upstream(rest) {
                Ok(UpstreamStep::NeedMore { bytes_min }) => {
                    self.upstream_needs = bytes_min;
                    break Ok(());
                }
                Ok(UpstreamStep::Forward { bytes }) => {
                    done = self.client.pass(&mut self.upstream, done, bytes);
                }
                Ok(UpstreamStep::Replace { consumed, client }) => {
                    self.client.answer(client);
                    done += consumed;
                }
                Err(violation) => break Err(violation),
            }
        };
        self.upstream.consume(done);
        self.client_waits = false;
        self.client_needs = 1;
        // Nothing has been written yet: a cancel request can't come before its key is known.
        self.take_events(session);
        outcome
    }
}
