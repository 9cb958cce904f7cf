//! Long texts and texts that do much are decided as short ones are, and what is too long or too much is
//! denied in words that say the bound. A job that sends many of them waits for itself.

use std::fs;

use lineal_tests::{
    Lab,
    command::{Finished, PATIENCE, finish},
    script::PYTHON,
};
use serde_json::json;

use crate::shared::{counted, decisions_on, lines, own_lab, text};

/// A lab whose database has a schema that jobs may build in.
fn building_lab() -> Lab {
    let lab = own_lab();
    let made = "CREATE SCHEMA big AUTHORIZATION app; CREATE TABLE big.blobs (name text, bytes bytea); \
                ALTER TABLE big.blobs OWNER TO app";
    lab.postgres.admin("shop", made).unwrap();
    lab
}

/// Runs a command as a job of this group, to its end.
fn run_as(lab: &Lab, group: &str, command: &[&str]) -> Finished {
    let token = lab.issuer.mint(&json!({"claims": {"groups": [group]}})).unwrap();
    let file = lab.directory().join(format!("token-{group}"));
    fs::write(&file, token).unwrap();
    let mut arguments = vec!["run", "--token-file", file.to_str().unwrap(), "--name", group, "--"];
    arguments.extend(command);
    finish(&mut lab.lineal(&arguments).unwrap()).unwrap()
}

/// Runs a command outside every job, to its end.
fn direct(lab: &Lab, command: &[&str]) -> Finished {
    let mut plain = std::process::Command::new(command[0]);
    plain.args(&command[1..]);
    finish(&mut lab.inside(&plain)).unwrap()
}

#[test]
fn ten_thousand_statements_in_one_text_build_a_schema_as_direct() {
    let lab = building_lab();
    // The server's table of locks has no room for all in one transaction.
    let script = r#"
import psycopg
made = [f"CREATE TABLE big.t{n:05} (id int);" for n in range(10000)]
parts = ["BEGIN;" + "".join(made[at:at + 500]) + "COMMIT;" for at in range(0, 10000, 500)]
with psycopg.connect(autocommit=True) as connection:
    connection.execute("".join(parts))
    count = "SELECT count(*) FROM pg_catalog.pg_tables WHERE schemaname = 'big' AND tablename LIKE 't%'"
    print(connection.execute(count).fetchone()[0])
    dropped = ", ".join(f"big.t{n:05}" for n in range(500))
    connection.execute(f"DROP TABLE {dropped}")
    print(connection.execute(count).fetchone()[0])
"#;
    let in_job = run_as(&lab, "migrations", &[PYTHON, "-c", script]);
    assert_eq!(lines(&in_job), ["10000", "9500"]);
    let [row] = decisions_on(&lab, "CREATE TABLE big.t09999").try_into().unwrap();
    assert_eq!(row["actions"].as_array().map(Vec::len), row["resources"].as_array().map(Vec::len));
    assert!(row["resources"].as_array().unwrap().len() > 10_000);
    assert_eq!(row["outcome"]["error"], json!(null));
}

#[test]
fn a_text_with_any_number_of_accesses_up_to_the_bound_runs_as_direct() {
    let lab = building_lab();
    for count in [512, 513, 1_024, 1_025, 3_000] {
        let names: Vec<_> = (0..count).map(|n| format!("big.no{n}")).collect();
        let psql = [
            "psql",
            "-XAtc",
            &format!("SET client_min_messages = warning; DROP TABLE IF EXISTS {}", names.join(",")),
        ];
        let (in_job, without) = (run_as(&lab, "migrations", &psql), direct(&lab, &psql));
        assert_eq!(
            (in_job.code, &*in_job.stdout, &*in_job.stderr),
            (Some(0), &*without.stdout, &*without.stderr),
            "{count}"
        );
    }
}

#[test]
fn a_text_beyond_a_bound_is_denied_in_words_that_say_the_bound_and_the_session_goes_on() {
    let mut lab = building_lab();
    let attempts = [
        ("attempt('DROP TABLE IF EXISTS ' + tables(32769))", "at most 32768"),
        ("attempt('SELECT 1 FROM ' + tables(1025), prepare=True)", "at most 1024"),
        ("attempt('SELECT 1 WHERE 1 IN (1' + ',1' * (1 << 20) + ')')", "more than 2097152 tokens"),
        ("attempt('SELECT ' + repr('x' * (16 << 20)))", "at most 16777216 (16 MiB)"),
        ("attempt('SELECT ' + repr('x' * (17 << 20)))", "more than 16 MiB"),
    ];
    for (attempt, bound) in attempts {
        let script = format!(
            r#"
import psycopg
with psycopg.connect(autocommit=True) as connection:
    def attempt(text, **how):
        try:
            connection.execute(text, **how)
            print("ran")
        except psycopg.Error as error:
            print(error.sqlstate, error.diag.message_primary)
    tables = lambda count: ", ".join(f"big.no{{n}}" for n in range(count))
    {attempt}
    print(connection.execute("SELECT 1").fetchone()[0])
"#
        );
        let in_job = run_as(&lab, "migrations", &[PYTHON, "-c", &script]);
        let said = lines(&in_job);
        assert!(said[0].starts_with("42501 lineal: denied") && said[0].contains(bound), "{said:?}");
        assert_eq!(said[1..], ["1"]);
    }
    assert!(counted(&mut lab, "lineal_bounds_total{bound=\"message_bytes\"}") >= 1);
}

/// The driver writes the values into the text, as psycopg2 does.
const LITERALS: &str = r#"
import hashlib, psycopg
with psycopg.connect(autocommit=True, cursor_factory=psycopg.ClientCursor) as connection:
    for mebibytes in (4, 15):
        value = (hashlib.sha256(b"%d" % mebibytes).digest() * (mebibytes << 14))[:(mebibytes << 19) - 200]
        insert = "INSERT INTO big.blobs VALUES (%s, %s) RETURNING length(bytes), md5(bytes)"
        cursor = connection.cursor()
        row = cursor.execute(insert, (f"client {mebibytes}", value)).fetchone()
        print(row == (len(value), hashlib.md5(value).hexdigest()), *row)
        text = cursor.mogrify(insert, (f"client {mebibytes}", value))
        print("whole", len(text), hashlib.sha256(text.encode()).hexdigest())
        # By Parse, and twice.
        with psycopg.Cursor(connection) as prepared:
            text = f"SELECT length('{value.hex()}'), %s::int"
            for n in range(2):
                print(*prepared.execute(text, (n,), prepare=True).fetchone())
    rows = [f"({n}, 'row {n} has a name')" for n in range(100000)]
    values = "WITH v(id, name) AS (VALUES " + ", ".join(rows) + ") SELECT count(*), max(name) FROM v"
    print(len(values) > 1 << 20, *connection.execute(values).fetchone())
"#;

#[test]
fn long_literals_reach_the_server_as_direct_and_the_trail_keeps_their_beginning_and_hash() {
    let lab = building_lab();
    let in_job = run_as(&lab, "contractors", &[PYTHON, "-c", LITERALS]);
    let without = direct(&lab, &[PYTHON, "-c", LITERALS]);
    assert_eq!(lines(&in_job), lines(&without));
    let rows = decisions_on(&lab, "INSERT INTO big.blobs");
    let wholes: Vec<_> = in_job.stdout.lines().filter_map(|line| line.strip_prefix("whole ")).collect();
    let recorded: Vec<_> = rows
        .iter()
        .map(|row| {
            assert!(text(row, "/statement/text").len() <= 1 << 20);
            let whole = &row["statement"]["whole"];
            format!("{} {}", whole["bytes"], text(whole, "/sha256"))
        })
        .collect();
    assert_eq!(recorded, wholes);
    let trail = lab.trail();
    lines(&lab.ask(&["audit", "verify", "--dir", trail.to_str().unwrap()]).unwrap());
}

/// 25 sessions of one job each send a text of 15 MiB that takes long to read, as fast as they can.
const FLOOD: &str = r#"
import psycopg, threading
text = "SELECT 1 WHERE 1 IN (1" + ",1" * 200000 + ") AND '" + "x" * (13 << 20) + "' = ''"
sessions = [psycopg.connect(autocommit=True) for _ in range(25)]
print("ready", flush=True)
threads = [threading.Thread(target=session.execute, args=(text,)) for session in sessions]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print("done", flush=True)
"#;

#[test]
fn a_job_that_sends_many_long_texts_at_once_holds_up_itself_and_no_other_job() {
    let mut lab = own_lab();
    let flood = lab.job("flood", &[PYTHON, "-c", FLOOD]).unwrap();
    let mut flood = lab.converse("flood", &flood).unwrap();
    assert_eq!(flood.line(PATIENCE).unwrap(), "ready");
    let waits = "lineal_bounds_total{bound=\"long_readings\"}";
    while counted(&mut lab, waits) == 0 {}
    let other = r#"
import psycopg
with psycopg.connect(autocommit=True) as connection:
    print(sum(connection.execute("SELECT 1").fetchone()[0] for _ in range(200)))
"#;
    assert_eq!(lines(&lab.python(other).unwrap()), ["200"]);
    let read = decisions_on(&lab, "SELECT 1 WHERE 1 IN").len();
    assert!(read < 25, "all long texts were decided before the other job's statements");
    assert_eq!(flood.line(10 * PATIENCE).unwrap(), "done");
    assert!(counted(&mut lab, "lineal_bounds_total{bound=\"long_messages\"}") > 0);
}
