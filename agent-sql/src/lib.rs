//! SQL text to facts, read by PostgreSQL's own grammar.
//!
//! What a statement does is decided by the parser that the server itself runs: text that another parser
//! would read otherwise is no way round it. Whatever isn't understood here is said to be
//! [`Action::SqlOther`] or [`Action::SqlUnparsed`], which a policy must allow by name; nothing is left out.
//!
//! - [`query`](self): SELECT, INSERT, UPDATE, DELETE, MERGE and every expression in them.
//! - `statement`: everything else. - `text`: fingerprints and redaction, which work on tokens.

mod gather;
mod query;
mod statement;
mod text;

#[cfg(test)]
mod tests;

use agent_core::facts::{Access, Action, Facts, Resource, SqlFacts};

pub use text::{fingerprint, redact};

/// Stack that a thread needs to call [`analyze`]: the grammar recurses, and its own guard knows nothing of
/// this process's stacks.
pub const STACK_BYTES_MIN: usize = 64 << 20;

/// Longest statement text that is parsed; a longer one is unparsed.
pub const STATEMENT_BYTES_MAX: usize = 1 << 20;

/// What a statement text does.
#[derive(Clone, Debug)]
pub struct Analysis {
    /// Everything it does when it is run.
    pub facts: Facts,
    /// What `PREPARE` names in it, and what running that does.
    pub prepares: Vec<(Box<str>, Facts)>,
    /// Prepared statements that `EXECUTE` runs in it, by name.
    pub executes: Vec<Box<str>>,
    /// Prepared statements that it forgets: `None` for all.
    pub deallocates: Vec<Option<Box<str>>>,
    /// Why the grammar refused it.
    pub unparsed: Option<Box<str>>,
}

/// Reads a statement text. Never fails: what can't be read is [`Action::SqlUnparsed`].
pub fn analyze(sql: &[u8]) -> Analysis {
    match parse(sql) {
        Ok(analysis) => analysis,
        Err(reason) => {
            let sql = SqlFacts { statements: 1, ..SqlFacts::default() };
            let access = Access { action: Action::SqlUnparsed, resource: Resource::Database };
            Analysis {
                facts: Facts { accesses: vec![access], sql: Some(sql) },
                prepares: Vec::new(),
                executes: Vec::new(),
                deallocates: Vec::new(),
                unparsed: Some(reason.into()),
            }
        }
    }
}

fn parse(sql: &[u8]) -> Result<Analysis, String> {
    if sql.len() > STATEMENT_BYTES_MAX {
        return Err(format!("the text has more than {STATEMENT_BYTES_MAX} bytes"));
    }
    let text = str::from_utf8(sql).map_err(|_| "the text is not UTF-8".to_owned())?;
    // The bindings panic on a few trees that the grammar makes; none of their state outlives the call.
    let analysed = std::panic::catch_unwind(|| {
        let tree = pg_raw_parse::parse(text).map_err(|error| error.to_string())?;
        let mut gathered = gather::Gathered::default();
        for raw in tree.iter() {
            statement::top(&mut gathered, raw.stmt());
        }
        Ok(gathered.into_analysis())
    });
    analysed.unwrap_or_else(|_| Err("the text has a construct that cannot be analysed".to_owned()))
}
