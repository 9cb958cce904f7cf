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
//! - `bounds` refuses texts that would take too much time or memory to read.
//! - `redact`, `fingerprint` and `names` work on any text, by the tokens of `lexer`.
//! - `shape` makes the key by which analyses are remembered.

mod analysis;
mod bounds;
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
    analysis::{Analysis, DEALLOCATES_MAX},
    bounds::{COMMENTS_MAX, PREPARED_FACTS_MAX, STACK_BYTES_MIN, STATEMENT_BYTES_MAX, TOKENS_MAX},
    fingerprint::fingerprint,
    names::keeps_names,
    parameters::ByParameters,
    redact::redact,
    search_path::search_path,
    shape::{SHAPE_BYTES_MAX, shape},
};

/// Analyses `sql`, any number of statements. Call it on a thread with a stack of at least
/// [`STACK_BYTES_MIN`].
pub fn analyze(sql: &[u8]) -> Analysis {
    if let Some(exceeded) = bounds::exceeded(sql) {
        return Analysis::beyond(&exceeded);
    }
    let Ok(text) = std::str::from_utf8(sql) else {
        return Analysis::unparsed("the text isn't UTF-8: set client_encoding to UTF8");
    };
    // The bindings panic on nodes that they don't know: such a statement is not understood.
    catch_unwind(AssertUnwindSafe(|| parse(text)))
        .unwrap_or_else(|_| Analysis::unparsed("the statement's tree can't be read"))
}

/// Analyses the text of a statement that is prepared, so that a few bytes can execute it: it has a bound of
/// its own for facts ([`PREPARED_FACTS_MAX`]).
pub fn analyze_prepared(sql: &[u8]) -> Analysis {
    let analysis = analyze(sql);
    let items = analysis.facts.weight().items();
    if items > PREPARED_FACTS_MAX {
        return Analysis::beyond(&bounds::too_many_prepared(items));
    }
    analysis
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
