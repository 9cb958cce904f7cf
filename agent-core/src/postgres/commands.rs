//! The messages that carry commands, by the simple protocol (Query, FunctionCall) and the extended one
//! (Parse, Bind, Describe, Execute, Close): reading them, and finding out what an Execute will run.
//!
//! "Malformed" means what the server would call so. Nothing is guessed: what cannot be read ends the
//! session.

use super::client::{NAME_BYTES_MAX, Next, Subject};
use super::fault::{ClientFault, Violation};
use super::namespace::Lookup;
use super::poison;
use super::question::Excess;
use super::replies::{BindMade, Expect};
use super::session::Session;
use super::statements::{Parameters, Portal, Statement};
use super::wire::{Fields, HEADER_BYTES};

impl Session {
    /// Query: `String` text.
    pub(super) fn query(&mut self, mut fields: Fields<'_>, bytes: usize) -> Result<Next, Violation> {
        if bytes > self.limits.message_bytes_max {
            return Ok(self.ask(Subject::Excess { excess: Excess::Query, name: 0..0 }, bytes));
        }
        let text = fields.string().ok_or(malformed(b'Q', "its text does not end"))?;
        if !fields.is_empty() {
            return Err(malformed(b'Q', "bytes behind its text").into());
        }
        Ok(self.ask(Subject::Query { text: HEADER_BYTES..HEADER_BYTES + text.len() }, bytes))
    }

    /// FunctionCall: `Int32` OID, arguments. The server checks the arguments, after the function.
    pub(super) fn function_call(&mut self, mut fields: Fields<'_>, bytes: usize) -> Result<Next, Violation> {
        let oid = fields.int32().ok_or(malformed(b'F', "no function"))?;
        if bytes > self.limits.message_bytes_max {
            return Ok(self.ask(Subject::Excess { excess: Excess::FunctionCall, name: 0..0 }, bytes));
        }
        Ok(self.ask(Subject::FunctionCall { oid }, bytes))
    }

    /// Parse: `String` name, `String` text, `Int16` count, that many `Int32` types.
    pub(super) fn parse(&mut self, mut fields: Fields<'_>, bytes: usize) -> Result<Next, Violation> {
        let name = name(b'P', &mut fields)?;
        if name == poison::PORTAL {
            return Err(ClientFault::ReservedName.into());
        }
        let name_range = HEADER_BYTES..HEADER_BYTES + name.len();
        let excess = |excess| Subject::Excess { excess, name: name_range.clone() };
        if bytes > self.limits.message_bytes_max {
            return Ok(self.ask(excess(Excess::Parse), bytes));
        }
        let text = fields.string().ok_or(malformed(b'P', "its text does not end"))?;
        let types = fields.int16().and_then(|count| fields.bytes(usize::from(count) * 4));
        if types.is_none() || !fields.is_empty() {
            return Err(malformed(b'P', "its parameter types do not fit its length").into());
        }
        if !self.statements.has_room(name) {
            return Ok(self.ask(excess(Excess::Statements), bytes));
        }
        let statement = match self.statements.look_up(name, self.segment) {
            // Drivers parse one text again and again: keep it, and whatever the executor knows about it.
            Lookup::Known { value, .. } if value.text() == text => value.clone(),
            _ if self.meter.bytes().saturating_add(text.len()) > self.limits.kept_bytes_max => {
                return Ok(self.ask(excess(Excess::KeptBytes), bytes));
            }
            _ => {
                self.statement_ids += 1;
                Statement::new(self.statement_ids, text, &self.meter)
            }
        };
        Ok(self.ask(Subject::Parse { name: name_range, statement }, bytes))
    }

    /// How much of a Bind's body must be there: the names, and all of it where the values are kept.
    pub(super) fn bind_bytes_wanted(&self, body: usize) -> usize {
        if body <= self.limits.parameters_bytes_max { body } else { body.min(2 * (NAME_BYTES_MAX + 1)) }
    }

    /// Bind: `String` portal, `String` statement, then values, which the server checks.
    pub(super) fn bind(&mut self, mut fields: Fields<'_>, bytes: usize) -> Result<Option<Next>, Violation> {
        let portal = name(b'B', &mut fields)?;
        let statement = name(b'B', &mut fields)?;
        if portal == poison::PORTAL {
            return Err(ClientFault::ReservedName.into());
        }
        if !self.portals.has_room(portal) {
            return Err(ClientFault::TooManyPortals { max: self.limits.portals_max }.into());
        }
        let (parsed, or_sql) = match self.statements.look_up(statement, self.segment) {
            Lookup::Unsettled => return Ok(Some(self.flush_or(Next::Wait))),
            Lookup::Known { value, or_sql } => (Some(value.clone()), or_sql),
            // SQL can make no unnamed statement: the server will refuse this.
            Lookup::Absent => (None, !statement.is_empty()),
        };
        let tail = fields.rest();
        let keep = bytes - HEADER_BYTES <= self.limits.parameters_bytes_max
            && self.meter.bytes().saturating_add(tail.len()) <= self.limits.kept_bytes_max;
        let made = Portal {
            statement: parsed,
            sql_statement: or_sql.then(|| statement.into()),
            parameters: keep.then(|| Parameters::new(tail, &self.meter)),
        };
        // A portal with a name can be run by SQL, which the protocol then hears no more of.
        if !portal.is_empty() {
            let name = HEADER_BYTES..HEADER_BYTES + portal.len();
            return Ok(Some(self.ask(Subject::Bind { name, portal: made }, bytes)));
        }
        let bound = self.bound(portal, made, None)?;
        self.replies.push(bound);
        self.forward(bytes);
        Ok(None)
    }

    /// Notes a Bind that is about to be sent; answers what it waits for.
    pub(super) fn bound(
        &mut self,
        name: &[u8],
        made: Portal,
        command: Option<u64>,
    ) -> Result<Expect, Violation> {
        let order = self.portals.change(name, self.segment, Some(made.clone()));
        let order = order.map_err(|_| ClientFault::TooManyPortals { max: self.limits.portals_max })?;
        Ok(Expect::Bind { command, portal: name.into(), made: BindMade::Portal(order, made) })
    }

    /// Execute: `String` portal, `Int32` row limit.
    pub(super) fn execute(&mut self, mut fields: Fields<'_>, bytes: usize) -> Result<Next, Violation> {
        let name = name(b'E', &mut fields)?;
        if fields.int32().is_none() || !fields.is_empty() {
            return Err(malformed(b'E', "its row limit does not fit its length").into());
        }
        let (portal, or_cursor) = match self.portals.look_up(name, self.segment) {
            Lookup::Unsettled => return Ok(self.flush_or(Next::Wait)),
            Lookup::Known { value, or_sql } => (Some(value.clone()), or_sql),
            Lookup::Absent => (None, !name.is_empty()),
        };
        let name = HEADER_BYTES..HEADER_BYTES + name.len();
        Ok(self.ask(Subject::Execute { name, portal, or_cursor }, bytes))
    }

    /// Describe: `Byte1` kind, `String` name.
    pub(super) fn describe(&mut self, fields: Fields<'_>, bytes: usize) -> Result<Option<Next>, Violation> {
        let (kind, _) = target(b'D', fields)?;
        self.replies.push(match kind {
            Target::Statement => Expect::DescribeStatement,
            Target::Portal => Expect::DescribePortal,
        });
        self.forward(bytes);
        Ok(None)
    }

    /// Close: `Byte1` kind, `String` name. Closing what is not there is no error.
    pub(super) fn close(&mut self, fields: Fields<'_>, bytes: usize) -> Result<Option<Next>, Violation> {
        let (kind, name) = target(b'C', fields)?;
        let name: Box<[u8]> = name.into();
        self.replies.push(match kind {
            // A name that finds no room means nothing yet, and goes on meaning nothing.
            Target::Statement => {
                let order = self.statements.change(&name, self.segment, None).unwrap_or_default();
                Expect::CloseStatement { name, order }
            }
            Target::Portal => {
                let order = self.portals.change(&name, self.segment, None).unwrap_or_default();
                Expect::ClosePortal { name, order }
            }
        });
        self.forward(bytes);
        Ok(None)
    }
}

enum Target {
    Statement,
    Portal,
}

fn target(tag: u8, mut fields: Fields<'_>) -> Result<(Target, &[u8]), Violation> {
    let kind = match fields.byte() {
        Some(b'S') => Target::Statement,
        Some(b'P') => Target::Portal,
        _ => return Err(malformed(tag, "neither a statement nor a portal").into()),
    };
    let name = name(tag, &mut fields)?;
    if !fields.is_empty() {
        return Err(malformed(tag, "bytes behind its name").into());
    }
    Ok((kind, name))
}

fn name<'a>(tag: u8, fields: &mut Fields<'a>) -> Result<&'a [u8], ClientFault> {
    let read = fields.rest().len();
    match fields.string() {
        Some(name) if name.len() <= NAME_BYTES_MAX => Ok(name),
        None if read <= NAME_BYTES_MAX => Err(malformed(tag, "a name does not end")),
        _ => Err(ClientFault::NameLength { tag, max: NAME_BYTES_MAX }),
    }
}

fn malformed(tag: u8, what: &'static str) -> ClientFault {
    ClientFault::Malformed { tag, what }
}
