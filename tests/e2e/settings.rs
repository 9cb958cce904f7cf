//! Settings: which a job may change, by whichever statement; pg_dump, which changes one that it names by a
//! column; and the search path, by which unqualified names are followed.

use std::fs;

use lineal_tests::{Lab, command::Finished, script::PYTHON};
use serde_json::json;

use crate::shared::{WIRE, decisions_on, lab, lines, own_lab, text};

/// The groups that the shipped policies know.
const GROUPS: [&str; 3] = ["contractors", "ci", "migrations"];

/// A policy that closes a schema to everyone.
const NO_HR: &str = "@id(\"no-hr\")\n\
                     forbid (principal, action in Action::\"sql\", resource is Table)\n\
                     when { resource.schema == \"hr\" };\n";

/// Runs a command as a job of one group.
fn run_as(lab: &Lab, group: &str, command: &[&str]) -> Finished {
    let token = lab.issuer.mint(&json!({ "claims": { "groups": [group] } })).unwrap();
    let file = lab.directory().join(format!("token-{group}"));
    fs::write(&file, token).unwrap();
    let mut arguments = vec!["run", "--token-file", file.to_str().unwrap(), "--name", group, "--"];
    arguments.extend(command);
    lab.ask(&arguments).unwrap()
}

/// Runs statements by psql, one by one, as a job of one group.
fn psql_as(lab: &Lab, group: &str, statements: &[&str]) -> Finished {
    let mut command = vec!["psql", "-XAtq", "-v", "VERBOSITY=verbose"];
    for statement in statements {
        command.extend(["-c", statement]);
    }
    run_as(lab, group, &command)
}

/// A lab whose shop has a schema `hr` with salaries, which a policy closes.
fn lab_without_hr() -> Lab {
    let mut lab = own_lab();
    let sql = "CREATE SCHEMA hr; CREATE TABLE hr.salaries AS SELECT 1 AS id, 100 AS amount; \
               GRANT USAGE ON SCHEMA hr TO app; GRANT SELECT ON hr.salaries TO app";
    lab.postgres.admin("shop", sql).unwrap();
    lab.set_policies(NO_HR).unwrap();
    lab
}

#[test]
fn a_dump_by_a_job_is_the_same_as_a_direct_one() {
    let lab = lab();
    let dump = ["pg_dump", "--restrict-key=lineal"];
    let mut direct = std::process::Command::new("pg_dump");
    direct.arg("--restrict-key=lineal").envs(lab.client_variables());
    let direct = lineal_tests::command::finish(&mut direct).unwrap().success().unwrap();
    assert!(direct.contains("COPY public.orders"), "{direct}");
    for group in GROUPS {
        let done = run_as(lab, group, &dump);
        assert_eq!(done.code, Some(0), "{group}: {}", done.stderr);
        assert!(done.stdout == direct, "{group}: the dumps differ");
    }
}

#[test]
fn pg_dumps_own_setting_can_be_changed_where_its_name_is_a_column() {
    // The lab's own pg_dump may be older than this statement, which the server's newer minor versions know.
    let statement = "SELECT set_config(name, 'view, foreign-table', false) FROM pg_settings \
                     WHERE name = 'restrict_nonsystem_relation_kind'";
    for group in GROUPS {
        let done = psql_as(lab(), group, &[statement, "SELECT 1"]);
        assert_eq!(lines(&done).last(), Some(&"1"), "{done:?}");
    }
}

#[test]
fn harmless_settings_can_be_changed_by_every_statement_that_changes_settings() {
    for group in GROUPS {
        let changes = [
            "SET work_mem = '1MB'",
            "SET SESSION jit = off",
            "BEGIN; SET LOCAL enable_seqscan = off; COMMIT",
            "SET TIME ZONE 'UTC'",
            "SET NAMES 'UTF8'",
            "SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL SERIALIZABLE",
            "SET SCHEMA 'public'",
            "SET search_path = \"$user\", public",
            "SET row_security = off",
            "SET app.tenant = '7'",
            "RESET work_mem",
            "RESET ALL",
            "DISCARD ALL",
            "SELECT set_config('TimeZone', 'UTC', false)",
            "SELECT pg_catalog.set_config('search_path', '', false)",
            "SELECT set_config('client_encoding', 'utf-8', false)",
            "SELECT 'passed'",
        ];
        let done = psql_as(lab(), group, &changes);
        assert!(lines(&done).contains(&"passed") && done.stderr.is_empty(), "{group}: {done:?}");
    }
}

#[test]
fn settings_that_give_rights_or_change_meanings_are_denied_however_they_are_changed() {
    let attempts = [
        "SET ROLE app",
        "SET SESSION AUTHORIZATION app",
        "SELECT set_config('role', 'app', false)",
        "SELECT set_config(name, 'app', false) FROM (VALUES ('role')) AS s (name) WHERE name = 'role'",
        "SELECT CASE WHEN true THEN set_config('ROLE', 'app', true) END",
        "WITH a AS (SELECT set_config(is_local => true, setting_name => 'role', new_value => 'app')) \
         TABLE a",
        "SET transform_null_equals = on",
        "SET synchronous_commit = off",
        "SET local_preload_libraries = 'x'",
        "SET auto_explain.log_min_duration = 0",
        "SELECT set_config(current_user, 'x', false)",
        "UPDATE pg_settings SET setting = 'app' WHERE name = 'role'",
        "SELECT set_config('search_path', current_user, false)",
    ];
    for attempt in attempts {
        let done = psql_as(lab(), "migrations", &[attempt, "SELECT 'alive'"]);
        assert!(done.stderr.contains("42501") && done.stdout.contains("alive"), "{attempt}: {done:?}");
    }
}

#[test]
fn a_denial_of_a_setting_that_cannot_be_told_says_what_to_write_instead() {
    let done = psql_as(lab(), "ci", &["SELECT set_config(a, 'x', true) FROM (VALUES ('jit')) AS s (a)"]);
    assert!(done.stderr.contains("HINT:  write the setting's name in set_config as a constant"), "{done:?}");
    let done = psql_as(lab(), "ci", &["SELECT set_config('search_path', current_user, true)"]);
    assert!(done.stderr.contains("HINT:  write the schemas of search_path as constants"), "{done:?}");
}

#[test]
fn a_setting_that_a_parameter_names_is_decided_by_its_bound_value() {
    // psycopg binds on the server; its Parse leaves the types of the parameters to the server or says text.
    let script = r#"
import psycopg
with psycopg.connect(autocommit=True) as connection:
    for name, value in (("work_mem", "2MB"), ("app.tenant", "7"), ("role", "app"), ("search_path", "public"),
                        ("client_encoding", "UTF8"), ("client_encoding", "SJIS"),
                        ("standard_conforming_strings", "off"), ("role ", "app"), (None, "x")):
        for prepare in (False, True):
            try:
                print(connection.execute("SELECT set_config(%s, %s, false)", (name, value), prepare=prepare)
                      .fetchone()[0])
            except psycopg.Error as error:
                print(error.sqlstate)
"#;
    let done = run_as(lab(), "ci", &[PYTHON, "-c", script]);
    let expect = ["2MB", "7", "42501", "public", "UTF8", "42501", "42501", "42501", "42501"];
    let expect: Vec<_> = expect.iter().flat_map(|said| [*said, *said]).collect();
    assert_eq!(lines(&done), expect, "{done:?}");
}

#[test]
fn no_statement_is_read_wrongly_behind_a_change_of_a_setting_that_cannot_be_told() {
    let mut lab = own_lab();
    lab.allow_all().unwrap();
    // Client → lineal, in one send: a change of a setting whose name is computed, and a text that is two
    // statements for a server that reads backslashes in literals. Back: the change, and the end of the
    // session before the text was sent.
    let script = format!(
        r#"{WIRE}
raw.sendall(query("CREATE TEMP TABLE pg_settings (name text); "
                  "INSERT INTO pg_settings VALUES ('standard_conforming_strings')"))
print(replies(1))
raw.sendall(parse("", "SELECT set_config(lower('Work_Mem'), '1MB', false)") + bind("", "") + execute("")
            + parse("", "SELECT 2") + bind("", "") + execute("") + SYNC + query("SELECT 3"))
print(replies(2))
raw.sendall(query("SELECT set_config(name, 'off', false) FROM pg_settings")
            + query(r"SELECT '\'; SELECT 1, 'x'; --'"))
try:
    print(replies(2), flush=True)
except ConnectionResetError:
    print(["CLOSED"])
"#
    );
    let done = lab.python(&script).unwrap();
    let said = lines(&done);
    assert_eq!(said.len(), 3, "{done:?}");
    assert_eq!(said[0], "['CREATE TABLE', 'INSERT 0 1']");
    assert!(said[1].contains("42501 lineal: denied: which setting a command before it"), "{done:?}");
    assert_eq!(said[1].matches("SELECT 1").count(), 2, "{done:?}");
    assert!(!said[2].contains("SELECT 1', 'row'") && said[2].ends_with("'CLOSED']"), "{done:?}");
    assert!(decisions_on(&lab, "SELECT 1, 'x'").is_empty());
}

#[test]
fn a_schema_on_the_search_path_is_followed_to_unqualified_names() {
    let lab = lab_without_hr();
    let read = "SELECT amount FROM salaries";
    let ways: [&[&str]; 7] = [
        &["SET search_path = hr", read],
        &["SET search_path = hr; SELECT amount FROM salaries"],
        &["SET SCHEMA 'hr'", read],
        &["SELECT set_config('search_path', '\"hr\"', false)", read],
        &["BEGIN", "SET LOCAL search_path TO public, HR", read],
        &["SET search_path = hr", "PREPARE q AS SELECT amount FROM salaries", "EXECUTE q"],
        &["SET search_path = hr", "COPY salaries TO STDOUT"],
    ];
    for way in ways {
        let done = psql_as(&lab, "ci", way);
        assert!(done.stderr.contains("policy no-hr forbids"), "{way:?}: {done:?}");
        assert!(!done.stdout.lines().any(|line| line == "100"), "{way:?}: {done:?}");
    }
    let startup = run_as(&lab, "ci", &["env", "PGOPTIONS=-c search_path=hr", "psql", "-XAtqc", read]);
    assert!(startup.stderr.contains("policy no-hr forbids"), "{startup:?}");
    // Other names, and other schemas, stay open.
    let open = psql_as(&lab, "ci", &["SET search_path = public", "SELECT count(*) FROM products"]);
    assert_eq!(lines(&open), ["200"]);
    let last = decisions_on(&lab, "FROM products").pop().unwrap();
    assert_eq!(text(&last, "/decision"), "allow", "{last}");
    assert!(last.to_string().contains("shop/shop.public.products"), "{last}");
}

#[test]
fn a_statement_prepared_before_its_name_gets_another_meaning_is_decided_by_the_new_one() {
    let lab = lab_without_hr();
    lab.postgres
        .admin(
            "shop",
            "CREATE TABLE salaries AS SELECT 2 AS id, 5 AS amount; \
                                GRANT SELECT ON salaries TO app",
        )
        .unwrap();
    // Client → lineal → server: a statement by Parse and one by PREPARE, each run before the path changes and
    // again after it. Back: rows, then denials; and the path of a transaction that was rolled back counts
    // still.
    let script = format!(
        r#"{WIRE}
raw.sendall(parse("p", "SELECT amount FROM salaries") + bind("", "p") + execute("") + SYNC
            + query("PREPARE q AS SELECT amount FROM salaries") + query("EXECUTE q"))
print(*replies(3))
raw.sendall(query("BEGIN") + query("SET LOCAL search_path = hr") + query("ROLLBACK"))
print(*replies(3))
raw.sendall(bind("", "p") + execute("") + SYNC)
print(*replies(1))
raw.sendall(query("EXECUTE q"))
print(*replies(1))
raw.sendall(query("SELECT count(*) FROM public.salaries"))
print(*replies(1))
"#
    );
    let done = run_as(&lab, "ci", &[PYTHON, "-c", &script]);
    let said = lines(&done);
    assert_eq!(said.len(), 5, "{done:?}");
    assert_eq!(said[..2], ["row SELECT 1 PREPARE row SELECT 1", "BEGIN SET ROLLBACK"], "{done:?}");
    for denied in &said[2..4] {
        assert!(denied.starts_with("42501 lineal: denied") && denied.contains("no-hr"), "{done:?}");
    }
    assert_eq!(said[4], "row SELECT 1", "{done:?}");
}

#[test]
fn a_session_that_uses_too_many_schemas_is_denied_more() {
    let mut statements: Vec<String> = (0..17).map(|i| format!("SET search_path = s{i}")).collect();
    statements.push("SELECT 'alive'".to_owned());
    let statements: Vec<&str> = statements.iter().map(String::as_str).collect();
    let done = psql_as(lab(), "ci", &statements);
    assert!(done.stderr.contains("too many schemas, more than 16"), "{done:?}");
    assert_eq!(lines(&done), ["alive"]);
}
