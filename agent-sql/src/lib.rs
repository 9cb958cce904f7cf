//! SQL text to facts, read by PostgreSQL's own grammar.
//!
//! Nothing here decides, remembers or does I/O. It must never report less than a statement does: a text that
//! the grammar refuses is `sql:unparsed`, a statement that the grammar knows and this crate doesn't is
//! `sql:other`, and a name that may or may not be a table's counts as one.
//!
//! The grammar is that of a server with default settings. With `standard_conforming_strings = off`, for
//! example, a server reads string literals differently, and these facts would be wrong. Texts that change
//! such a setting have [`Facts::barred`](agent_core::facts::Facts::barred) set.
//!
//! - `walk` walks a statement's tree; `query`, `function`, `utility`, `definition` and `session` say what the
//!   nodes mean; `collector` gathers the facts into an [`Analysis`].
//! - `settings` has what changes of settings add; `set_config` reads calls of that function, `parameters`
//!   those that a Bind message decides, `search_path` the values of that setting.
//! - `reading` has the words for changes of how text is read.
//! - `redact`, `fingerprint` and `names` work on any text, by the tokens of `lexer`.
//! - `shape` makes the key by which analyses are remembered.

mod analysis;
mod collector;
mod definition;
mod fingerprint;
mod function;
mod lexer;
mod names;
mod nodes;
mod parameters;
mod query;
mod reading;
mod redact;
mod scope;
mod search_path;
mod session;
mod set_config;
mod settings;
mod shape;
mod utility;
mod walk;

use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::collector::Collector;
pub use crate::{
    analysis::{Analysis, DEALLOCATES_MAX, FACTS_MAX},
    fingerprint::fingerprint,
    names::keeps_names,
    parameters::ByParameters,
    redact::redact,
    search_path::search_path,
    shape::{SHAPE_BYTES_MAX, shape},
};

/// The stack, in bytes, that a thread needs to call [`analyze`]. The grammar's C parser recurses over
/// left-nested terms, and its own guard against that does not work: on a smaller stack a text of
/// [`STATEMENT_BYTES_MAX`] would crash the process.
pub const STACK_BYTES_MIN: usize = 64 << 20;

/// The longest text that [`analyze`] parses; a longer one is `sql:unparsed`.
pub const STATEMENT_BYTES_MAX: usize = 1 << 20;

/// How many steps runs of operator characters may cost. PostgreSQL's scanner takes the whole rest of a run
/// for an operator, then gives back all but its first character: a run of n costs n² steps, and one of 200 KB
/// most of a minute. This many steps take a tenth of a second. Real operators have at most 63 characters,
/// rulers in comments about a hundred.
const OPERATOR_RUN_STEPS_MAX: usize = 1 << 24;

/// Analyses `sql`, any number of statements. Call it on a thread with a stack of at least
/// [`STACK_BYTES_MIN`].
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
    // The bindings panic on nodes that they don't know: such a statement is not understood.
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
        walk::collect(&mut collector, statement);
    }
    collector.into_analysis()
}

/// The sum of the squares of the lengths of all runs of operator characters, wherever they are; 0 for a text
/// too short to matter.
fn operator_run_steps(sql: &[u8]) -> usize {
    if sql.len().saturating_pow(2) <= OPERATOR_RUN_STEPS_MAX {
        return 0;
    }
    let is_operator = |byte: &u8| b"+-*/<>=~!@#%^&|`?".contains(byte);
    let runs = sql.chunk_by(|left, right| is_operator(left) && is_operator(right));
    runs.fold(0, |steps, run| steps.saturating_add(run.len().saturating_pow(2)))
}
