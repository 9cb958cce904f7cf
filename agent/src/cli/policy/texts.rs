//! A command as somebody types it to try policies out, read as the agent reads it in its protocol.

use agent_core::{facts::Facts, target::Scope};
use agent_policy::Protocol;

/// What was read.
pub struct Read {
    /// What the command does.
    pub facts: Facts,
    /// Why the text could not be read; `None` if it could.
    pub unparsed: Option<Box<str>>,
}

/// Reads a command; `None` for a protocol whose commands are not read, of which only connections are decided.
pub fn read(protocol: Protocol, text: &str) -> Option<Read> {
    match protocol {
        Protocol::Postgres => {
            let mut analysis = agent_sql::analyze(text.as_bytes());
            let sql = analysis.facts.sql().cloned().unwrap_or_default();
            analysis.facts.in_schemas(sql.schemas("$user").collect::<Vec<_>>());
            Some(Read { facts: analysis.facts, unparsed: analysis.unparsed })
        }
        Protocol::Tcp => None,
    }
}

/// The scope of a session that has chosen this database and role, as far as its protocol has such a choice.
pub fn scope(protocol: Protocol, database: &str, role: &str) -> Scope {
    match protocol {
        Protocol::Postgres => Scope::sql(database, role),
        Protocol::Tcp => Scope::Connection,
    }
}
