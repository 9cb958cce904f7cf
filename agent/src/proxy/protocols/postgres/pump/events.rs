//! What the machine found out as bytes went through it: the cancellation key, readiness, how commands ended.

use std::sync::Arc;

use agent_core::{
    audit::record::{OutcomeError, OutcomeRecord, Record},
    postgres::{Ending, Event, Outcome, Transaction},
};

use super::Pump;
use crate::proxy::session::Session;

impl Pump {
    /// Takes in what the machine found out.
    pub(super) fn take_events(&mut self, session: &Session) {
        while let Some(event) = self.machine.next_event() {
            match event {
                Event::CancelKey(key) => {
                    self.key = Some(self.keys.register(
                        session.job.id,
                        session.destination,
                        key,
                        Arc::clone(&self.route),
                    ))
                }
                Event::Ready(transaction) => {
                    self.ready = true;
                    self.transaction = transaction;
                    if transaction == Transaction::Idle {
                        self.statements.idle();
                    }
                }
                Event::Deallocated { command, name } => self.statements.deallocated(command, name.as_deref()),
                Event::Outcome(outcome) => self.record(session, &outcome),
                // Its text may quote the client's: `?` escapes it.
                Event::UpstreamFatal(error) => {
                    let sqlstate = error.code();
                    tracing::info!(sqlstate, reason = ?error.message, "the upstream ended the session");
                    session.note_upstream_error(sqlstate, &error.message);
                    self.fatal = Some(error);
                }
            }
        }
    }

    /// Records how a command ended.
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
            // The server has told why it does not answer.
            Ending::Unknown => Some(match &self.fatal {
                Some(fatal) => (fatal.code(), &*fatal.message),
                None => ("", "the session ended before the server had answered"),
            }),
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
}
