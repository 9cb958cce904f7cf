//! The key by which analyses are remembered: a text with `0` for every whole number. A text has a shape only
//! if its numbers can be recognised without the grammar: it has no quotes, comments, dollar signs or
//! characters beyond ASCII. And it must be a single query or data-modifying statement: elsewhere a number can
//! decide what the statement does, as in `EXPLAIN (ANALYZE 1)`. All other texts have no shape, and are parsed
//! each time.

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
    /// It is part of a word. A point is, too, so that `1.5` is not a whole number.
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
mod tests {
    use proptest::prelude::*;

    use super::shape;
    use crate::{Analysis, analyze, fingerprint, redact};

    fn shape_of(sql: &str) -> Option<String> {
        let mut out = Vec::new();
        shape(sql.as_bytes(), &mut out).then(|| String::from_utf8(out).unwrap())
    }

    fn check(sql: &str, expect: Option<&str>) {
        assert_eq!(shape_of(sql).as_deref(), expect, "{sql}");
    }

    #[test]
    fn whole_numbers_become_0() {
        check("SELECT abalance FROM t WHERE aid = 4711;", Some("SELECT abalance FROM t WHERE aid = 0;"));
        check("SELECT -1, 23 FROM t2 LIMIT 10", Some("SELECT -0, 0 FROM t2 LIMIT 0"));
    }

    #[test]
    fn what_only_looks_like_a_whole_number_is_kept() {
        check("SELECT 1.5, t1, 1e3, 0x1F, 1_000", Some("SELECT 1.5, t1, 1e3, 0x1F, 1_000"));
        check("SELECT 2147483648", Some("SELECT 2147483648"));
        check("SELECT t.1", Some("SELECT t.1"));
    }

    #[test]
    fn a_text_in_which_a_number_can_decide_what_is_done_has_no_shape() {
        for sql in [
            "EXPLAIN (ANALYZE 0) DELETE FROM t",
            "SELECT 1; EXPLAIN (ANALYZE 0) DELETE FROM t",
            "SET x = 1",
            "selection",
            "FETCH 1 FROM c",
        ] {
            check(sql, None);
        }
        check("select 7 ;", Some("select 0 ;"));
    }

    #[test]
    fn a_text_with_quotes_or_comments_has_no_shape() {
        for sql in [
            "SELECT '1'",
            "DROP TABLE \"t 1\"",
            "SELECT $1",
            "SELECT $$ 1 $$",
            "SELECT 1 -- 2",
            "SELECT /* 1 */ 2",
        ] {
            check(sql, None);
        }
        check("SELECT é 1", None);
        check(&format!("SELECT {}", "1,".repeat(4_096)), None);
    }

    /// Texts of words that can make statements of every kind, valid and invalid ones.
    fn texts() -> impl Strategy<Value = Vec<String>> {
        let words = [
            "SELECT",
            "FROM",
            "WHERE",
            "t",
            "shop.t2",
            "=",
            "(",
            ")",
            ",",
            ";",
            "DELETE",
            "UPDATE",
            "SET",
            "x",
            "INSERT INTO",
            "VALUES",
            "DROP TABLE",
            "EXECUTE",
            "PREPARE",
            "p",
            "AS",
            "f(",
            "FETCH",
            "LIMIT",
            "ORDER BY",
            "WITH",
            "RETURNING",
            "*",
            "-",
            "<",
            "CREATE TABLE",
            "char(",
            "float(",
            "FOR UPDATE",
            "RESET",
            "SHOW",
            "c.1",
            "EXPLAIN (ANALYZE",
            "EXPLAIN",
            "COPY t TO STDOUT (HEADER",
            "VACUUM (ANALYZE",
            "DECLARE c CURSOR FOR",
        ];
        let word = prop_oneof![
            3 => proptest::sample::select(words.to_vec()).prop_map(str::to_owned),
            1 => Just("#".to_owned()),
        ];
        proptest::collection::vec(word, 1..12)
    }

    /// The words with a number at each `#`.
    fn fill(words: &[String], numbers: &[u32]) -> String {
        let mut numbers = numbers.iter().cycle();
        let filled = words.iter().map(|word| match word.as_str() {
            "#" => numbers.next().copied().unwrap_or_default().to_string(),
            word => word.to_owned(),
        });
        filled.collect::<Vec<_>>().join(" ")
    }

    fn parsed(sql: &str) -> Option<Analysis> {
        Some(analyze(sql.as_bytes())).filter(|analysis| analysis.unparsed.is_none())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4_096))]

        #[test]
        fn texts_of_one_shape_have_the_same_analysis_fingerprint_and_redacted_text(
            words in texts(),
            one in prop::collection::vec(0..1_000_000_000_u32, 4),
            other in prop::collection::vec(0..1_000_000_000_u32, 4),
        ) {
            let (one, other) = (fill(&words, &one), fill(&words, &other));
            prop_assert_eq!(shape_of(&one), shape_of(&other));
            prop_assert_eq!(fingerprint(one.as_bytes()), fingerprint(other.as_bytes()));
            prop_assert_eq!(redact(one.as_bytes()), redact(other.as_bytes()));
            if let (Some(one), Some(other)) = (parsed(&one), parsed(&other)) {
                prop_assert_eq!(one, other);
            }
        }
    }
}
