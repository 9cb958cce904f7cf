//! SQL text to facts, read by PostgreSQL's own grammar.
//!
//! Nothing here decides, remembers or does I/O. It must never report less than a statement does: what the grammar
//! refuses is `sql:unparsed`, what the grammar knows and this crate doesn't is `sql:other`, and where a name
//! may or may not be a table it is one.
//!
//! The grammar is the one of a server with default settings: under `standard_conforming_strings = off` a server
//! reads string literals differently, so a session that changes it can't be judged by these facts. Texts that would
//! have [`Facts::barred`] set.

mod collector;
mod definition;
mod fingerprint;
mod lexer;
mod query;
mod reading;
mod redact;
mod scope;
mod session;
mod shape;
mod utility;

use std::panic::{AssertUnwindSafe, catch_unwind};

use agent_core::facts::{Access, Action, Detail, Facts, SqlFacts, SqlResource};

use crate::collector::Collector;

pub use crate::fingerprint::fingerprint;
pub use crate::reading::{altered_reading, decides_reading, keeps_reading};
pub use crate::redact::redact;
pub use crate::shape::{SHAPE_BYTES_MAX, shape};

/// The stack a thread needs to call [`analyze`]: the grammar's C parser recurses over left-nested terms and its own
/// guard never fires, so [`STATEMENT_BYTES_MAX`] of them on a smaller stack would end the process.
pub const STACK_BYTES_MIN: usize = 64 << 20;

/// The longest text that [`analyze`] parses; a longer one is `sql:unparsed`.
pub const STATEMENT_BYTES_MAX: usize = 1 << 20;

/// How many accesses, functions and settings a text may come to; one of more is `sql:unparsed`. A prepared statement
/// is run by a few bytes, and each time its facts are decided on and recorded.
pub const FACTS_MAX: usize = 1_024;

/// How much work runs of operator characters may cause. PostgreSQL's scanner takes the whole rest of a run for an
/// operator, then takes back all but the first: a run of n costs n² steps, and one of 200 KB most of a minute. This
/// many are a tenth of a second; real operators have 63 characters at most, rulers in comments a hundred.
const OPERATOR_RUN_STEPS_MAX: usize = 1 << 24;

/// What [`analyze`] finds out about one text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Analysis {
    /// The facts of the whole text.
    pub facts: Facts,
    /// The statements that the text prepares: names, and the facts of executing them.
    pub prepares: Vec<(Box<str>, Facts)>,
    /// The names of the prepared statements that the text executes.
    pub executes: Vec<Box<str>>,
    /// The names of the cursors that the text fetches from or moves: the protocol's named portals are among them.
    pub fetches: Vec<Box<str>>,
    /// Why the text is `sql:unparsed`, in the grammar's words. They may quote the text.
    pub unparsed: Option<Box<str>>,
}

impl Analysis {
    /// The worst that can be said: nothing is known, so every flag says what a policy would rather not hear.
    fn unparsed(reason: &str) -> Self {
        let sql = SqlFacts { writes_in_cte: true, ..SqlFacts::default() };
        let access = Access { action: Action::SqlUnparsed, resource: SqlResource::Database.into() };
        Self {
            facts: Facts { accesses: vec![access], detail: Some(Detail::Sql(sql)), barred: None },
            prepares: Vec::new(),
            executes: Vec::new(),
            fetches: Vec::new(),
            unparsed: Some(reason.into()),
        }
    }
}

/// Reads `sql`, one or more statements, on a thread with a stack of at least [`STACK_BYTES_MIN`].
pub fn analyze(sql: &[u8]) -> Analysis {
    if sql.len() > STATEMENT_BYTES_MAX {
        return Analysis::unparsed("the text is longer than 1 MiB: send it in parts");
    }
    if operator_run_steps(sql) > OPERATOR_RUN_STEPS_MAX {
        return Analysis::unparsed("the text holds too long a run of operator characters: shorten it");
    }
    let Ok(text) = std::str::from_utf8(sql) else {
        return Analysis::unparsed("the text isn't UTF-8: set client_encoding to UTF8");
    };
    // Bindings and walker panic on nodes they don't know: such a statement isn't understood.
    catch_unwind(AssertUnwindSafe(|| parse(text)))
        .unwrap_or_else(|_| Analysis::unparsed("the statement's tree can't be read"))
}

fn parse(text: &str) -> Analysis {
    let tree = match pg_raw_parse::parse(text) {
        Ok(tree) => tree,
        Err(error) => return Analysis::unparsed(&error.to_string()),
    };
    let mut collector = Collector::default();
    for statement in tree.stmts() {
        query::collect(&mut collector, statement);
    }
    collector.into_analysis()
}

/// The sum of the squares of the lengths of the runs of operator characters, wherever they stand.
fn operator_run_steps(sql: &[u8]) -> usize {
    if sql.len().saturating_pow(2) <= OPERATOR_RUN_STEPS_MAX {
        return 0;
    }
    let is_operator = |byte: &u8| b"+-*/<>=~!@#%^&|`?".contains(byte);
    let runs = sql.chunk_by(|left, right| is_operator(left) && is_operator(right));
    runs.fold(0, |steps, run| steps.saturating_add(run.len().saturating_pow(2)))
}
