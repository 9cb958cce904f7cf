//! The accesses of each kind of statement, as tables of texts and their accesses.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "the helpers that the tests share also fail by panicking"
)]

mod spelled;

use agent_sql::analyze;
use spelled::{check, spelled};

#[track_caller]
fn check_all(table: &[(&str, &str)]) {
    for (sql, expect) in table {
        check(sql, expect);
    }
}

#[test]
#[expect(clippy::too_many_lines, reason = "a plain list of statements")]
fn queries_read_every_table_that_they_name() {
    check_all(&[
        ("SELECT 1", "select"),
        ("VALUES (1), (2)", "select"),
        ("SELECT", "select"),
        ("TABLE t", "select t"),
        ("SELECT * FROM t", "select t"),
        ("SELECT * FROM s.t", "select s.t"),
        ("SELECT * FROM db.s.t", "select s.t"),
        ("SELECT * FROM ONLY t", "select t"),
        ("SELECT * FROM T, \"T\"", "select T, select t"),
        (r#"SELECT * FROM U&"d\0061ta""#, "select data"),
        ("SELECT * FROM a JOIN b USING (x) LEFT JOIN c ON true", "select a, select b, select c"),
        ("SELECT * FROM a NATURAL JOIN (b CROSS JOIN c)", "select a, select b, select c"),
        ("SELECT * FROM a, LATERAL (SELECT * FROM b WHERE b.x = a.x) z", "select a, select b"),
        ("SELECT (SELECT max(x) FROM t)", "select t"),
        ("SELECT * FROM a WHERE x IN (SELECT x FROM b)", "select a, select b"),
        ("SELECT * FROM a WHERE x = ANY (ARRAY(SELECT x FROM b))", "select a, select b"),
        ("SELECT * FROM a WHERE EXISTS (TABLE b)", "select a, select b"),
        (
            "SELECT CASE WHEN EXISTS (TABLE a) THEN (SELECT 1 FROM b) ELSE (SELECT 2 FROM c) END",
            "select a, select b, select c",
        ),
        ("SELECT coalesce((SELECT 1 FROM a), greatest((SELECT 2 FROM b)))", "select a, select b"),
        ("SELECT f(x => (SELECT 1 FROM a))", "select a"),
        ("SELECT count(*) FILTER (WHERE EXISTS (TABLE a)) FROM b", "select a, select b"),
        (
            "SELECT sum(x) OVER (PARTITION BY (SELECT 1 FROM a) ORDER BY (SELECT 2 FROM b)) FROM c",
            "select a, select b, select c",
        ),
        ("SELECT sum(x) OVER w FROM c WINDOW w AS (ORDER BY (SELECT 1 FROM a))", "select a, select c"),
        ("SELECT string_agg(x, ',' ORDER BY (SELECT 1 FROM a)) FROM b", "select a, select b"),
        ("SELECT percentile_cont((SELECT 1 FROM a)) WITHIN GROUP (ORDER BY x) FROM b", "select a, select b"),
        (
            "SELECT 1 FROM a GROUP BY ROLLUP ((SELECT 1 FROM b)) HAVING EXISTS (TABLE c)",
            "select a, select b, select c",
        ),
        ("SELECT DISTINCT ON ((SELECT 1 FROM a)) 1 FROM b", "select a, select b"),
        (
            "SELECT 1 FROM a ORDER BY (SELECT 1 FROM b) LIMIT (SELECT 1 FROM c) OFFSET (SELECT 1 FROM d)",
            "select a, select b, select c, select d",
        ),
        (
            "SELECT 1 FROM a UNION (SELECT 1 FROM b INTERSECT SELECT 1 FROM c) EXCEPT TABLE d",
            "select a, select b, select c, select d",
        ),
        ("VALUES ((SELECT 1 FROM a))", "select a"),
        ("SELECT * FROM generate_series(1, (SELECT max(x) FROM a)) g", "select a"),
        ("SELECT * FROM ROWS FROM (f((SELECT 1 FROM a)), g()) AS z", "select a"),
        (
            "SELECT * FROM a TABLESAMPLE bernoulli ((SELECT 1 FROM b)) REPEATABLE ((SELECT 2 FROM c))",
            "select a, select b, select c",
        ),
        (
            "SELECT * FROM JSON_TABLE((SELECT j FROM a), '$[*]' PASSING (SELECT 1 FROM b) AS p COLUMNS (x \
             int PATH '$' DEFAULT (SELECT 1 FROM c) ON EMPTY)) z",
            "select a, select b, select c",
        ),
        (
            "SELECT * FROM XMLTABLE('/x' PASSING (SELECT d FROM a) COLUMNS y int PATH (SELECT p FROM b) \
             DEFAULT (SELECT 1 FROM c)) z",
            "select a, select b, select c",
        ),
        ("SELECT JSON_ARRAY(SELECT x FROM a)", "select a"),
        ("SELECT JSON_OBJECT('k': (SELECT 1 FROM a))", "select a"),
        ("SELECT JSON_ARRAYAGG(x ORDER BY (SELECT 1 FROM a)) FROM b", "select a, select b"),
        ("SELECT JSON_OBJECTAGG('k': (SELECT 1 FROM a))", "select a"),
        (
            "SELECT JSON_VALUE((SELECT j FROM a), '$.x' DEFAULT (SELECT 1 FROM b) ON ERROR)",
            "select a, select b",
        ),
        (
            "SELECT JSON_SERIALIZE((SELECT j FROM a)), JSON((SELECT j FROM b)), JSON_SCALAR((SELECT 1 \
             FROM c))",
            "select a, select b, select c",
        ),
        ("SELECT (SELECT j FROM a) IS JSON", "select a"),
        (
            "SELECT xmlelement(name x, xmlattributes((SELECT 1 FROM a) AS y), (SELECT 2 FROM b))",
            "select a, select b",
        ),
        ("SELECT xmlserialize(content (SELECT x FROM a) AS text)", "select a"),
        (
            "SELECT xmlparse(document (SELECT x FROM a)), xmlconcat((SELECT x FROM b)), xmlforest((SELECT \
             1 FROM c) AS z)",
            "select a, select b, select c",
        ),
        ("SELECT (ARRAY[1,2])[(SELECT 1 FROM a):(SELECT 2 FROM b)]", "select a, select b"),
        ("SELECT ((SELECT c FROM a)).x", "select a"),
        ("SELECT ROW((SELECT 1 FROM a)), ARRAY[(SELECT 1 FROM b)]", "select a, select b"),
        ("SELECT (SELECT 1 FROM a)::text COLLATE \"C\"", "select a"),
        ("SELECT (SELECT 1 FROM a) AT TIME ZONE (SELECT z FROM b)", "select a, select b"),
        (
            "SELECT 1 WHERE (SELECT 1 FROM a) IS NULL AND NOT (SELECT true FROM b) IS TRUE",
            "select a, select b",
        ),
        ("SELECT x BETWEEN (SELECT 1 FROM a) AND (SELECT 2 FROM b) FROM c", "select a, select b, select c"),
        (
            "SELECT x LIKE (SELECT 'a' FROM a) ESCAPE (SELECT 'b' FROM b) FROM c",
            "select a, select b, select c",
        ),
        ("SELECT nullif((SELECT 1 FROM a), 1) IS DISTINCT FROM (SELECT 2 FROM b)", "select a, select b"),
        ("SELECT /* t */ 1 -- FROM u", "select"),
        ("SELECT 'FROM secret'", "select"),
        ("SELECT $$ FROM secret $$", "select"),
        ("SELECT * FROM a; SELECT * FROM b", "select a, select b"),
        ("SELECT 1; SELECT * FROM b", "select, select b"),
        ("DECLARE c CURSOR FOR SELECT * FROM t", "select t"),
        ("DECLARE c BINARY INSENSITIVE SCROLL CURSOR WITH HOLD FOR SELECT 1", "select"),
    ]);
}

#[test]
fn names_of_common_table_expressions_are_not_tables_where_they_are_in_scope() {
    check_all(&[
        ("WITH a AS (SELECT 1) SELECT * FROM a", "select"),
        ("WITH a AS (SELECT * FROM t) SELECT * FROM a", "select t"),
        ("WITH a AS (SELECT 1) SELECT * FROM public.a", "select public.a"),
        ("WITH a AS (SELECT * FROM a) SELECT * FROM a", "select a"),
        ("WITH RECURSIVE a AS (SELECT 1 UNION ALL SELECT * FROM a) SELECT * FROM a", "select"),
        ("WITH a AS (SELECT * FROM b), b AS (SELECT 1) SELECT * FROM a", "select b"),
        ("WITH RECURSIVE a AS (SELECT * FROM b), b AS (SELECT 1) SELECT * FROM a", "select"),
        ("WITH b AS (SELECT 1), a AS (SELECT * FROM b) SELECT * FROM a", "select"),
        ("SELECT * FROM (WITH a AS (SELECT 1) SELECT * FROM a) x, a", "select a"),
        ("WITH a AS (SELECT 1) SELECT (SELECT x FROM a), (SELECT 1 FROM a, b)", "select b"),
        ("WITH a AS (SELECT 1) SELECT * FROM (WITH b AS (SELECT * FROM a) SELECT * FROM b) x", "select"),
        ("WITH a AS (SELECT 1) SELECT 1 FROM a UNION SELECT 2 FROM a", "select"),
        ("(WITH a AS (SELECT 1) SELECT 1 FROM a) UNION SELECT 2 FROM a", "select a"),
        ("WITH a AS (SELECT 1) INSERT INTO a SELECT * FROM a", "insert a"),
        ("WITH a AS (SELECT 1) UPDATE a SET x = 1 FROM a b WHERE a.x = b.x", "update a, select a"),
        ("WITH a AS (SELECT 1) DELETE FROM t USING a WHERE a.x = t.x", "delete t, select t"),
        ("WITH a AS (SELECT 1) SELECT * FROM \"A\"", "select A"),
        (
            "WITH RECURSIVE a(x) AS (SELECT 1 UNION ALL SELECT x FROM a) CYCLE x SET c TO true DEFAULT \
             false USING p SELECT * FROM a, t",
            "select t",
        ),
    ]);
}

#[test]
fn writes_have_accesses_to_their_targets_and_to_what_they_read() {
    check_all(&[
        ("INSERT INTO t VALUES (1)", "insert t"),
        ("INSERT INTO s.t DEFAULT VALUES", "insert s.t"),
        ("INSERT INTO t SELECT * FROM u", "insert t, select u"),
        (
            "INSERT INTO t VALUES ((SELECT 1 FROM u)) RETURNING (SELECT 2 FROM v)",
            "insert t, select t, select u, select v",
        ),
        ("INSERT INTO t VALUES (1) ON CONFLICT DO NOTHING", "insert t"),
        (
            "INSERT INTO t VALUES (1) ON CONFLICT (x) WHERE EXISTS (TABLE u) DO UPDATE SET y = (SELECT 1 \
             FROM v) WHERE EXISTS (TABLE w)",
            "insert t, update t, select t, select u, select v, select w",
        ),
        ("UPDATE t SET x = 1", "update t"),
        ("UPDATE t SET x = y", "update t, select t"),
        ("UPDATE t SET x = 1 WHERE y = 2", "update t, select t"),
        ("UPDATE t SET x = 1 RETURNING x", "update t, select t"),
        ("UPDATE t SET x = u.x FROM u", "update t, select t, select u"),
        ("UPDATE t SET (a, b) = (SELECT 1, 2 FROM u)", "update t, select t, select u"),
        ("UPDATE t SET x[(SELECT 1 FROM u)] = 1 WHERE CURRENT OF c", "update t, select t, select u"),
        ("DELETE FROM t", "delete t"),
        ("DELETE FROM t WHERE x IN (SELECT x FROM u)", "delete t, select t, select u"),
        ("DELETE FROM t USING u WHERE true", "delete t, select t, select u"),
        (
            "MERGE INTO t USING u ON t.x = u.x WHEN MATCHED THEN DELETE WHEN NOT MATCHED THEN INSERT \
             VALUES ((SELECT 1 FROM v))",
            "merge t, select t, delete t, insert t, select u, select v",
        ),
        (
            "MERGE INTO t USING (SELECT * FROM u) z ON true WHEN MATCHED AND EXISTS (TABLE v) THEN UPDATE \
             SET x = (SELECT 1 FROM w) WHEN NOT MATCHED BY SOURCE THEN DO NOTHING RETURNING \
             merge_action()",
            "merge t, select t, update t, select u, select v, select w",
        ),
        ("WITH d AS (DELETE FROM t WHERE x = 1 RETURNING *) SELECT * FROM d", "delete t, select t"),
        ("WITH d AS (DELETE FROM t) SELECT 1", "delete t, select"),
        (
            "WITH i AS (INSERT INTO t VALUES (1) RETURNING 1) INSERT INTO u SELECT * FROM i",
            "insert t, select t, insert u",
        ),
        (
            "UPDATE pg_settings SET setting = 'x' WHERE name = 'role'",
            "update pg_settings, select pg_settings, set",
        ),
        ("SELECT * FROM t FOR UPDATE", "select t, lock t"),
        ("SELECT * FROM t FOR KEY SHARE SKIP LOCKED", "select t, lock t"),
        // PostgreSQL locks only `t`. The analysis ignores `OF` and locks every table of FROM.
        (
            "SELECT * FROM t x JOIN u ON true, (SELECT * FROM v) w FOR SHARE OF x",
            "select t, lock t, select u, lock u, select v, lock v",
        ),
        ("SELECT (SELECT 1 FROM u) FROM t FOR UPDATE", "select t, lock t, select u"),
        ("SELECT * FROM (SELECT * FROM t FOR UPDATE) x, u", "select t, lock t, select u"),
        ("SELECT 1 FOR UPDATE", "select, lock"),
        ("TRUNCATE t, s.u RESTART IDENTITY", "truncate t, truncate s.u"),
        // It empties what the text does not name.
        ("TRUNCATE t, s.u CASCADE", "truncate, truncate t, truncate s.u"),
        ("LOCK TABLE t, s.u IN ACCESS SHARE MODE", "select t, select s.u"),
        ("LOCK TABLE ONLY t IN ROW SHARE MODE", "lock t"),
        ("LOCK TABLE t, s.u IN ACCESS EXCLUSIVE MODE", "lock t, lock s.u"),
    ]);
}

#[test]
fn statements_in_other_statements_have_their_own_accesses() {
    check_all(&[
        ("EXPLAIN SELECT * FROM t", "explain, select t"),
        ("EXPLAIN SELECT 1", "explain"),
        ("EXPLAIN DELETE FROM t", "explain, select t"),
        ("EXPLAIN (ANALYZE false) DELETE FROM t", "explain, select t"),
        ("EXPLAIN (ANALYZE 0, VERBOSE) DELETE FROM t", "explain, select t"),
        ("EXPLAIN (ANALYZE OFF) DELETE FROM t", "explain, select t"),
        ("EXPLAIN ANALYZE DELETE FROM t", "explain, delete t"),
        ("EXPLAIN ANALYSE VERBOSE DELETE FROM t", "explain, delete t"),
        ("EXPLAIN (ANALYZE) DELETE FROM t", "explain, delete t"),
        ("EXPLAIN (ANALYSE) DELETE FROM t", "explain, delete t"),
        ("EXPLAIN (analyze 'on') DELETE FROM t", "explain, delete t"),
        ("EXPLAIN (ANALYZE 1) DELETE FROM t", "explain, delete t"),
        ("EXPLAIN (ANALYZE nonsense) DELETE FROM t", "explain, delete t"),
        ("EXPLAIN (ANALYZE true, ANALYZE false) DELETE FROM t", "explain, delete t"),
        ("EXPLAIN ANALYZE SELECT 1", "explain, select"),
        ("EXPLAIN ANALYZE EXECUTE p(1)", "explain, execute"),
        ("EXPLAIN ANALYZE CREATE TABLE t AS SELECT * FROM u", "explain, create t, select u"),
        ("EXPLAIN ANALYZE DECLARE c CURSOR FOR SELECT * FROM t", "explain, select t"),
        ("EXPLAIN ANALYZE REFRESH MATERIALIZED VIEW v", "explain, alter v"),
        ("PREPARE p AS SELECT * FROM t", "prepare, select t"),
        ("PREPARE p (int) AS DELETE FROM t WHERE x = $1", "prepare, delete t, select t"),
        ("PREPARE p AS SELECT 1", "prepare, select"),
        ("EXECUTE p", "execute"),
        ("EXECUTE p(1, f(2))", "execute"),
        ("DEALLOCATE p", "discard"),
        ("COPY t TO STDOUT", "copy-out t, select t"),
        ("COPY s.t (a, b) TO STDOUT WITH (FORMAT csv)", "copy-out s.t, select s.t"),
        ("COPY t FROM STDIN", "copy-in t"),
        ("COPY t FROM STDIN WHERE f(x) > 1", "copy-in t"),
        ("COPY (SELECT * FROM t JOIN u USING (x)) TO STDOUT", "copy-out t, copy-out u, select t, select u"),
        ("COPY (SELECT 1) TO STDOUT", "copy-out, select"),
        ("COPY (DELETE FROM t RETURNING *) TO STDOUT", "copy-out t, delete t, select t"),
        ("COPY t TO '/tmp/x'", "copy-out t, select t, server"),
        ("COPY t FROM '/etc/passwd'", "copy-in t, server"),
        ("COPY t FROM PROGRAM 'id'", "copy-in t, server"),
        ("COPY (TABLE t) TO PROGRAM 'cat'", "copy-out t, select t, server"),
        ("SELECT * INTO u FROM t", "create u, select t"),
        ("SELECT 1 INTO TEMP u", "create pg_temp.u, select"),
        ("CREATE TEMP TABLE t (x int) ON COMMIT DROP", "create pg_temp.t"),
        ("CREATE LOCAL TEMPORARY TABLE IF NOT EXISTS t AS TABLE u", "create pg_temp.t, select u"),
        ("CREATE TABLE pg_temp.t (x int)", "create pg_temp.t"),
        ("CREATE TEMP TABLE public.t (x int)", "create public.t"),
        ("CREATE TEMP TABLE t (LIKE u) INHERITS (v)", "create pg_temp.t, select u, alter v"),
        ("CREATE UNLOGGED TABLE t (x int)", "create t"),
        ("CREATE TEMP SEQUENCE q", "create pg_temp.q"),
        // A view writes through to what is below it: it counts as more than temporary.
        ("CREATE TEMP VIEW v AS TABLE u", "create, create pg_temp.v, select u"),
        ("CREATE VIEW pg_temp.v AS TABLE u", "create, create pg_temp.v, select u"),
        // What only names a table does not tell whether it is a temporary one.
        ("DROP TABLE pg_temp.t, t", "drop pg_temp.t, drop t"),
        ("CREATE INDEX ON pg_temp.t (x)", "create pg_temp.t"),
        ("CREATE TABLE u AS SELECT * FROM t", "create u, select t"),
        ("CREATE TABLE u AS EXECUTE p", "create u, execute"),
        ("CREATE MATERIALIZED VIEW s.v AS SELECT * FROM t WITH NO DATA", "create s.v, select t"),
        ("CREATE OR REPLACE VIEW v AS SELECT * FROM t", "create v, select t"),
        ("CREATE RECURSIVE VIEW v (n) AS VALUES (1) UNION ALL SELECT n FROM v, t", "create v, select t"),
    ]);
}

#[test]
fn statements_about_the_session_have_their_own_actions() {
    check_all(&[
        ("BEGIN", "transaction"),
        ("START TRANSACTION ISOLATION LEVEL SERIALIZABLE READ ONLY", "transaction"),
        ("COMMIT AND CHAIN", "transaction"),
        ("ABORT", "transaction"),
        ("SAVEPOINT s; ROLLBACK TO s; RELEASE s", "transaction"),
        ("PREPARE TRANSACTION 'x'", "other"),
        ("COMMIT PREPARED 'x'", "other"),
        ("ROLLBACK PREPARED 'x'", "other"),
        ("SET x.y = 1", "set"),
        ("SET TRANSACTION READ ONLY", "transaction"),
        ("SET TRANSACTION SNAPSHOT 'x'", "transaction"),
        ("SET CONSTRAINTS ALL DEFERRED", "transaction"),
        ("SHOW ALL", "show"),
        ("SHOW search_path", "show"),
        ("LISTEN c", "notify"),
        ("NOTIFY c, 'x'", "notify"),
        ("UNLISTEN *", "discard"),
        ("FETCH ALL FROM c", "fetch"),
        ("MOVE c", "fetch"),
        ("CLOSE ALL", "discard"),
        ("DISCARD ALL", "discard"),
        ("DISCARD PLANS", "discard"),
        ("DO $$ BEGIN DELETE FROM t; END $$", "call"),
        ("CALL p(1, (SELECT 1 FROM t))", "call, select t"),
        ("", "empty"),
        (" ;; /* SELECT */ -- x", "empty"),
        ("SELECT 1;;", "select"),
        ("BEGIN; UPDATE t SET x = 1; COMMIT", "transaction, update t"),
    ]);
}

#[test]
#[expect(clippy::too_many_lines, reason = "a plain list of statements")]
fn definitions_have_accesses_to_their_subject_and_to_what_they_mention() {
    check_all(&[
        ("CREATE TABLE t (x int DEFAULT f())", "create t"),
        (
            "CREATE TABLE t (x int REFERENCES u, FOREIGN KEY (x) REFERENCES s.v (y))",
            "create t, select u, select s.v",
        ),
        ("CREATE TABLE t (LIKE u INCLUDING ALL) INHERITS (v)", "create t, select u, alter v"),
        ("CREATE TABLE t PARTITION OF u FOR VALUES IN (1)", "create t, alter u"),
        ("CREATE TABLE t PARTITION OF u DEFAULT", "create t, alter u"),
        ("CREATE TABLE t OF y PARTITION BY RANGE (f(x))", "create t"),
        ("CREATE TABLE t (x int CHECK (x IN (SELECT x FROM u)))", "create t, select u"),
        ("CREATE TABLE t (c circle, EXCLUDE USING gist (c WITH &&) WHERE (f(c)))", "create t"),
        ("CREATE INDEX ON t (f(x)) WHERE y > 1", "create t"),
        ("CREATE SEQUENCE s.q", "create s.q"),
        ("CREATE SCHEMA s", "create"),
        (
            "CREATE SCHEMA s CREATE TABLE t (x int) CREATE VIEW v AS SELECT * FROM u",
            "create, create t, create v, select u",
        ),
        (
            "CREATE POLICY p ON t USING (x IN (SELECT x FROM u)) WITH CHECK (EXISTS (TABLE v))",
            "create, alter t, select u, select v",
        ),
        (
            "CREATE TRIGGER g BEFORE INSERT ON t FOR EACH ROW WHEN (new.x > 1) EXECUTE FUNCTION f()",
            "create, alter t",
        ),
        (
            "CREATE RULE r AS ON UPDATE TO t DO INSTEAD (DELETE FROM u WHERE x = 1; NOTIFY c)",
            "create, alter t, delete u, select u, notify",
        ),
        ("CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 1 FROM t'", "create"),
        ("CREATE FUNCTION f() RETURNS int RETURN (SELECT 1 FROM t)", "create, select t"),
        (
            "CREATE PROCEDURE p() BEGIN ATOMIC DELETE FROM t; INSERT INTO u TABLE v; END",
            "create, delete t, insert u, select v",
        ),
        ("CREATE EXTENSION dblink", "create"),
        ("CREATE DOMAIN d AS int CHECK (f(value))", "create"),
        ("CREATE TYPE e AS ENUM ('a')", "create"),
        ("CREATE TYPE c AS (x int)", "create"),
        ("CREATE AGGREGATE a (int) (SFUNC = f, STYPE = int)", "create"),
        ("CREATE STATISTICS z ON x, y FROM t", "create, select t"),
        ("CREATE PUBLICATION p FOR TABLE t WHERE (x > 1), u", "create, select t, select u"),
        ("CREATE PUBLICATION p FOR ALL TABLES", "create"),
        ("ALTER PUBLICATION p ADD TABLE s.t", "alter, select s.t"),
        ("CREATE SUBSCRIPTION s CONNECTION 'x' PUBLICATION p", "create"),
        ("CREATE SERVER s FOREIGN DATA WRAPPER w", "create"),
        ("CREATE USER MAPPING FOR u SERVER s", "create"),
        ("IMPORT FOREIGN SCHEMA x LIMIT TO (t) FROM SERVER s INTO y", "create, create t"),
        ("CREATE CAST (a AS b) WITH FUNCTION f(a)", "create"),
        ("CREATE DATABASE d", "create"),
        ("ALTER TABLE t ADD COLUMN x int DEFAULT f() REFERENCES u", "alter t, select u"),
        ("ALTER TABLE t ALTER x TYPE int USING f(x)", "alter t"),
        ("ALTER TABLE t ADD CONSTRAINT c FOREIGN KEY (x) REFERENCES u", "alter t, select u"),
        ("ALTER TABLE t ATTACH PARTITION u FOR VALUES FROM (1) TO (2)", "alter t, alter u"),
        ("ALTER TABLE t DETACH PARTITION u CONCURRENTLY", "alter t, alter u"),
        ("ALTER TABLE t INHERIT u", "alter t, alter u"),
        ("ALTER TABLE t DISABLE ROW LEVEL SECURITY", "alter t"),
        ("ALTER TABLE t REPLICA IDENTITY FULL", "alter t"),
        ("ALTER TABLE t OWNER TO r", "alter t"),
        ("ALTER TABLE t RENAME TO u", "alter t"),
        ("ALTER TABLE t RENAME x TO y", "alter t"),
        ("ALTER TABLE t SET SCHEMA s", "alter t"),
        ("ALTER TABLE t ADD GENERATED ALWAYS AS IDENTITY", "unparsed"),
        ("ALTER TABLE t ALTER x ADD GENERATED ALWAYS AS IDENTITY", "alter t"),
        ("ALTER VIEW v RENAME TO w", "alter v"),
        ("ALTER TYPE c ADD ATTRIBUTE x int", "alter"),
        ("ALTER TYPE e ADD VALUE 'b'", "alter"),
        ("ALTER FUNCTION f() OWNER TO r", "alter"),
        ("ALTER POLICY p ON t USING (EXISTS (TABLE u))", "alter t, select u"),
        ("ALTER SEQUENCE q RESTART", "alter q"),
        ("ALTER SCHEMA s RENAME TO y", "alter"),
        ("ALTER DATABASE d SET x.y = 1", "alter, set"),
        ("ALTER DATABASE d REFRESH COLLATION VERSION", "alter"),
        ("ALTER EXTENSION e ADD TABLE t", "alter, alter t"),
        ("ALTER TRIGGER g ON t RENAME TO h", "alter t"),
        ("REFRESH MATERIALIZED VIEW CONCURRENTLY s.v", "alter s.v"),
        ("COMMENT ON TABLE s.t IS 'x'", "alter s.t"),
        ("COMMENT ON COLUMN s.t.x IS 'x'", "alter s.t"),
        ("COMMENT ON FUNCTION f() IS 'x'", "alter"),
        ("SECURITY LABEL ON TABLE t IS 'x'", "alter t"),
        ("DROP TABLE t, s.u CASCADE", "drop t, drop s.u"),
        ("DROP VIEW IF EXISTS v", "drop v"),
        ("DROP MATERIALIZED VIEW v", "drop v"),
        ("DROP FOREIGN TABLE t", "drop t"),
        ("DROP INDEX i", "drop"),
        ("DROP FUNCTION f(int)", "drop"),
        ("DROP SCHEMA s CASCADE", "drop"),
        ("DROP TRIGGER g ON s.t", "drop, alter s.t"),
        ("DROP POLICY p ON t", "drop, alter t"),
        ("DROP OWNED BY r", "drop"),
        ("DROP DATABASE d", "drop"),
        ("DROP ROLE r", "grant"),
        ("GRANT SELECT ON t, s.u TO r", "grant t, grant s.u"),
        ("GRANT SELECT (x) ON TABLE t TO PUBLIC", "grant t"),
        ("GRANT ALL ON ALL TABLES IN SCHEMA s TO r", "grant"),
        ("GRANT EXECUTE ON FUNCTION f(int) TO r", "grant"),
        ("GRANT USAGE ON SCHEMA s TO r", "grant"),
        ("GRANT a TO b", "grant"),
        ("REVOKE ALL ON t FROM r", "grant t"),
        ("CREATE ROLE r SUPERUSER", "grant"),
        ("CREATE USER r PASSWORD 'x'", "grant"),
        ("ALTER ROLE r SUPERUSER", "grant"),
        ("ALTER ROLE r SET x.y = 1", "grant, set"),
        ("ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO r", "grant"),
        ("REASSIGN OWNED BY a TO b", "grant"),
        ("VACUUM", "maintenance"),
        ("VACUUM FULL t, s.u (x)", "maintenance t, maintenance s.u"),
        ("ANALYZE t", "maintenance t"),
        ("CLUSTER t USING i", "maintenance t"),
        ("REINDEX TABLE t", "maintenance t"),
        ("REINDEX DATABASE d", "maintenance"),
        ("CHECKPOINT", "maintenance"),
        ("ALTER SYSTEM SET x = 1", "server"),
        ("LOAD 'x'", "server"),
    ]);
}

#[test]
fn statements_that_are_not_understood_are_unparsed_or_other() {
    check_all(&[
        ("SELEC 1", "unparsed"),
        ("SELECT 1; SELECT * FROM", "unparsed"),
        ("SELECT 'x", "unparsed"),
        ("SELECT 1 /* ", "unparsed"),
        ("SELECT \0 1", "unparsed"),
        ("\\d", "unparsed"),
        ("CREATE FOREIGN TABLE t (x int) SERVER s", "other"),
    ]);
    for bad in [&b"SELECT '\xff'"[..], b"\xff", b"SELECT 1\0; DROP TABLE t"] {
        let analysis = analyze(bad);
        assert_eq!(spelled(&analysis.facts), ["unparsed"]);
        assert!(analysis.unparsed.is_some());
        // Both facts assume the worst that the text could do.
        let sql = analysis.facts.sql().unwrap();
        assert!(!sql.has_where && sql.writes_in_cte);
    }
}
