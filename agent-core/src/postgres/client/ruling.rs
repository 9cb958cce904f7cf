//! Rulings: how one is taken, and carried out on the message that awaits it.
//!
//! This is the one file through which a command's message gets into the ready bytes: [`Session::verdict`]
//! takes the ruling, and the next step of the client's half calls `rule`, which allows the message (`allow`)
//! or puts poison in its place (`deny`). No denied message may be forwarded, nor any part of it except a
//! statement's name.

use crate::postgres::{
    fault::{Misuse, Violation},
    poison::{self, Denial},
    question::{Excess, Ruling},
    replies::{BindSent, Expect, ParseSent},
    startup::Startup,
    state::{Authentication, Pending, Phase, Remainder, Session, Subject},
    step::ClientNext,
    wire::Severity,
};

impl Session {
    /// Rules on the command that a [`ClientStep::Judge`](crate::postgres::ClientStep::Judge) asked about. The
    /// decision, and its audit record, must have been made before. The next call of [`Self::client`] forwards
    /// or replaces the message.
    ///
    /// # Errors
    /// No such command awaits a ruling.
    pub fn verdict(&mut self, command: u64, ruling: Ruling) -> Result<(), Violation> {
        match &mut self.pending {
            Some(pending) if pending.command == command && pending.ruling.is_none() => {
                if let (Ruling::AllowAuthenticated, Subject::Startup(startup)) = (&ruling, &pending.subject) {
                    // At once, because the upstream has already sent something.
                    let (startup, bytes) = (startup.clone(), pending.bytes);
                    self.pending = None;
                    self.authenticated(&startup, bytes);
                } else {
                    pending.ruling = Some(ruling);
                }
                Ok(())
            }
            _ => Err(self.fail(Misuse::Verdict(command).into())),
        }
    }

    /// Carries out the ruling on the pending message, which `rest` starts with. `None` if the message joined
    /// the ready bytes.
    pub(super) fn rule(&mut self, rest: &[u8]) -> Result<Option<ClientNext>, Violation> {
        let Some(pending) = self.pending.take() else { return Ok(None) };
        let ruling = match (pending.ruling, &pending.subject) {
            (Some(Ruling::Allow), Subject::Excess { excess, .. }) => {
                Some(Ruling::Deny(Denial::new(format!("lineal: denied: {}", excess.reason()))))
            }
            (ruling, _) => ruling,
        };
        match ruling {
            None => {
                self.pending = Some(Pending { ruling: None, ..pending });
                Ok(Some(ClientNext::Wait))
            }
            Some(Ruling::AllowAuthenticated) => Err(Misuse::Verdict(pending.command).into()),
            Some(Ruling::Allow) => {
                self.allow(pending.command, pending.subject, rest)?;
                self.forward(pending.bytes);
                Ok(None)
            }
            Some(Ruling::Deny(denial)) if self.ready_bytes > 0 => {
                self.pending = Some(Pending { ruling: Some(Ruling::Deny(denial)), ..pending });
                Ok(Some(ClientNext::Forward(self.take_ready())))
            }
            Some(Ruling::Deny(denial)) => {
                self.deny(pending.command, pending.subject, pending.bytes, denial, rest).map(Some)
            }
        }
    }

    /// Notes what an allowed message will do, and what answers it.
    fn allow(&mut self, command: u64, subject: Subject, message: &[u8]) -> Result<(), Violation> {
        let expect = match subject {
            Subject::Startup(startup) => {
                self.phase = Phase::Authentication(Authentication::new(&startup, false));
                return Ok(());
            }
            Subject::Query { .. } => Expect::Query { command, poison: None },
            Subject::FunctionCall { .. } => Expect::FunctionCall { command, poison: None },
            Subject::Execute { .. } => Expect::Execute { command, poison: None },
            Subject::Parse { name, statement } => {
                let name = message.get(name).ok_or(Misuse::Buffer)?;
                // Room was found before the question, and only replies have come since, which make more room.
                let order = self.statements.change(name, self.segment, Some(statement.clone()));
                let order = order.map_err(|_| Misuse::Buffer)?;
                Expect::Parse { command, name: name.into(), sent: ParseSent::Statement(order, statement) }
            }
            Subject::Bind { name, portal } => {
                let name = message.get(name).ok_or(Misuse::Buffer)?;
                self.note_bind(name, portal, Some(command))?
            }
            Subject::Excess { .. } => return Err(Misuse::Verdict(command).into()),
        };
        self.replies.push(expect);
        Ok(())
    }

    /// The executor has logged in with a StartupMessage of its own: the client's is dropped.
    fn authenticated(&mut self, startup: &Startup, bytes: usize) {
        self.phase = Phase::Authentication(Authentication::new(startup, true));
        self.client_rest = Remainder { bytes, dropped: true };
    }

    /// Puts poison in the message's place, and drops all of the message, whether it has arrived or not.
    fn deny(
        &mut self,
        command: u64,
        subject: Subject,
        bytes: usize,
        denial: Denial,
        message: &[u8],
    ) -> Result<ClientNext, Violation> {
        self.composed.clear();
        let consumed = bytes.min(message.len());
        self.client_rest = Remainder { bytes: bytes - consumed, dropped: true };
        let denial = Box::new(denial);
        let expect = match subject {
            Subject::Startup(_) => {
                self.phase = Phase::Ended;
                denial.put(&mut self.composed, Severity::Fatal);
                return Ok(ClientNext::Reply { consumed });
            }
            Subject::Query { .. } | Subject::Excess { excess: Excess::Query, .. } => {
                poison::put_query(&mut self.composed);
                Expect::Query { command, poison: Some(denial) }
            }
            Subject::FunctionCall { .. } | Subject::Excess { excess: Excess::FunctionCall, .. } => {
                poison::put_function_call(&mut self.composed);
                Expect::FunctionCall { command, poison: Some(denial) }
            }
            Subject::Execute { .. } => {
                self.denied_segment = true;
                poison::put_execute(&mut self.composed);
                Expect::Execute { command, poison: Some(denial) }
            }
            Subject::Bind { name, .. } => {
                self.denied_segment = true;
                poison::put_bind(&mut self.composed);
                let portal = message.get(name).ok_or(Misuse::Buffer)?.into();
                Expect::Bind { command: Some(command), portal, sent: BindSent::Poison(denial) }
            }
            Subject::Parse { name, .. } | Subject::Excess { name, .. } => {
                self.denied_segment = true;
                let name = message.get(name).ok_or(Misuse::Buffer)?;
                poison::put_parse(&mut self.composed, name);
                Expect::Parse { command, name: name.into(), sent: ParseSent::Poison(denial) }
            }
        };
        self.replies.push(expect);
        Ok(ClientNext::Replace { consumed })
    }
}
