//! Rulings: how one is taken, and carried out on the message that awaits it.
//!
//! This is the one file through which a command's message gets into the ready bytes. The executor brings a
//! ruling; the next step of the client's half carries it out in `rule`: it uses up the grant of a message
//! that passes (`pass`), or puts poison in its place (`put_poison`). Only recorded decisions make grants
//! ([`crate::ruling`]). No denied message may be forwarded, nor any part of it except a statement's name.

use crate::{
    postgres::{
        fault::{Misuse, Violation},
        poison::{self, Denial},
        question::Excess,
        replies::{BindSent, Expect, ParseSent},
        startup::Startup,
        state::{Asked, Authentication, Grant, Pending, Phase, Remainder, Ruling, Session, Subject},
        step::ClientNext,
        wire::Severity,
    },
    ruling::{Admission, Permit, Preparation},
};

impl Session {
    /// Lets the command of this permit pass: the next call of [`Self::client`] forwards its message.
    ///
    /// # Errors
    /// No command of the permit's number awaits a ruling.
    pub fn allow(&mut self, permit: Permit) -> Result<(), Violation> {
        let command = permit.command();
        let is_command = |subject: &Subject| !matches!(subject, Subject::Startup(_));
        self.take_ruling(command, Ruling::Pass(Grant::Command(permit)), is_command)
    }

    /// Lets a Parse without a name pass, of which there is no record. Any other command needs a [`Permit`].
    ///
    /// # Errors
    /// No Parse without a name, of the preparation's number, awaits a ruling.
    pub fn allow_preparation(&mut self, preparation: Preparation) -> Result<(), Violation> {
        let command = preparation.command();
        let is_unnamed =
            |subject: &Subject| matches!(subject, Subject::Parse { name, .. } if name.is_empty());
        self.take_ruling(command, Ruling::Pass(Grant::Preparation(preparation)), is_unnamed)
    }

    /// Lets the session begin: the next call of [`Self::client`] forwards the StartupMessage.
    ///
    /// # Errors
    /// No StartupMessage of this number awaits a ruling.
    pub fn admit(&mut self, command: u64, admission: &Admission) -> Result<(), Violation> {
        let ruling = Ruling::Pass(Grant::Session(admission.clone()));
        self.take_ruling(command, ruling, |subject| matches!(subject, Subject::Startup(_)))
    }

    /// Lets the session begin, and drops the StartupMessage: the executor has logged in with one of its own.
    /// The upstream's buffer then begins with AuthenticationOk, or with the messages before it that ask for
    /// nothing.
    ///
    /// # Errors
    /// No StartupMessage of this number awaits a ruling.
    pub fn admit_logged_in(&mut self, command: u64, admission: &Admission) -> Result<(), Violation> {
        self.admit(command, admission)?;
        if let Some(Pending { subject: Subject::Startup(startup), bytes, .. }) = self.pending.take() {
            // At once, because the upstream has already sent something.
            self.authenticated(&startup, bytes);
        }
        Ok(())
    }

    /// Keeps a command back: the next call of [`Self::client`] sends poison in its place, or refuses the
    /// session. The client is told this denial.
    ///
    /// # Errors
    /// No command of this number awaits a ruling.
    pub fn deny(&mut self, command: u64, denial: Denial) -> Result<(), Violation> {
        self.take_ruling(command, Ruling::Deny(denial), |_| true)
    }

    /// The question about this command can't be answered yet: it is asked again once the upstream has sent
    /// something, or after [`Self::resume`]. What stands in front of the message is sent meanwhile, so the
    /// upstream has something to answer: a meaning is unsettled only by what was sent before a Sync.
    ///
    /// # Errors
    /// No command of this number awaits a ruling.
    pub fn postpone(&mut self, command: u64) -> Result<(), Violation> {
        match &mut self.pending {
            Some(pending) if pending.command == command && pending.ruling.is_none() => {
                pending.asked = Asked::Postponed;
                Ok(())
            }
            _ => Err(self.fail(Misuse::Ruling(command).into())),
        }
    }

    /// What kept a postponed question from being answered is over: it is asked again by the next call of
    /// [`Self::client`], if its message has not become one that the upstream discards.
    pub fn resume(&mut self) {
        if let Some(pending) = &mut self.pending
            && pending.asked == Asked::Postponed
        {
            pending.asked = Asked::Due;
        }
    }

    /// Looks at a postponed message as if it had just come: the upstream may discard it by now.
    fn ask_again(&mut self, rest: &[u8]) -> Result<Option<ClientNext>, Violation> {
        self.pending = None;
        self.commands -= 1;
        self.client_message(rest)
    }

    fn take_ruling(
        &mut self,
        command: u64,
        ruling: Ruling,
        fits: impl FnOnce(&Subject) -> bool,
    ) -> Result<(), Violation> {
        match &mut self.pending {
            Some(pending)
                if pending.command == command && pending.ruling.is_none() && fits(&pending.subject) =>
            {
                pending.ruling = Some(ruling);
                Ok(())
            }
            _ => Err(self.fail(Misuse::Ruling(command).into())),
        }
    }

    /// Carries out the ruling on the pending message, which `rest` starts with. `None` if the message joined
    /// the ready bytes.
    pub(super) fn rule(&mut self, rest: &[u8]) -> Result<Option<ClientNext>, Violation> {
        let Some(Pending { command, subject, bytes, asked, ruling }) = self.pending.take() else {
            return Ok(None);
        };
        let ruling = match (ruling, &subject) {
            (Some(Ruling::Pass(_)), Subject::Excess { excess, .. }) => {
                Some(Ruling::Deny(Denial::new(format!("lineal: denied: {}", excess.reason()))))
            }
            (ruling, _) => ruling,
        };
        match ruling {
            None => {
                self.pending = Some(Pending { command, subject, bytes, asked: Asked::Yes, ruling: None });
                Ok(Some(match asked {
                    Asked::Yes => ClientNext::Wait,
                    Asked::Due => return self.ask_again(rest),
                    Asked::Postponed => {
                        self.pending.iter_mut().for_each(|pending| pending.asked = asked);
                        self.flush_or(ClientNext::Wait)
                    }
                }))
            }
            Some(Ruling::Pass(grant)) => {
                self.pass(grant, subject, rest)?;
                self.forward(bytes);
                Ok(None)
            }
            Some(Ruling::Deny(denial)) if self.ready_bytes > 0 => {
                let ruling = Some(Ruling::Deny(denial));
                self.pending = Some(Pending { command, subject, bytes, asked, ruling });
                Ok(Some(ClientNext::Forward(self.take_ready())))
            }
            Some(Ruling::Deny(denial)) => self.put_poison(command, subject, bytes, denial, rest).map(Some),
        }
    }

    /// Uses up the grant of a message that passes: notes what the message will do, and what answers it.
    fn pass(&mut self, grant: Grant, subject: Subject, message: &[u8]) -> Result<(), Violation> {
        let command = match &grant {
            Grant::Session(Admission { .. }) => 0,
            Grant::Command(permit) => permit.command(),
            Grant::Preparation(preparation) => preparation.command(),
        };
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
            Subject::Excess { .. } => return Err(Misuse::Ruling(command).into()),
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
    fn put_poison(
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
