//! What reading a text may cost, and the check that a text stays within it, made before the grammar sees the
//! text.
//!
//! A literal costs its length, but each token can become a node of the tree: a list of a million numbers
//! takes a hundred times its length. So a text has a bound in bytes, for time, and one in tokens, for memory.

use agent_core::facts::ITEMS_MAX;

use crate::lexer::Lexer;

/// The longest text that [`analyze`](crate::analyze) parses.
pub const STATEMENT_BYTES_MAX: usize = 16 << 20;

/// How many tokens a text may have. The tree takes at most 180 bytes for each, so 360 MiB in all: `SELECT;`
/// again and again is the worst. Rows of `INSERT` take about 70 bytes for each token.
pub const TOKENS_MAX: usize = 2 << 20;

/// How many comments a text may have. The grammar's scanner recurses over comments that follow one another,
/// with up to 256 bytes of stack for each.
pub const COMMENTS_MAX: usize = 512 << 10;

/// The stack, in bytes, that a thread needs to call [`analyze`](crate::analyze). The grammar's C parser
/// recurses over left-nested terms, such as sums, and its own guard against that does not work: on a smaller
/// stack a text of [`TOKENS_MAX`] tokens would crash the process.
pub const STACK_BYTES_MIN: usize = 64 * TOKENS_MAX;

/// How many accesses, functions and settings a statement that gets a name by `PREPARE` or Parse may have. It
/// is smaller than that of a text ([`ITEMS_MAX`]): a few bytes execute a prepared statement, and each
/// execution has all of its facts decided on and recorded.
pub const PREPARED_FACTS_MAX: usize = 1_024;

/// How many steps runs of operator characters may cost. PostgreSQL's scanner takes the whole rest of a run
/// for an operator, then gives back all but its first character: a run of n costs n² steps, and one of 200 KB
/// most of a minute. This many steps take two fifths of a second. Real operators have at most 63 characters,
/// rulers in comments about a hundred.
const OPERATOR_RUN_STEPS_MAX: usize = 1 << 26;

/// Which bound a text exceeds, and what its sender can do; `None` if it is within all of them.
pub(crate) fn exceeded(sql: &[u8]) -> Option<String> {
    if sql.len() > STATEMENT_BYTES_MAX {
        return Some(format!(
            "the text has {} bytes, and at most {STATEMENT_BYTES_MAX} (16 MiB) are read: send it in parts",
            sql.len()
        ));
    }
    if operator_run_steps(sql) > OPERATOR_RUN_STEPS_MAX {
        return Some("the text holds too long a run of operator characters: shorten it".to_owned());
    }
    if comments(sql) > COMMENTS_MAX {
        return Some(format!(
            "the text has more than {COMMENTS_MAX} comments: send it in parts, or without them"
        ));
    }
    // A token has at least one byte.
    if sql.len() > TOKENS_MAX && Lexer::new(sql).nth(TOKENS_MAX).is_some() {
        return Some(format!(
            "the text has more than {TOKENS_MAX} tokens (words, literals and signs), which would take too \
             much memory to read: send it in parts"
        ));
    }
    None
}

/// Why facts are too many to be decided together, and what the sender can do.
pub(crate) fn too_many_facts(items: usize) -> String {
    format!(
        "the text names {items} relations, functions and settings, and at most {ITEMS_MAX} are decided \
         together: send it in parts"
    )
}

/// Why a prepared statement's facts are too many.
pub(crate) fn too_many_prepared(items: usize) -> String {
    format!(
        "a statement that is prepared names {items} relations, functions and settings, and at most \
         {PREPARED_FACTS_MAX} are decided at each execution: execute it without preparing it"
    )
}

/// How many comments a text has at most: what looks like one in a string counts, too. Dashes begin at most
/// one, which ends with the line.
fn comments(sql: &[u8]) -> usize {
    if sql.len() <= 2 * COMMENTS_MAX {
        return 0;
    }
    let lines = sql.chunk_by(|left, right| *left == b'-' && *right == b'-').filter(|run| run.len() > 1);
    lines.filter(|run| run.starts_with(b"--")).count() + sql.windows(2).filter(|pair| pair == b"/*").count()
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
