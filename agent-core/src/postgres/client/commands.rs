//! The messages that carry commands, of the simple protocol (Query, FunctionCall) and the extended one
//! (Parse, Bind, Describe, Execute, Close): reads them, and finds out what an Execute will run.
//!
//! A message that PostgreSQL would call malformed ends the session. Nothing may be guessed about it.

use super::bounds::NAME_BYTES_MAX;
use crate::postgres::{
    fault::{ClientFault, Violation},
    namespace::{Lookup, key},
    poison,
    question::Excess,
    replies::{BindSent, Expect},
    state::{Session, Subject},
    statements::{Parameters, Portal, Statement},
    step::ClientNext,
    wire::{Fields, HEADER_BYTES},
};

impl Session {
    /// Query: `String` text.
    pub(super) fn query(&mut self, mut fields: Fields<'_>, bytes: usize) -> Result<ClientNext, Violation> {
        if bytes > self.limits.message_bytes_max {
            return Ok(self.ask(Subject::Excess { excess: Excess::Query, name: 0..0 }, bytes));
        }
        let text = fields.string().ok_or(malformed(b'Q', "its text does not end"))?;
        if !fields.is_empty() {
            return Err(malformed(b'Q', "bytes after its text").into());
        }
        Ok(self.ask(Subject::Query { text: HEADER_BYTES..HEADER_BYTES + text.len() }, bytes))
    }

    /// FunctionCall: `Int32` OID, arguments. The arguments are left to the upstream, which checks them.
    pub(super) fn function_call(
        &mut self,
        mut fields: Fields<'_>,
        bytes: usize,
    ) -> Result<ClientNext, Violation> {
        let oid = fields.int32().ok_or(malformed(b'F', "no function"))?;
        if bytes > self.limits.message_bytes_max {
            return Ok(self.ask(Subject::Excess { excess: Excess::FunctionCall, name: 0..0 }, bytes));
        }
        Ok(self.ask(Subject::FunctionCall { oid }, bytes))
    }

    /// Parse: `String` name, `String` text, `Int16` count, that many `Int32` types.
    pub(super) fn parse(&mut self, mut fields: Fields<'_>, bytes: usize) -> Result<ClientNext, Violation> {
        let name = self.name(b'P', &mut fields)?;
        if name == poison::RESERVED_NAME {
            return Err(ClientFault::ReservedName.into());
        }
        let name_range = HEADER_BYTES..HEADER_BYTES + name.len();
        let excess = |excess| Subject::Excess { excess, name: name_range.clone() };
        if bytes > self.limits.message_bytes_max {
            return Ok(self.ask(excess(Excess::Parse), bytes));
        }
        let text = fields.string().ok_or(malformed(b'P', "its text does not end"))?;
        let types = fields.int16().and_then(|count| fields.bytes(usize::from(count) * 4));
        let Some(types) = types.filter(|_| fields.is_empty()) else {
            return Err(malformed(b'P', "its parameter types do not fit its length").into());
        };
        if !self.statements.has_room(name) {
            return Ok(self.ask(excess(Excess::Statements), bytes));
        }
        let statement = match self.statements.look_up(name, self.segment) {
            // Drivers parse one text again and again: keep the number that the executor knows it by.
            Lookup::Known { value, .. } if value.is(text, types) => value.clone(),
            _ if self.meter.bytes().saturating_add(text.len() + types.len()) > self.limits.kept_bytes_max => {
                return Ok(self.ask(excess(Excess::KeptBytes), bytes));
            }
            _ => {
                self.statement_ids += 1;
                Statement::new(self.statement_ids, text, types, &self.meter)
            }
        };
        Ok(self.ask(Subject::Parse { name: name_range, statement }, bytes))
    }

    /// How much of a Bind's body must be there: all of it if the values are kept, otherwise the names.
    pub(super) fn bind_bytes_wanted(&self, body: usize) -> usize {
        if body <= self.limits.parameters_bytes_max { body } else { body.min(2 * (NAME_BYTES_MAX + 1)) }
    }

    /// Bind: `String` portal, `String` statement, then the values, which are left to the upstream.
    pub(super) fn bind(
        &mut self,
        mut fields: Fields<'_>,
        bytes: usize,
    ) -> Result<Option<ClientNext>, Violation> {
        let portal = self.name(b'B', &mut fields)?;
        let statement = self.name(b'B', &mut fields)?;
        if portal == poison::RESERVED_NAME {
            return Err(ClientFault::ReservedName.into());
        }
        if !self.portals.has_room(portal) {
            return Err(ClientFault::TooManyPortals { max: self.limits.portals_max }.into());
        }
        let (parsed, or_sql) = match self.statements.look_up(statement, self.segment) {
            Lookup::Unsettled => return Ok(Some(self.flush_or(ClientNext::Wait))),
            Lookup::Known { value, or_sql } => (Some(value.clone()), or_sql),
            // SQL cannot make an unnamed statement: the upstream will refuse this.
            Lookup::Absent => (None, !statement.is_empty()),
        };
        let tail = fields.rest();
        let keep = bytes - HEADER_BYTES <= self.limits.parameters_bytes_max
            && self.meter.bytes().saturating_add(tail.len()) <= self.limits.kept_bytes_max;
        let made = Portal {
            statement: parsed,
            sql_statement: or_sql.then(|| key(statement).into()),
            parameters: keep.then(|| Parameters::new(tail, &self.meter)),
        };
        // SQL can run a portal that has a name, and then no Execute follows to ask about.
        if !portal.is_empty() {
            let name = HEADER_BYTES..HEADER_BYTES + portal.len();
            return Ok(Some(self.ask(Subject::Bind { name, portal: made }, bytes)));
        }
        let expect = self.note_bind(portal, made, None)?;
        self.replies.push(expect);
        self.forward(bytes);
        Ok(None)
    }

    /// Notes a Bind that is about to be sent, of the portal `name`. Returns what answers it.
    pub(super) fn note_bind(
        &mut self,
        name: &[u8],
        portal: Portal,
        command: Option<u64>,
    ) -> Result<Expect, Violation> {
        let order = self.portals.change(name, self.segment, Some(portal.clone()));
        let order = order.map_err(|_| ClientFault::TooManyPortals { max: self.limits.portals_max })?;
        Ok(Expect::Bind { command, portal: name.into(), sent: BindSent::Portal(order, portal) })
    }

    /// Execute: `String` portal, `Int32` row limit.
    pub(super) fn execute(&mut self, mut fields: Fields<'_>, bytes: usize) -> Result<ClientNext, Violation> {
        let name = self.name(b'E', &mut fields)?;
        if fields.int32().is_none() || !fields.is_empty() {
            return Err(malformed(b'E', "its row limit does not fit its length").into());
        }
        let (portal, or_cursor) = match self.portals.look_up(name, self.segment) {
            Lookup::Unsettled => return Ok(self.flush_or(ClientNext::Wait)),
            Lookup::Known { value, or_sql } => (Some(value.clone()), or_sql),
            Lookup::Absent => (None, !name.is_empty()),
        };
        let name = HEADER_BYTES..HEADER_BYTES + name.len();
        Ok(self.ask(Subject::Execute { name, portal, or_cursor }, bytes))
    }

    /// Describe: `Byte1` kind, `String` name.
    pub(super) fn describe(
        &mut self,
        fields: Fields<'_>,
        bytes: usize,
    ) -> Result<Option<ClientNext>, Violation> {
        let (kind, _) = self.target(b'D', fields)?;
        self.replies.push(match kind {
            Target::Statement => Expect::DescribeStatement,
            Target::Portal => Expect::DescribePortal,
        });
        self.forward(bytes);
        Ok(None)
    }

    /// Close: `Byte1` kind, `String` name. Closing a name that does not exist is no error.
    pub(super) fn close(
        &mut self,
        fields: Fields<'_>,
        bytes: usize,
    ) -> Result<Option<ClientNext>, Violation> {
        let (kind, name) = self.target(b'C', fields)?;
        let name: Box<[u8]> = name.into();
        self.replies.push(match kind {
            Target::Statement => {
                let order = self.statements.change(&name, self.segment, None).ok();
                Expect::CloseStatement { name, order }
            }
            Target::Portal => {
                let order = self.portals.change(&name, self.segment, None).ok();
                Expect::ClosePortal { name, order }
            }
        });
        self.forward(bytes);
        Ok(None)
    }

    /// Reads the body of a Describe or Close.
    fn target<'a>(&self, tag: u8, mut fields: Fields<'a>) -> Result<(Target, &'a [u8]), Violation> {
        let kind = match fields.byte() {
            Some(b'S') => Target::Statement,
            Some(b'P') => Target::Portal,
            _ => return Err(malformed(tag, "neither a statement nor a portal").into()),
        };
        let name = self.name(tag, &mut fields)?;
        if !fields.is_empty() {
            return Err(malformed(tag, "bytes after its name").into());
        }
        Ok((kind, name))
    }

    /// Reads the name of a statement or portal.
    fn name<'a>(&self, tag: u8, fields: &mut Fields<'a>) -> Result<&'a [u8], ClientFault> {
        let read = fields.rest().len();
        match fields.string() {
            Some(name) if name.len() > NAME_BYTES_MAX => {
                Err(ClientFault::NameLength { tag, max: NAME_BYTES_MAX })
            }
            Some(name) if !self.settings.server_encoding.keeps(name, true) => {
                Err(ClientFault::NameEncoding { tag })
            }
            Some(name) => Ok(name),
            None if read <= NAME_BYTES_MAX => Err(malformed(tag, "a name does not end")),
            None => Err(ClientFault::NameLength { tag, max: NAME_BYTES_MAX }),
        }
    }
}

/// What a Describe or Close is about.
enum Target {
    Statement,
    Portal,
}

fn malformed(tag: u8, what: &'static str) -> ClientFault {
    ClientFault::Malformed { tag, what }
}
