//! The upstream's replies to the client's messages, in the command phase.
//!
//! What a reply answers is found in the queue of awaited replies (`replies`); what it says about a name goes
//! to the namespaces of statements and portals. A reply that answers nothing must end the session.

use super::{
    message::{Message, Pass},
    settings::transaction,
};
use crate::postgres::{
    event::{Event, Tag, Transaction},
    fault::{UpstreamFault, Violation, unexpected},
    namespace::{Namespace, Order},
    replies::{Answered, BindSent, Expect, Fate, ParseSent, Reply, outcome},
    state::Session,
    statements::{Portal, Statement},
    wire::Fields,
};

impl Session {
    /// Takes a reply of any type but ErrorResponse.
    pub(super) fn reply(&mut self, message: &Message<'_>) -> Result<Pass, Violation> {
        let tag = message.header.tag;
        let empty = |reply| if message.body_bytes == 0 { Some(reply) } else { None };
        let reply = match tag {
            b'D' => Some(Reply::DataRow),
            b'd' => Some(Reply::CopyData),
            b'1' => empty(Reply::ParseComplete),
            b'2' => empty(Reply::BindComplete),
            b'3' => empty(Reply::CloseComplete),
            b'n' => empty(Reply::NoData),
            b's' => empty(Reply::Suspended),
            b'I' => empty(Reply::Empty),
            b'c' => empty(Reply::CopyDone),
            b't' => Some(Reply::ParameterDescription),
            b'T' => Some(Reply::RowDescription),
            b'G' => Some(Reply::CopyIn),
            b'H' => Some(Reply::CopyOut),
            b'V' => Some(Reply::FunctionResult),
            b'C' => return self.command_complete(message),
            b'Z' => return self.ready(message),
            b'W' => return Err(UpstreamFault::CopyBoth.into()),
            _ => return Err(unexpected(tag, "in the command phase")),
        };
        let reply = reply.ok_or(malformed(tag))?;
        self.receive(reply, message)?;
        Ok(Pass::Forward)
    }

    /// Takes a CommandComplete. Its tag tells that prepared statements are gone.
    fn command_complete(&mut self, message: &Message<'_>) -> Result<Pass, Violation> {
        let text = Fields::new(message.body).string().ok_or(malformed(message.header.tag))?;
        let tag = Tag::new(text);
        let command = self.replies.command();
        self.receive(Reply::CommandComplete(tag), message)?;
        let Some(command) = command else { return Ok(Pass::Forward) };
        match tag.as_str() {
            "DEALLOCATE" => {
                if let Some(name) = self.deallocations.next(command) {
                    self.statements.forget(&name);
                    self.events.push_back(Event::Deallocated { command, name: Some(name) });
                }
            }
            "DEALLOCATE ALL" | "DISCARD ALL" => {
                self.statements.forget_all();
                self.events.push_back(Event::Deallocated { command, name: None });
            }
            _ => {}
        }
        Ok(Pass::Forward)
    }

    /// Takes a ReadyForQuery.
    fn ready(&mut self, message: &Message<'_>) -> Result<Pass, Violation> {
        let transaction = transaction(message.body)?;
        self.receive(Reply::Ready, message)?;
        if transaction == Transaction::Idle {
            // Portals end with their transaction. Cursors WITH HOLD outlive it, but only SQL makes them.
            self.portals.forget_all();
        }
        // The upstream reports changed settings before it is ready (ReportChangedGUCOptions). An unwanted one
        // has ended the session.
        self.awaited_settings.take_if(|awaited| !self.replies.awaits(awaited.command));
        self.events.push_back(Event::Ready(transaction));
        Ok(Pass::Forward)
    }

    /// Hands a reply to the queue, and draws the consequences of the entries that it finishes.
    pub(super) fn receive(&mut self, reply: Reply, message: &Message<'_>) -> Result<(), Violation> {
        let Self { replies, statements, portals, events, .. } = self;
        let mut gone = |expect: Expect, answered: Answered, fate: Fate| {
            let done = fate != Fate::Skipped && answered.error.is_none();
            settle(&expect, done, fate, statements, portals);
            if let Some(outcome) = outcome(&expect, answered, fate) {
                events.push_back(Event::Outcome(outcome));
            }
        };
        replies.receive(reply, message.header.tag, message.bytes() as u64, &mut gone)
    }
}

/// Notes what a finished or skipped Parse, Bind or Close did to its name. `done` says that it took effect.
fn settle(
    expect: &Expect,
    done: bool,
    fate: Fate,
    statements: &mut Namespace<Statement>,
    portals: &mut Namespace<Portal>,
) {
    match expect {
        Expect::Parse { name, sent, .. } => {
            match sent {
                ParseSent::Statement(order, statement) if done => {
                    statements.settle(name, *order, Some(statement.clone()));
                }
                ParseSent::Statement(..) => statements.revoke(name),
                ParseSent::Poison(_) => {}
            }
            // PostgreSQL drops the unnamed statement before it looks at the new text.
            if !done && fate != Fate::Skipped && name.is_empty() {
                statements.forget(name);
            }
        }
        Expect::Bind { portal: name, sent: BindSent::Portal(order, portal), .. } => {
            if done {
                portals.settle(name, *order, Some(portal.clone()));
            } else {
                portals.revoke(name);
            }
        }
        Expect::CloseStatement { name, order: Some(order) } => close(statements, name, *order, done),
        Expect::ClosePortal { name, order: Some(order) } => close(portals, name, *order, done),
        _ => {}
    }
}

fn malformed(tag: u8) -> UpstreamFault {
    UpstreamFault::Malformed { tag, what: "its fields do not fit its length" }
}

fn close<V: Clone>(names: &mut Namespace<V>, name: &[u8], order: Order, done: bool) {
    if done { names.settle(name, order, None) } else { names.revoke(name) }
}
