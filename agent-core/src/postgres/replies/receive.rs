//! Gives each of the upstream's replies to the entry that it answers.
//!
//! A reply that does not fit its entry must end the session, and so must one that shows that poison was
//! accepted.

use super::{
    expect::Expect,
    queue::Replies,
    reply::{Answered, Copying, Fate, Reply},
};
use crate::postgres::fault::{UpstreamFault, Violation, unexpected};

impl Replies {
    /// Takes a DataRow of `bytes` bytes, if the front entry plainly awaits one: large results consist of
    /// nothing else. If this returns false, [`Self::receive`] decides.
    pub(in crate::postgres) fn receive_row(&mut self, bytes: u64) -> bool {
        let due = match self.queue.front() {
            Some(Expect::Query { poison: None, .. }) => self.front.error.is_none(),
            Some(Expect::Execute { poison: None, .. }) => true,
            _ => false,
        };
        if due && self.front.copy == Copying::No {
            self.front.rows_seen += 1;
            self.front.bytes = self.front.bytes.saturating_add(bytes);
            return true;
        }
        false
    }

    /// Takes one of the upstream's messages, of type `tag` and `bytes` bytes. The entries that it finishes,
    /// or shows to have been skipped, are handed to `gone`.
    pub(in crate::postgres) fn receive(
        &mut self,
        reply: Reply,
        tag: u8,
        bytes: u64,
        gone: &mut impl FnMut(Expect, Answered, Fate),
    ) -> Result<(), Violation> {
        if let Some(Expect::UncertainSyncs(syncs)) = self.queue.front_mut() {
            if matches!(reply, Reply::Ready) {
                syncs.answered();
                if syncs.is_over() {
                    self.next();
                }
                return Ok(());
            }
            // Anything else answers the entry behind: the COPY dropped the Syncs that are left.
            if !syncs.may_be_over() {
                return Err(unexpected(tag, "awaiting ReadyForQuery"));
            }
            self.next();
        }
        let Some(expect) = self.queue.front() else {
            return Err(unexpected(tag, "no command was under way"));
        };
        self.front.bytes = self.front.bytes.saturating_add(bytes);
        let poisoned = expect.poison().is_some();
        let (complete, awaiting) = match expect {
            Expect::Query { .. } => return self.query(reply, tag, poisoned, gone),
            Expect::FunctionCall { .. } => return self.function_call(reply, tag, poisoned, gone),
            Expect::Execute { .. } => return self.execute(reply, tag, poisoned, gone),
            Expect::DescribeStatement => return self.describe_statement(reply, tag, gone),
            Expect::Sync => return self.sync(reply, tag, gone),
            Expect::Parse { .. } => (matches!(reply, Reply::ParseComplete), "awaiting ParseComplete"),
            Expect::Bind { .. } => (matches!(reply, Reply::BindComplete), "awaiting BindComplete"),
            Expect::DescribePortal => {
                (matches!(reply, Reply::RowDescription | Reply::NoData), "awaiting a portal's description")
            }
            Expect::CloseStatement { .. } | Expect::ClosePortal { .. } => {
                (matches!(reply, Reply::CloseComplete), "awaiting CloseComplete")
            }
            // `next` never leaves a CopyEnd at the front, and UncertainSyncs were dealt with above.
            Expect::CopyEnd | Expect::UncertainSyncs(_) => {
                return Err(unexpected(tag, "no command was under way"));
            }
        };
        // One reply, or an error, answers each of the entries that are left.
        match reply {
            Reply::Error(error) => self.fail(error, gone),
            _ if !complete => return Err(unexpected(tag, awaiting)),
            _ if poisoned => return Err(UpstreamFault::PoisonAccepted.into()),
            _ => self.finish(Fate::Answered, gone),
        }
        Ok(())
    }

    /// A Query: any number of results, perhaps an error, then ReadyForQuery.
    fn query(
        &mut self,
        reply: Reply,
        tag: u8,
        poisoned: bool,
        gone: &mut impl FnMut(Expect, Answered, Fate),
    ) -> Result<(), Violation> {
        if self.front.error.is_some() {
            return match reply {
                Reply::Ready => {
                    self.finish(Fate::Answered, gone);
                    Ok(())
                }
                _ => Err(unexpected(tag, "awaiting ReadyForQuery after an error")),
            };
        }
        match reply {
            Reply::Error(error) => {
                if self.front.copy == Copying::In {
                    self.copy_in_failed_in_query();
                }
                self.front.error = Some(error);
            }
            _ if poisoned => return Err(UpstreamFault::PoisonAccepted.into()),
            Reply::RowDescription | Reply::Empty if self.front.copy == Copying::No => {}
            Reply::Ready if self.front.copy == Copying::No => self.finish(Fate::Answered, gone),
            reply => {
                self.result(reply, tag)?;
            }
        }
        Ok(())
    }

    /// An Execute: one result, without RowDescription, and no ReadyForQuery.
    fn execute(
        &mut self,
        reply: Reply,
        tag: u8,
        poisoned: bool,
        gone: &mut impl FnMut(Expect, Answered, Fate),
    ) -> Result<(), Violation> {
        match reply {
            Reply::Error(error) if self.front.copy == Copying::In => {
                let uncertain = self.copy_in_failed_in_execute()?;
                self.front.error = Some(error);
                if uncertain {
                    self.finish(Fate::Answered, gone);
                } else {
                    self.skip_to_sync(gone);
                }
            }
            Reply::Error(error) => self.fail(error, gone),
            _ if poisoned => return Err(UpstreamFault::PoisonAccepted.into()),
            Reply::Empty if self.front.copy == Copying::No => self.finish(Fate::Answered, gone),
            Reply::Suspended if self.front.copy == Copying::No => self.finish(Fate::Suspended, gone),
            reply => {
                if self.result(reply, tag)? {
                    self.finish(Fate::Answered, gone);
                }
            }
        }
        Ok(())
    }

    /// What a Query and an Execute have in common: rows, COPY, and the tag. Returns whether the tag has come.
    fn result(&mut self, reply: Reply, tag: u8) -> Result<bool, Violation> {
        let front = &mut self.front;
        match (reply, front.copy) {
            (Reply::DataRow, Copying::No) => front.rows_seen += 1,
            (Reply::CommandComplete(complete), Copying::No | Copying::OutDone) => {
                front.tagged(complete);
                return Ok(true);
            }
            (Reply::CommandComplete(complete), Copying::In) => {
                if !self.copy_in_complete() {
                    return Err(unexpected(tag, "awaiting the end of a COPY from stdin"));
                }
                self.front.tagged(complete);
                return Ok(true);
            }
            (Reply::CopyIn, Copying::No) => front.copy = Copying::In,
            (Reply::CopyOut, Copying::No) => front.copy = Copying::Out,
            (Reply::CopyData, Copying::Out) => front.rows_seen += 1,
            (Reply::CopyDone, Copying::Out) => front.copy = Copying::OutDone,
            _ => return Err(unexpected(tag, "awaiting a command's result")),
        }
        Ok(false)
    }

    /// A FunctionCall: a result or an error, perhaps an error after the result, then ReadyForQuery.
    fn function_call(
        &mut self,
        reply: Reply,
        tag: u8,
        poisoned: bool,
        gone: &mut impl FnMut(Expect, Answered, Fate),
    ) -> Result<(), Violation> {
        let over = self.front.first_of_two || self.front.error.is_some();
        match reply {
            Reply::Ready if over => self.finish(Fate::Answered, gone),
            // Ending the command's own transaction may still fail after its result was sent.
            Reply::Error(error) if self.front.error.is_none() => self.front.error = Some(error),
            _ if poisoned => return Err(UpstreamFault::PoisonAccepted.into()),
            Reply::FunctionResult if !over => self.front.first_of_two = true,
            _ => return Err(unexpected(tag, "awaiting a function call's result")),
        }
        Ok(())
    }

    /// A Describe of a statement: ParameterDescription, then RowDescription or NoData.
    fn describe_statement(
        &mut self,
        reply: Reply,
        tag: u8,
        gone: &mut impl FnMut(Expect, Answered, Fate),
    ) -> Result<(), Violation> {
        match reply {
            Reply::ParameterDescription if !self.front.first_of_two => self.front.first_of_two = true,
            Reply::RowDescription | Reply::NoData if self.front.first_of_two => {
                self.finish(Fate::Answered, gone);
            }
            Reply::Error(error) => self.fail(error, gone),
            _ => return Err(unexpected(tag, "awaiting a statement's description")),
        }
        Ok(())
    }

    /// A Sync: perhaps an error, then ReadyForQuery.
    fn sync(
        &mut self,
        reply: Reply,
        tag: u8,
        gone: &mut impl FnMut(Expect, Answered, Fate),
    ) -> Result<(), Violation> {
        match reply {
            // The implicit transaction ends here, and its deferred constraints may fail.
            Reply::Error(error) if self.front.error.is_none() => self.front.error = Some(error),
            Reply::Ready => self.finish(Fate::Answered, gone),
            _ => return Err(unexpected(tag, "awaiting ReadyForQuery")),
        }
        Ok(())
    }
}
