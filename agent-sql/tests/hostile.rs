//! What must hold for any text: nothing panics, every table is found, no literal leaks, and the time is
//! bounded.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "the helpers that the tests share also fail by panicking"
)]

use std::{collections::BTreeSet, ops::ControlFlow};

use agent_core::facts::{Action, Resource, SqlResource};
use agent_sql::{
    Analysis, COMMENTS_MAX, STACK_BYTES_MIN, STATEMENT_BYTES_MAX, TOKENS_MAX, analyze, fingerprint, redact,
};
use proptest::prelude::*;
use sqlparser::ast::{Query, Visit, Visitor};

/// Runs `work` on a thread with the stack that callers must provide.
fn on_deep_stack<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().stack_size(STACK_BYTES_MIN);
        thread.spawn_scoped(scope, work).unwrap().join().unwrap()
    })
}

fn tables(analysis: &Analysis) -> BTreeSet<String> {
    let name = |resource: &Resource| match resource {
        Resource::Sql(SqlResource::Table(table)) => Some(table.name.to_string()),
        Resource::Upstream | Resource::Sql(SqlResource::Database) => None,
    };
    analysis.facts.accesses.iter().filter_map(|access| name(&access.resource)).collect()
}

fn is_unparsed(analysis: &Analysis) -> bool {
    analysis.facts.accesses.iter().any(|access| access.action == Action::SqlUnparsed)
}

/// Analyses, redacts and fingerprints `sql`: all three must end.
fn read(sql: &str) -> Analysis {
    on_deep_stack(|| {
        let _ = (fingerprint(sql.as_bytes()), redact(sql.as_bytes()));
        analyze(sql.as_bytes())
    })
}

/// `head`, as many `unit`s as fit into the longest text, and `tail`.
fn longest(head: &str, unit: &str, tail: &str) -> String {
    let units = (STATEMENT_BYTES_MAX - head.len() - tail.len()) / unit.len();
    format!("{head}{}{tail}", unit.repeat(units))
}

/// `head`, as many `unit`s as the bounds allow, and `tail`. Units are made of words and
/// signs of one character, for the most part: of as many tokens as characters.
fn fullest(head: &str, unit: &str, tail: &str) -> String {
    let bytes = TOKENS_MAX.min(STATEMENT_BYTES_MAX) - head.len() - tail.len();
    format!("{head}{}{tail}", unit.repeat(bytes / unit.len()))
}

#[test]
fn the_fullest_texts_are_analysed() {
    for (head, unit, tail, expect) in [
        ("SELECT 1", "+1", " FROM t", "t"),
        ("SELECT x FROM t WHERE 1=1", " OR x=1", "", "t"),
        ("SELECT x", "||x", " FROM t", "t"),
        ("SELECT x", "::a", " FROM t", "t"),
        ("SELECT 1 FROM t", " UNION SELECT 1", "", "t"),
        ("SELECT 1 FROM t", ",t", "", "t"),
        ("SELECT 1 FROM t", " CROSS JOIN t", "", "t"),
        ("SELECT 1 FROM t; ", "TABLE t;", "", "t"),
        ("WITH a AS (SELECT 1)", ",b AS (TABLE a)", " TABLE t", "t"),
        ("INSERT INTO t VALUES (1)", ",(1)", "", "t"),
        ("DELETE FROM t WHERE x IN (1", ",1", ")", "t"),
        ("DELETE FROM t WHERE 1=1", " AND 1=1", "", "t"),
        ("UPDATE t SET (a", ",a", ") = (SELECT 1)", "t"),
        ("CREATE VIEW v AS SELECT 1", "+1", " FROM t", "t"),
        ("CREATE TABLE t (x int DEFAULT 1", "+1", ")", "t"),
        ("SELECT '", "x", "' FROM t", "t"),
        ("SELECT 1 /*", "/* */", "*/ FROM t", "t"),
        ("SELECT 1 ", "--x\n", " FROM t", "t"),
        ("DROP TABLE t", ",t", "", "t"),
        ("EXPLAIN ANALYZE SELECT 1", "+1", " FROM t", "t"),
        ("PREPARE p AS SELECT 1", "+1", " FROM t", "t"),
        ("COPY (SELECT 1", "+1", " FROM t) TO STDOUT", "t"),
    ] {
        let sql = fullest(head, unit, tail);
        let analysis = on_deep_stack(|| analyze(sql.as_bytes()));
        assert!(tables(&analysis).contains(expect), "{head}{unit}: {:?}", analysis.unparsed);
    }
}

#[test]
fn the_longest_texts_are_analysed_if_they_have_few_tokens() {
    for (head, unit, tail) in [
        ("SELECT '", "x", "' FROM t"),
        ("SELECT 1 /*", "x", "*/ FROM t"),
        ("SELECT 1 ", "                               --x\n", " FROM t"),
        (
            "INSERT INTO t VALUES (1, '')",
            ",\n(1, 'a row that has a text of some length, as most rows of a dump have')",
            "",
        ),
    ] {
        let sql = longest(head, unit, tail);
        let analysis = on_deep_stack(|| analyze(sql.as_bytes()));
        assert!(tables(&analysis).contains("t"), "{head}{unit}: {:?}", analysis.unparsed);
    }
}

#[test]
fn a_text_with_too_many_comments_is_refused_before_it_is_parsed() {
    for unit in ["--x\n", "/* */ ", "/* "] {
        let text = |comments: usize| format!("SELECT 1 {} FROM t", unit.repeat(comments));
        let refused = on_deep_stack(|| analyze(text(COMMENTS_MAX + 1).as_bytes()));
        assert!(refused.exceeds.as_deref().is_some_and(|bound| bound.contains("comments")), "{unit}");
    }
    let most = format!("SELECT 1 {} FROM t", "--x\n".repeat(COMMENTS_MAX));
    assert!(tables(&on_deep_stack(|| analyze(most.as_bytes()))).contains("t"));
}

#[test]
fn a_text_with_too_many_tokens_is_refused_before_it_is_parsed() {
    let list = |elements: usize| format!("SELECT 1 FROM t WHERE x IN (1{})", ",1".repeat(elements));
    let tokens_of_the_rest = 10;
    let few = (TOKENS_MAX - tokens_of_the_rest) / 2;
    assert!(tables(&read(&list(few))).contains("t"));
    let refused = read(&list(few + 1));
    assert!(is_unparsed(&refused) && refused.exceeds.as_deref().unwrap().contains("tokens"), "{refused:?}");
    // In strings and comments there are none.
    let quoted = format!("SELECT '{0}' /*{0}*/ FROM t", "1,".repeat(TOKENS_MAX));
    assert!(tables(&read(&quoted)).contains("t"));
}

/// The scanner's time grows with the square of a run's length: a fifth of these would take a minute.
#[test]
fn a_long_run_of_operator_characters_is_refused_before_it_is_scanned() {
    for (head, unit, tail) in [
        ("SELECT 1 /*", "/**/", "*/ FROM t"),
        ("SELECT 1 ", "/**/", ""),
        ("SELECT a ", "+", " a"),
        ("SELECT a ", "*/", "a"),
    ] {
        let sql = longest(head, unit, tail);
        assert!(is_unparsed(&read(&sql)), "{head}{unit}");
    }
    let ruler = format!("SELECT '{0}' /*{0}*/ FROM t --{0}", "=".repeat(1000));
    assert!(tables(&read(&ruler)).contains("t"));
}

#[test]
fn deep_nesting_is_analysed_or_refused() {
    for (head, open, middle, close) in [
        ("SELECT ", "(", "1", ")"),
        ("SELECT ", "(SELECT ", "1", ")"),
        ("SELECT * FROM ", "(SELECT * FROM ", "t", ") x"),
        ("SELECT ", "f(", "1", ")"),
        ("SELECT ", "NOT ", "true", ""),
        ("SELECT ", "- ", "1", ""),
        ("SELECT ", "CASE WHEN true THEN ", "1", " END"),
        ("", "WITH a AS (", "SELECT 1", ") SELECT 1"),
        ("SELECT ", "ARRAY[", "1", "]"),
        ("", "EXPLAIN ", "SELECT 1", ""),
        ("", "CREATE FUNCTION f() BEGIN ATOMIC ", "SELECT 1; ", "END; "),
    ] {
        for depth in [10, 500, 20_000] {
            let sql = format!("{head}{}{middle}{}", open.repeat(depth), close.repeat(depth));
            if sql.len() <= STATEMENT_BYTES_MAX {
                assert!(!read(&sql).facts.accesses.is_empty());
            }
        }
    }
}

#[test]
fn a_text_that_is_too_long_is_unparsed() {
    let sql = longest("SELECT '", "x", "'");
    assert!(!is_unparsed(&read(&sql)));
    let refused = read(&format!("{sql}  "));
    assert!(is_unparsed(&refused) && refused.exceeds.as_deref().unwrap().contains("16 MiB"));
}

#[test]
fn a_name_that_is_not_looked_up_counts_as_a_table() {
    let names = 200;
    let ctes: Vec<_> = (0..names).map(|at| format!("c{at} AS (SELECT 1)")).collect();
    // Beyond the look-up's bound a name counts as a table's: too many accesses, never too few.
    let analysis = read(&format!("WITH {} SELECT * FROM c0, c199", ctes.join(",")));
    assert!(!tables(&analysis).contains("c199"));
    assert!(tables(&analysis).contains("c0"));
}

/// A query with another query, which returns one value, in it.
fn nest(shape: u8, inner: &str) -> String {
    match shape {
        0 => format!("SELECT ({inner})"),
        1 => format!("SELECT * FROM ({inner}) x"),
        2 => format!("SELECT 1 WHERE EXISTS ({inner})"),
        3 => format!("WITH c AS ({inner}) SELECT 1 FROM c"),
        4 => format!("WITH c AS (SELECT 1), d AS ({inner}) SELECT 1 FROM c, d"),
        5 => format!("SELECT f(({inner}), 1)"),
        6 => format!("SELECT 1 FROM (VALUES (({inner}))) v"),
        7 => format!("(SELECT 1) UNION ALL ({inner})"),
        8 => format!("SELECT CASE WHEN 1 IN ({inner}) THEN 1 END"),
        9 => format!("SELECT 1 ORDER BY ({inner}) LIMIT 1"),
        10 => format!("SELECT sum(1) OVER (ORDER BY ({inner}))"),
        11 => format!("SELECT 1 FROM generate_series(1, ({inner})) g, LATERAL (SELECT 1) z"),
        12 => format!("SELECT ARRAY({inner})"),
        13 => format!("WITH RECURSIVE c AS ({inner}) SELECT 1 FROM c"),
        14 => format!("SELECT JSON_ARRAY({inner})"),
        15 => format!("SELECT 1 GROUP BY ({inner}) HAVING ({inner}) > 1"),
        16 => format!("SELECT count(*) FILTER (WHERE EXISTS ({inner}))"),
        17 => format!("WITH c AS (INSERT INTO w SELECT 1 FROM ({inner}) z RETURNING 1) SELECT 1 FROM c"),
        18 => format!("SELECT 1 FROM a JOIN b ON EXISTS ({inner})"),
        _ => format!("SELECT coalesce(1, ({inner}))::int"),
    }
}

/// A statement with a query in it.
fn wrap(shape: u8, inner: &str) -> String {
    match shape {
        0 => inner.to_owned(),
        1 => format!("INSERT INTO w {inner}"),
        2 => format!("UPDATE w SET x = ({inner})"),
        3 => format!("DELETE FROM w WHERE EXISTS ({inner})"),
        4 => format!("MERGE INTO w USING ({inner}) u ON true WHEN MATCHED THEN DELETE"),
        5 => format!("COPY ({inner}) TO STDOUT"),
        6 => format!("PREPARE p AS {inner}"),
        7 => format!("EXPLAIN {inner}"),
        8 => format!("CREATE TABLE w AS {inner}"),
        9 => format!("CREATE VIEW w AS {inner}"),
        10 => format!("DECLARE c CURSOR FOR {inner}"),
        11 => format!("CREATE POLICY p ON w USING (EXISTS ({inner}))"),
        12 => format!("INSERT INTO w VALUES (1) ON CONFLICT (x) DO UPDATE SET x = ({inner})"),
        13 => format!("CALL p(({inner}))"),
        14 => format!("CREATE FUNCTION f() RETURNS int RETURN ({inner})"),
        15 => format!("EXECUTE p(({inner}))"),
        16 => format!("INSERT INTO w VALUES (1) RETURNING ({inner})"),
        _ => format!("CREATE RULE r AS ON INSERT TO w DO ALSO INSERT INTO w {inner}"),
    }
}

/// The relations that another parser finds, and the names of common table expressions among them.
#[derive(Default)]
struct Seen {
    relations: BTreeSet<String>,
    ctes: BTreeSet<String>,
}

impl Visitor for Seen {
    type Break = ();

    fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<()> {
        let ctes = query.with.iter().flat_map(|with| &with.cte_tables);
        self.ctes.extend(ctes.map(|cte| cte.alias.name.value.clone()));
        ControlFlow::Continue(())
    }

    fn pre_visit_relation(&mut self, relation: &sqlparser::ast::ObjectName) -> ControlFlow<()> {
        let last = relation.0.last().and_then(|part| part.as_ident());
        self.relations.extend(last.map(|ident| ident.value.clone()));
        ControlFlow::Continue(())
    }
}

fn tables_seen_by_sqlparser(sql: &str) -> Option<BTreeSet<String>> {
    let dialect = sqlparser::dialect::PostgreSqlDialect {};
    let statements = sqlparser::parser::Parser::parse_sql(&dialect, sql).ok()?;
    let mut seen = Seen::default();
    let _ = statements.visit(&mut seen);
    Some(seen.relations.difference(&seen.ctes).cloned().collect())
}

/// Words to make texts of.
const WORDS: &[&str] = &[
    "SELECT", "FROM", "WHERE", "WITH", "AS", "INSERT", "INTO", "VALUES", "DELETE", "UPDATE", "SET", "MERGE",
    "USING", "ON", "WHEN", "MATCHED", "THEN", "DO", "CREATE", "ALTER", "DROP", "GRANT", "TO", "TABLE",
    "VIEW", "FUNCTION", "EXPLAIN", "ANALYZE", "COPY", "PREPARE", "EXECUTE", "CALL", "LOCK", "IN", "a", "b",
    "t", "1", "2.5", "'x'", "E'\\'", "$$", "$1", "(", ")", ",", ";", ".", "*", "=", "+", "::", "'", "\"",
    "--", "/*", "*/", "\\", "\n",
];

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 2000,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn arbitrary_bytes_never_panic(sql in proptest::collection::vec(any::<u8>(), 0..200)) {
        let analysis = analyze(&sql);
        prop_assert!(!analysis.facts.accesses.is_empty());
        prop_assert_eq!(fingerprint(&sql).len(), 16);
        redact(&sql);
    }

    #[test]
    fn words_of_sql_in_any_order_never_panic(
        words in proptest::collection::vec(proptest::sample::select(WORDS), 0..25),
    ) {
        let sql = words.join(" ");
        prop_assert!(!analyze(sql.as_bytes()).facts.accesses.is_empty());
        fingerprint(sql.as_bytes());
        redact(sql.as_bytes());
    }

    #[test]
    fn a_table_is_found_wherever_it_is_named(
        wrapping in 0u8..18,
        nesting in proptest::collection::vec(0u8..20, 0..7),
        quoted: bool,
    ) {
        let leaf = if quoted { "SELECT 1 FROM \"planted\"" } else { "SELECT 1 FROM PLANTED" };
        let query = nesting.iter().fold(leaf.to_owned(), |inner, shape| nest(*shape, &inner));
        let sql = wrap(wrapping, &query);
        let analysis = analyze(sql.as_bytes());
        prop_assert!(!is_unparsed(&analysis), "{}: {:?}", sql, analysis.unparsed);
        prop_assert!(tables(&analysis).contains("planted"), "{}", sql);
    }

    #[test]
    fn every_table_that_sqlparser_finds_is_found(
        wrapping in 0u8..18,
        nesting in proptest::collection::vec(0u8..20, 0..5),
    ) {
        let leaf = "SELECT 1 FROM planted".to_owned();
        let query = nesting.iter().fold(leaf, |inner, shape| nest(*shape, &inner));
        let sql = wrap(wrapping, &query);
        if let Some(seen) = tables_seen_by_sqlparser(&sql) {
            let found = tables(&analyze(sql.as_bytes()));
            // sqlparser takes the names of functions in FROM for relations.
            let missing: Vec<_> = seen.difference(&found).filter(|name| *name != "generate_series").collect();
            prop_assert!(missing.is_empty(), "{}: {:?}", sql, missing);
        }
    }

    #[test]
    fn no_literal_leaks(
        before in "[ a-z=,(]{0,12}",
        after in "[ a-z=,)'\"$;]{0,12}",
        shape in 0usize..12,
    ) {
        let literal = [
            "'zqj'", "'it''zqj'", "E'\\'zqj'", "e'\\\\\\'zqj'", "$$zqj$$", "$t$ $$ zqj$t$",
            "U&'zqj'", "N'zqj'", "'\nzqj", "$$zqj", "'zqj\\'zqj'", "/* zqj */",
        ][shape];
        let sql = format!("SELECT {before} {literal}{after}");
        let redacted = redact(sql.as_bytes());
        prop_assert!(!redacted.contains("zqj"), "{} -> {}", sql, redacted);
    }

    #[test]
    fn literals_do_not_change_the_fingerprint(text in "[^'\\\\\0]{0,20}", number in any::<i64>()) {
        let sql = format!("select a  from T where b = '{text}' AND c = {number} -- {}", number);
        prop_assert_eq!(
            fingerprint(sql.as_bytes()),
            fingerprint(b"SELECT a FROM t /* x */ WHERE b = $$x$$ and c=1"),
        );
    }
}

#[test]
fn the_other_parser_finds_tables_and_not_common_table_expressions() {
    let seen = tables_seen_by_sqlparser("WITH c AS (SELECT 1 FROM a) SELECT * FROM c, s.b").unwrap();
    assert_eq!(seen, BTreeSet::from(["a".to_owned(), "b".to_owned()]));
}

#[test]
fn statements_that_differ_in_more_than_literals_have_different_fingerprints() {
    let texts = [
        "SELECT a",
        "SELECT b",
        "SELECT \"A\"",
        "SELECT 1",
        "SELECT 1, 2",
        "SELECT $1",
        "SELECT a - 1",
        "SELECT a + 1",
        "ab",
        "a b",
    ];
    let fingerprints: BTreeSet<_> = texts.iter().map(|sql| fingerprint(sql.as_bytes())).collect();
    assert_eq!(fingerprints.len(), texts.len());
}

#[test]
fn redaction_keeps_the_statement_and_drops_its_literals() {
    for (sql, expect) in [
        ("SELECT a FROM t WHERE b = 'x' AND c = 12.5e-3", "SELECT a FROM t WHERE b = ? AND c = ?"),
        ("SELECT  a /* x */ , b -- y\n FROM t", "SELECT a , b FROM t"),
        ("INSERT INTO \"My Table\" VALUES ($1, $2, -1)", "INSERT INTO \"My Table\" VALUES ($1, $2, -?)"),
        ("SELECT 'a''b', E'c\\'d', U&'e', B'01', x'ff', N'n'", "SELECT ?, ?, ?, ?, ?, ?"),
        ("SELECT $$a$$, $t$b $$ c$t$", "SELECT ?, ?"),
        ("SELECT 'a'\n  'b'", "SELECT ?"),
        ("SELECT E'a' -- x\n 'b\\'c'", "SELECT ?"),
        ("SELECT 0xff, 1_000, .5, 1.", "SELECT ?, ?, ?, ?"),
        ("SELECT 1secret", "SELECT ?"),
        ("SELECT $1secret", "SELECT ?"),
        ("SELECT a$b$c", "SELECT a$b$c"),
        ("ALTER USER u PASSWORD 'x'", "ALTER USER u PASSWORD ?"),
        // Where these literals end is doubtful.
        ("SELECT 'x", "SELECT ?"),
        ("SELECT a FROM t WHERE b = hunter2'", "SELECT ?"),
        ("SELECT 'O'Brien'", "SELECT ?"),
        ("UPDATE t SET n = 'O'Brien', m = 'D'Arcy'", "UPDATE ?"),
        ("SELECT '\\' secret '", "SELECT ?"),
        ("SELECT $$ secret", "SELECT ?"),
        ("SELECT 1 /* secret", "SELECT ?"),
        ("SELECT \"secret", "SELECT ?"),
        ("hunter2 'x", "?"),
        ("SELECT \"it's\"", "SELECT \"?\""),
        ("", ""),
    ] {
        assert_eq!(redact(sql.as_bytes()), expect, "{sql}");
    }
    assert_eq!(redact(b"SELECT secret \xff"), "?");
}
