//! The key by which analyses are remembered: a text with `0` for every whole number.
//!
//! A text has a shape only if its numbers can be recognised without the grammar: it has no quotes, comments,
//! dollar signs or characters beyond ASCII. And it must be a single query or data-modifying statement:
//! elsewhere a number can decide what the statement does, as in `EXPLAIN (ANALYZE 1)`. All other texts have
//! no shape, and are parsed each time.

/// Longer texts have no shape: remembering them costs more than it saves.
pub const SHAPE_BYTES_MAX: usize = 4 << 10;
/// A number with more digits may not be an `integer`, and the grammar treats it differently.
const DIGITS_MAX: usize = 9;

/// Writes the shape of `sql` to `shape`; true if it has one. Texts with the same shape that the grammar
/// accepts have the same
/// [`Analysis`](crate::Analysis), [`fingerprint`](crate::fingerprint()) and redacted text.
pub fn shape(sql: &[u8], shape: &mut Vec<u8>) -> bool {
    shape.clear();
    if sql.len() > SHAPE_BYTES_MAX || !is_query(sql) {
        return false;
    }
    // Where the current word begins in `shape`, and whether it has only digits.
    let mut word: Option<(usize, bool)> = None;
    for &byte in sql {
        let kind = kind(byte);
        if let Kind::Digit | Kind::Letter = kind {
            let (_, digits) = word.get_or_insert((shape.len(), true));
            *digits &= kind == Kind::Digit;
        } else {
            // Two dashes begin a comment.
            let comment = byte == b'-' && word.is_none() && shape.last() == Some(&b'-');
            if kind == Kind::Refused || comment {
                return false;
            }
            end_word(shape, word.take());
        }
        shape.push(byte);
    }
    end_word(shape, word);
    true
}

/// Replaces the word that `shape` ends with by `0` if it is a whole number.
fn end_word(shape: &mut Vec<u8>, word: Option<(usize, bool)>) {
    if let Some((start, true)) = word
        && shape.len() - start <= DIGITS_MAX
    {
        shape.truncate(start);
        shape.push(b'0');
    }
}

/// What a byte is, whatever is around it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Its meaning depends on what is around it.
    Refused,
    /// It separates words.
    Mark,
    /// It is part of a word. A point is, too, so `1.5` is not a whole number.
    Letter,
    Digit,
}

fn kind(byte: u8) -> Kind {
    match byte {
        b'0'..=b'9' => Kind::Digit,
        b'a'..=b'z' | b'A'..=b'Z' | b'_' | b'.' => Kind::Letter,
        b' ' | b'\t' | b'\r' | b'\n' | b',' | b'(' | b')' | b'=' | b'<' | b'>' | b'*' | b'+' | b'-'
        | b';' => Kind::Mark,
        _ => Kind::Refused,
    }
}

/// Whether this is at most one statement, of a kind in which a number is only a value.
fn is_query(sql: &[u8]) -> bool {
    const FIRST_WORDS: [&str; 6] = ["SELECT", "INSERT", "UPDATE", "DELETE", "VALUES", "WITH"];
    let sql = sql.trim_ascii();
    let sql = sql.strip_suffix(b";").unwrap_or(sql);
    let first =
        sql.split(|byte| !matches!(kind(*byte), Kind::Letter | Kind::Digit)).next().unwrap_or_default();
    !sql.contains(&b';') && FIRST_WORDS.iter().any(|word| first.eq_ignore_ascii_case(word.as_bytes()))
}

#[cfg(test)]
mod tests;
