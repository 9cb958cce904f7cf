//! Which texts have a shape, and that texts of one shape are one statement.

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
