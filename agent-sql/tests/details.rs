//! What facts add to accesses: functions, settings, conditions, nesting, and the names that lead from one
//! statement to another.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "the helpers that the tests share also fail by panicking"
)]

mod spelled;

use agent_core::facts::ITEMS_MAX;
use agent_sql::{PREPARED_FACTS_MAX, analyze, analyze_prepared};
use spelled::{check, spelled};

#[track_caller]
fn check_functions(sql: &str, expect: &[&str]) {
    let facts = analyze(sql.as_bytes()).facts;
    let sql_facts = facts.sql().unwrap();
    let functions: Vec<&str> = sql_facts.functions.iter().map(|name| &**name).collect();
    assert_eq!(functions, expect, "{sql}");
}

#[track_caller]
fn check_settings(sql: &str, expect: &[&str]) {
    let analysis = analyze(sql.as_bytes());
    let sql_facts = analysis.facts.sql().unwrap();
    let settings: Vec<&str> = sql_facts.settings.iter().map(|name| &**name).collect();
    assert_eq!(settings, expect, "{sql}");
    assert!(spelled(&analysis.facts).contains(&"set".to_owned()), "{sql}");
}

#[test]
fn a_text_that_alters_how_later_texts_are_read_is_barred() {
    let check = |sql: &str, expect: Option<&str>| {
        let expect = expect.map(|setting| match setting {
            "?" => "which setting it will change can't be told, and some decide how statements are read"
                .to_owned(),
            name => format!("{name} decides how statements are read, and may not be changed"),
        });
        assert_eq!(analyze(sql.as_bytes()).facts.barred.as_deref(), expect.as_deref(), "{sql}");
    };
    for kept in [
        "SET standard_conforming_strings = on",
        "SET \"Standard_Conforming_Strings\" TO 'on'",
        "SET LOCAL standard_conforming_strings TO true",
        "SET standard_conforming_strings = 1",
        "RESET standard_conforming_strings",
        "SET client_encoding TO DEFAULT",
        "SET NAMES 'utf-8'",
        "SET client_encoding = 'UTF8'",
        "SET client_encoding TO SQL_ASCII",
        "RESET ALL",
        "DISCARD ALL",
        "SET search_path = a, b",
        "SELECT set_config('search_path', $1, false)",
    ] {
        check(kept, None);
    }
    check("SET standard_conforming_strings = off", Some("standard_conforming_strings"));
    check("SET standard_conforming_strings = 0", Some("standard_conforming_strings"));
    check("SET standard_conforming_strings = 1, 0", Some("standard_conforming_strings"));
    check("SET CLIENT_ENCODING = 'LATIN1'", Some("client_encoding"));
    check("SET NAMES 'sjis'", Some("client_encoding"));
    check("SET backslash_quote = on", Some("backslash_quote"));
    // It only switches a warning on and off.
    check("SET escape_string_warning = off", None);
    check("SELECT set_config('client_encoding', 'UTF8', false)", None);
    check("SELECT set_config('client_encoding', 'SJIS', false)", Some("client_encoding"));
    check("SELECT set_config('client_encoding', $1, false)", Some("client_encoding"));
    check("WITH a AS (SELECT set_config('backslash_quote', 'on', true)) TABLE a", Some("backslash_quote"));
    check(
        "SELECT set_config(name, 'off', false) FROM pg_settings WHERE name = 'standard_conforming_strings'",
        Some("standard_conforming_strings"),
    );
    // What is kept for later calls it where nobody looks.
    check("DECLARE c CURSOR FOR SELECT set_config($1, 'off', false)", Some("?"));
    check("CREATE VIEW v AS SELECT set_config(lower('X'), 'off', false)", Some("?"));
    check("CREATE TABLE t (a text DEFAULT set_config(current_user, 'off', false))", Some("?"));
    check("CREATE FUNCTION f(text) RETURNS text RETURN set_config($1, 'off', false)", Some("?"));
}

#[test]
fn a_setting_that_cannot_be_told_is_awaited() {
    let check = |sql: &str, expect: bool| {
        let analysis = analyze(sql.as_bytes());
        let sql_facts = analysis.facts.sql().unwrap();
        assert_eq!(sql_facts.awaits_settings, expect, "{sql}");
        assert_eq!(analysis.facts.barred, None, "{sql}");
    };
    check("SELECT 1; SELECT set_config($1, 'off', false)", true);
    check("PREPARE p AS SELECT set_config('a' || $1, 'off', false)", true);
    check("EXPLAIN ANALYZE SELECT set_config(lower('X'), 'off', false)", true);
    check("COPY (SELECT set_config(a, 'off', false) FROM t) TO STDOUT", true);
    check("UPDATE pg_settings SET setting = 'off'", true);
    check("SELECT set_config(name, 'x', false) FROM pg_settings WHERE name = 'role'", true);
    check("SELECT set_config('work_mem'::text, $1, false)", true);
    check("SELECT set_config('work_mem', $1, false)", false);
    check("SELECT set_config('work_mem'::varchar, lower('X'), false)", false);
}

#[test]
fn a_column_that_is_equal_to_a_constant_tells_the_setting() {
    let told = |condition: &str, expect: &str| {
        let sql =
            format!("SELECT set_config(name, 'view, foreign-table', false) FROM pg_settings {condition}");
        check_settings(&sql, &[expect]);
    };
    told("WHERE name = 'restrict_nonsystem_relation_kind'", "restrict_nonsystem_relation_kind");
    told("AS s WHERE true AND ('work_mem' OPERATOR(pg_catalog.=) name AND setting > 'a')", "work_mem");
    told("", "?");
    told("WHERE name = 'work_mem' OR name = 'role'", "?");
    told("WHERE NOT name = 'work_mem'", "?");
    told("WHERE name OPERATOR(evil.=) 'work_mem'", "?");
    told("WHERE name ~= 'work_mem'", "?");
    told("WHERE name = ANY ('{work_mem}')", "?");
    told("WHERE name IN ('work_mem')", "?");
    told("WHERE name COLLATE \"x\" = 'work_mem'", "?");
    told("WHERE name = 'work_mem' COLLATE \"x\"", "?");
    told("WHERE name = 'wörk_mem'", "?");
    told("WHERE lower(name) = 'work_mem'", "?");
    told("WHERE setting = 'work_mem'", "?");
    told("WHERE pg_settings.name = 'work_mem'", "?");
    told("WHERE (SELECT name = 'work_mem')", "?");
    check_settings(
        "SELECT (SELECT set_config(name, 'x', false)) FROM pg_settings WHERE name = 'work_mem'",
        &["?"],
    );
    check_settings("SELECT set_config(name || '', 'x', false) FROM s WHERE name = 'work_mem'", &["?"]);
    check_settings("SELECT 1 FROM s WHERE name = 'work_mem' AND set_config(name, 'x', false) = ''", &["?"]);
    check_settings(
        "SELECT set_config(name, 'x', false) FROM a UNION SELECT name FROM s WHERE name = 'work_mem'",
        &["?"],
    );
}

#[test]
fn parameters_tell_settings_once_they_are_bound() {
    let check = |sql: &str, values: &[Option<&str>], expect: &[&str]| {
        let analysis = analyze(sql.as_bytes());
        let by_parameters = analysis.parameters.unwrap();
        let bound = by_parameters.bound(|number| values[usize::try_from(number).unwrap() - 1]);
        let settings: Vec<_> = bound.sql().unwrap().settings.iter().map(|name| &**name).collect();
        assert_eq!(settings, expect, "{sql} {values:?}");
        let prepared = by_parameters.prepared();
        assert!(spelled(prepared).contains(&"set".to_owned()), "{sql}");
        assert_eq!(bound.accesses, prepared.accesses);
        bound
    };
    let all = "SELECT set_config($1, $2, false)";
    let bound = check(all, &[Some("Work_Mem"), Some("1MB")], &["work_mem"]);
    assert!(!bound.sql().unwrap().awaits_settings);
    let bound = check(all, &[None, Some("1MB")], &["?"]);
    assert!(bound.sql().unwrap().awaits_settings);
    check(all, &[Some("client_encoding"), Some("utf-8")], &[]);
    let bound = check(all, &[Some("client_encoding"), Some("sjis")], &["client_encoding"]);
    assert!(bound.barred.is_some());
    check("SELECT set_config($1::varchar, $2::varchar, $3)", &[Some("role"), None, None], &["role"]);
    // The parameter may be of a type that is cast with other rules.
    check(all, &[Some("role "), Some("x")], &["?"]);
    check(all, &[Some(&"x".repeat(63)), Some("x")], &["?"]);
    check("SELECT $1::box, set_config($1, $2, false)", &[Some("work_mem"), Some("x")], &["?"]);
    check_settings("SELECT set_config($1::varchar(4), $2, false)", &["?"]);
    let path = "SELECT set_config('search_path', $1, $2), set_config('work_mem', '1MB', true)";
    let bound = check(path, &[Some("a, \"B\""), None], &["search_path", "work_mem"]);
    assert_eq!(bound.sql().unwrap().search_path, [Some("B".into()), Some("a".into())]);
    assert_eq!(analyze(path.as_bytes()).facts.sql().unwrap().search_path, [None]);
    assert_eq!(analyze(b"SELECT set_config('work_mem', $1, false)").parameters, None);
}

#[test]
fn the_schemas_of_a_search_path_are_told() {
    let check = |sql: &str, expect: &[Option<&str>]| {
        let analysis = analyze(sql.as_bytes());
        let found: Vec<_> = analysis.facts.sql().unwrap().search_path.iter().map(Option::as_deref).collect();
        assert_eq!(found, expect, "{sql}");
    };
    check("SET search_path = B, \"A\", '$user'", &[Some("$user"), Some("A"), Some("b")]);
    // One schema, whose name has a comma.
    check("SET LOCAL search_path TO 'a, b'", &[Some("a, b")]);
    check("SET search_path = ''", &[]);
    check("SET SCHEMA 'hr'", &[Some("hr")]);
    check("SELECT pg_catalog.set_config('search_path', '', false)", &[]);
    check("SELECT set_config('Search_Path', 'a, b', true)", &[Some("a"), Some("b")]);
    check("SELECT set_config('search_path', a, true) FROM t", &[None]);
    check("SELECT set_config(a, 'b', true) FROM t", &[None]);
    check("CREATE SCHEMA hr CREATE VIEW v AS SELECT FROM t", &[Some("hr")]);
    check("CREATE SCHEMA AUTHORIZATION app CREATE TABLE t ()", &[None]);
    check("CREATE SCHEMA hr", &[]);
    check("RESET search_path; SET search_path TO DEFAULT; RESET ALL; DISCARD ALL", &[]);
    check("CREATE FUNCTION f() RETURNS int LANGUAGE sql SET search_path = hr AS 'SELECT 1'", &[Some("hr")]);
}

#[test]
fn functions_and_operators_are_named_at_any_depth() {
    check_functions("SELECT 1", &[]);
    check_functions(
        "SELECT F(1), \"F\"(2), s.g((SELECT pg_catalog.h()))",
        &["F", "f", "pg_catalog.h", "s.g"],
    );
    check_functions("SELECT * FROM dblink('x', 'y') AS t(x int)", &["dblink"]);
    check_functions("UPDATE t SET x = f() WHERE g() = y RETURNING h()", &["f", "g", "h"]);
    check_functions(
        "SELECT current_user, session_user, CURRENT_TIMESTAMP(3)",
        &["current_timestamp", "current_user", "session_user"],
    );
    check_functions("SELECT 1 OPERATOR(s.+) 2, 1 OPERATOR(pg_catalog.+) 2", &["operator:s.+"]);
    check_functions("SELECT 1 OPERATOR(s.=) ANY (SELECT 1)", &["operator:s.="]);
    check_functions("SELECT x FROM t ORDER BY x USING OPERATOR(s.<)", &["operator:s.<"]);
    check_functions("CALL s.p(f())", &["f", "s.p"]);
    check_functions("CREATE TABLE t (x int DEFAULT f() CHECK (g(x)))", &["f", "g"]);
    check_functions("CREATE INDEX ON t (f(x)) WHERE g(y)", &["f", "g"]);
    check_functions("ALTER TABLE t ALTER x SET DEFAULT f()", &["f"]);
    check_functions("ALTER TABLE t ALTER x TYPE int USING f(x)", &["f"]);
    check_functions("COPY t FROM STDIN WHERE f(x)", &["f"]);
    check_functions("EXECUTE p(f(1))", &["f"]);
    check_functions("EXPLAIN SELECT f()", &["f"]);
    check_functions("CREATE FUNCTION z(x int DEFAULT f()) RETURNS int RETURN g(x)", &["f", "g"]);
    check_functions("SELECT U&\"\\0066\"()", &["f"]);
}

#[test]
fn a_field_counts_as_a_function_too() {
    check_functions("SELECT x.lo_creat FROM generate_series(-1, -1) x", &[".lo_creat", "generate_series"]);
    check_functions("SELECT ('x'::text).ts_stat", &[".ts_stat"]);
    check_functions("SELECT (f(1)).g", &[".g", "f"]);
    check_functions("SELECT (((x).a).b).c, $1.d, (x[1]).e", &[".a", ".b", ".c", ".d", ".e"]);
    check_functions("SELECT s.t.c, t.x[1].f FROM t WHERE t.y > 0", &[".c", ".f", ".x", ".y"]);
    check_functions("SELECT t.*, (x).*, c FROM t", &[]);
    check_functions("INSERT INTO t VALUES (1) ON CONFLICT (a) DO UPDATE SET b = excluded.b", &[".b"]);
    check_functions("UPDATE t SET c.field = 1 WHERE z = 1", &[]);
}

#[test]
fn a_text_with_too_many_names_is_unparsed_and_says_the_bound() {
    let tables = |count: usize| (0..count).map(|table| format!("t{table}")).collect::<Vec<_>>().join(", ");
    for (head, max) in [("SELECT 1 FROM", ITEMS_MAX), ("PREPARE p AS SELECT 1 FROM", PREPARED_FACTS_MAX)] {
        let analysis = analyze(format!("{head} {}", tables(max)).as_bytes());
        assert_eq!((analysis.unparsed, analysis.exceeds), (None, None), "{head}");
        let analysis = analyze(format!("{head} {}", tables(max + 1)).as_bytes());
        assert!(analysis.unparsed.is_some());
        let bound = analysis.exceeds.unwrap();
        assert!(bound.contains(&max.to_string()) && bound.contains(&(max + 1).to_string()), "{bound}");
    }
    let parse = |count| analyze_prepared(format!("SELECT 1 FROM {}", tables(count)).as_bytes()).exceeds;
    assert_eq!(parse(PREPARED_FACTS_MAX), None);
    assert!(parse(PREPARED_FACTS_MAX + 1).is_some());
}

#[test]
fn an_access_counts_once_however_often_the_text_makes_it() {
    let sql = "CREATE TABLE a (x int); INSERT INTO a VALUES (1); ".repeat(ITEMS_MAX);
    let analysis = analyze(sql.as_bytes());
    assert_eq!((analysis.exceeds, analysis.facts.accesses.len()), (None, 2));
}

#[test]
fn settings_are_named_in_lower_case() {
    check_settings("SET work_mem = 1", &["work_mem"]);
    check_settings("SET LOCAL \"Work_Mem\" TO DEFAULT", &["work_mem"]);
    check_settings("SET ROLE admin", &["role"]);
    check_settings("SET \"ROLE\" = admin", &["role"]);
    check_settings("RESET ROLE", &["role"]);
    check_settings("SET SESSION AUTHORIZATION x", &["session_authorization"]);
    check_settings("RESET SESSION AUTHORIZATION", &["session_authorization"]);
    check_settings("RESET ALL", &["all"]);
    check_settings("SET TIME ZONE 'UTC'", &["timezone"]);
    check_settings("SET NAMES 'LATIN1'", &["client_encoding"]);
    check_settings("SET SCHEMA 's'", &["search_path"]);
    check_settings("SET search_path FROM CURRENT", &["search_path"]);
    check_settings("SET XML OPTION DOCUMENT", &["xmloption"]);
    check_settings(
        "SET SESSION CHARACTERISTICS AS TRANSACTION READ WRITE",
        &["default_transaction_read_only"],
    );
    check_settings("SELECT set_config('ROLE', 'x', false)", &["role"]);
    check_settings(
        "SELECT pg_catalog.set_config(is_local => false, setting_name => 'x.y', new_value => 'z')",
        &["x.y"],
    );
    check_settings("SELECT set_config('ro' || 'le', 'x', false)", &["?"]);
    check_settings("SELECT set_config($1, 'x', false)", &["?"]);
    check_settings("SELECT set_config('role'::text, 'x', false)", &["role"]);
    check_settings("SELECT set_config('role'::name, 'x', false)", &["?"]);
    check_settings("SELECT set_config(NULL, 'x', false)", &["?"]);
    check_settings("ALTER ROLE app SET \"Role\" = admin", &["role"]);
    check_settings("ALTER DATABASE shop SET row_security = off", &["row_security"]);
    check_settings("ALTER FUNCTION f() RESET ALL", &["all"]);
    check_settings(
        "CREATE FUNCTION f() RETURNS int LANGUAGE sql SET work_mem = 1 SET role = a AS 'SELECT 1'",
        &["role", "work_mem"],
    );
    check_settings("SELECT * FROM t WHERE set_config(U&'r\\006fle', 'x', false) = ''", &["role"]);
    check_settings("EXPLAIN SELECT set_config('role', 'x', false)", &["role"]);
    check_settings("PREPARE p AS SELECT set_config('role', $1, false)", &["role"]);
}

#[track_caller]
fn check_where(sql: &str, expect: bool) {
    assert_eq!(analyze(sql.as_bytes()).facts.sql().unwrap().has_where, expect, "{sql}");
}

#[test]
fn has_where_is_false_if_a_write_cannot_tell_rows_apart() {
    for sql in [
        "SELECT 1",
        "UPDATE t SET x = 1 WHERE id = 1",
        "DELETE FROM t WHERE id = $1",
        "DELETE FROM t WHERE EXISTS (SELECT 1)",
        "DELETE FROM t WHERE CURRENT OF c",
        "DELETE FROM t USING u WHERE f(t.x)",
        "INSERT INTO t VALUES (1)",
        "MERGE INTO t USING u ON t.x = u.x WHEN MATCHED THEN DELETE",
        "MERGE INTO t USING u ON true WHEN MATCHED AND t.x = 1 THEN DELETE",
        "MERGE INTO t USING u ON true WHEN NOT MATCHED THEN INSERT VALUES (1)",
        "MERGE INTO t USING u ON false WHEN NOT MATCHED BY SOURCE AND t.x = 1 THEN DELETE",
    ] {
        check_where(sql, true);
    }
    for sql in [
        "UPDATE t SET x = 1",
        "DELETE FROM t",
        "DELETE FROM t WHERE true",
        "DELETE FROM t WHERE 1=1",
        "DELETE FROM t WHERE $1",
        "DELETE FROM t WHERE 'a' LIKE 'b' OR NOT (1 IN (2, 3))",
        "DELETE FROM t WHERE random() < 2",
        "DELETE FROM t WHERE current_user = 'x'",
        "WITH d AS (DELETE FROM t) SELECT 1 WHERE 1 = 1",
        "UPDATE t SET x = 1 WHERE id = 1; DELETE FROM u",
        "PREPARE p AS DELETE FROM t",
        "EXPLAIN DELETE FROM t",
        "CREATE RULE r AS ON INSERT TO t DO ALSO DELETE FROM u",
        "MERGE INTO t USING u ON true WHEN MATCHED THEN DELETE",
        "MERGE INTO t USING u ON 1 = 1 WHEN MATCHED AND true THEN UPDATE SET x = 1",
        "MERGE INTO t USING u ON t.x = u.x WHEN NOT MATCHED BY SOURCE THEN DELETE",
    ] {
        check_where(sql, false);
    }
}

#[track_caller]
fn check_nested_write(sql: &str, expect: bool) {
    assert_eq!(analyze(sql.as_bytes()).facts.sql().unwrap().writes_in_cte, expect, "{sql}");
}

#[test]
fn writes_nested_in_another_statement_are_marked() {
    for sql in [
        "SELECT 1",
        "INSERT INTO t SELECT 1",
        "UPDATE t SET x = 1",
        "WITH a AS (SELECT 1) DELETE FROM t USING a",
        "EXPLAIN ANALYZE DELETE FROM t",
        "PREPARE p AS INSERT INTO t VALUES (1)",
        "MERGE INTO t USING u ON true WHEN MATCHED THEN DELETE",
    ] {
        check_nested_write(sql, false);
    }
    for sql in [
        "WITH d AS (DELETE FROM t RETURNING *) SELECT * FROM d",
        "WITH d AS (INSERT INTO t VALUES (1)) UPDATE u SET x = 1",
        "WITH d AS (MERGE INTO t USING u ON true WHEN MATCHED THEN DELETE RETURNING *) SELECT * FROM d",
        "COPY (UPDATE t SET x = 1 RETURNING x) TO STDOUT",
        "PREPARE p AS WITH d AS (UPDATE t SET x = 1) SELECT 1",
        "EXPLAIN ANALYZE WITH d AS (UPDATE t SET x = 1) SELECT 1",
        "CREATE TABLE t AS WITH d AS (DELETE FROM u RETURNING *) TABLE d",
        "CREATE RULE r AS ON INSERT TO t DO ALSO DELETE FROM u",
    ] {
        check_nested_write(sql, true);
    }
}

#[test]
fn statements_that_only_divide_transactions_are_counted_apart() {
    let check = |sql: &str, expect| {
        let analysis = analyze(sql.as_bytes());
        let sql_facts = analysis.facts.sql().unwrap();
        assert_eq!((sql_facts.statements, sql_facts.non_transaction_statements), expect, "{sql}");
    };
    check("RELEASE a; SAVEPOINT a; UPDATE t SET x = 1 WHERE y = 2", (3, 1));
    check("BEGIN; UPDATE t SET x = 1; DELETE FROM t; COMMIT", (4, 2));
    check("START TRANSACTION; ROLLBACK TO a; ROLLBACK", (3, 0));
    check("PREPARE TRANSACTION 'x'; COMMIT PREPARED 'x'", (2, 2));
    check("SET TRANSACTION READ ONLY; SELECT 1", (2, 2));
}

#[test]
fn a_function_is_spelled_without_the_database_that_it_can_only_be_in() {
    for sql in ["SELECT cron.schedule('a', 'b')", "SELECT shop.cron.schedule('a', 'b')"] {
        let analysis = analyze(sql.as_bytes());
        assert_eq!(analysis.facts.sql().unwrap().functions, ["cron.schedule".into()], "{sql}");
    }
}

#[test]
fn a_lock_of_tables_is_told_from_a_lock_of_rows() {
    let check = |sql: &str, expect| {
        assert_eq!(analyze(sql.as_bytes()).facts.sql().unwrap().locks_tables, expect, "{sql}");
    };
    check("LOCK TABLE t IN ROW SHARE MODE", true);
    // It is a read: a query takes the same lock.
    check("LOCK TABLE t IN ACCESS SHARE MODE", false);
    check("SELECT * FROM t FOR UPDATE; LOCK t", true);
    check("SELECT * FROM t FOR UPDATE", false);
    check("EXPLAIN ANALYZE SELECT * FROM t FOR SHARE", false);
    check("UPDATE t SET x = 1", false);
    check("not SQL", true);
}

#[test]
fn prepared_statements_are_known_by_name() {
    let analysis = check(
        "PREPARE \"P\" AS DELETE FROM t; EXECUTE \"P\"; DEALLOCATE p",
        "prepare, delete t, execute, discard",
    );
    let [(name, facts)] = analysis.prepares.as_slice() else { panic!("one statement is prepared") };
    assert_eq!(&**name, "P");
    assert_eq!(spelled(facts), ["delete t"]);
    let sql = facts.sql().unwrap();
    assert!(!sql.has_where && sql.statements == 1);
    assert_eq!(analysis.executes, [Box::from("P")]);
    assert_eq!(analysis.facts.sql().unwrap().statements, 3);

    assert_eq!(analyze(b"EXPLAIN ANALYZE EXECUTE p").executes, [Box::from("p")]);
    assert_eq!(analyze(b"CREATE TABLE t AS EXECUTE p").executes, [Box::from("p")]);
}

#[test]
fn fetched_cursors_are_known_by_name() {
    for sql in ["FETCH ALL FROM \"C\"", "MOVE 2 IN \"C\"", "FETCH NEXT \"C\"; SELECT 1"] {
        assert_eq!(analyze(sql.as_bytes()).fetches, [Box::from("C")], "{sql}");
    }
}

#[test]
fn statements_are_counted() {
    for (sql, expect) in [("", 0), ("SELECT 1", 1), ("SELECT 1; SELECT 2;", 2), ("EXPLAIN SELECT 1", 1)] {
        assert_eq!(analyze(sql.as_bytes()).facts.sql().unwrap().statements, expect, "{sql}");
    }
}
