//! Rarely used parts of PostgreSQL's protocol, against a real server, in the clear and with TLS on both legs.

use std::{env, fs, process::Command, sync::OnceLock};

use lineal_tests::{
    Lab,
    command::{PATIENCE, finish, finish_within},
    postgres::program,
    script::PYTHON,
};

use crate::shared::{WIRE, WIRE_MESSAGES, lines, verified_lab};

/// A lab whose policies allow everything except the table `forbidden`.
fn permissive_lab() -> Lab {
    let mut lab = verified_lab();
    lab.allow_all().unwrap();
    lab.set_policies(
        "@id(\"all\") permit (principal, action, resource);\n\
         @id(\"hands-off\") forbid (principal, action in Action::\"sql\", resource is Table) \
         when { resource.name == \"forbidden\" };\n",
    )
    .unwrap();
    lab.postgres.admin("shop", "GRANT CREATE ON SCHEMA public TO app").unwrap();
    lab
}

/// One lab for all tests of this file that leave it as they found it.
fn lab() -> &'static Lab {
    static LAB: OnceLock<Lab> = OnceLock::new();
    LAB.get_or_init(permissive_lab)
}

/// Runs Python once without and once with TLS, and expects the same lines; `MODE` in the script stands for
/// libpq's `sslmode`.
fn check(script: &str, expected: &[&str]) {
    for mode in ["disable", "verify-full"] {
        let done = lab().python(&script.replace("MODE", mode)).unwrap();
        assert_eq!(lines(&done), expected, "{mode}: {done:?}");
    }
}

/// Cuts the message of each denial after the name of the policy.
const SHORT_DENIALS: &str = r#"
whole_replies = replies
def replies(readies): return [said.split(': policy')[0] for said in whole_replies(readies)]
"#;

/// Runs a script that speaks the protocol by hand, see [`WIRE`], and expects these lines.
fn check_wire(script: &str, expected: &[&str]) {
    let done = lab().python(&format!("{WIRE}{SHORT_DENIALS}{script}")).unwrap();
    assert_eq!(lines(&done), expected, "{done:?}");
}

#[test]
fn startup_options_reach_the_server_byte_for_byte() {
    let script = r#"
import psycopg
# The server's own way to quote: a backslash in front of a space and of a backslash.
options = r"-c application_name=two\ words\\and\ more --search-path=pg_catalog -cstatement_timeout=4321ms"
with psycopg.connect(options=options, sslmode="MODE") as connection:
    for name in ("search_path", "statement_timeout", "application_name"):
        print(connection.execute("SELECT current_setting(%s)", (name,)).fetchone()[0])
    connection.execute("SET application_name = 'another'")
    print(connection.info.parameter_status("application_name"))
"#;
    let mut direct = Command::new(PYTHON);
    direct.args(["-c", &script.replace("MODE", "disable")]);
    let direct = finish(&mut lab().inside(&direct)).unwrap();
    let expected = lines(&direct);
    assert_eq!(expected, ["pg_catalog", "4321ms", "two words\\and more", "another"]);
    check(script, &expected);
}

#[test]
fn replication_is_refused_by_name() {
    let script = r#"
import psycopg
for kind in ("database", "true", "on"):
    try:
        psycopg.connect(replication=kind, sslmode="MODE")
    except psycopg.OperationalError as error:
        print("replication" in str(error) and "lineal" in str(error))
"#;
    check(script, &["True", "True", "True"]);
}

#[test]
fn a_newer_protocol_version_is_negotiated_down() {
    let script = format!("{WIRE_MESSAGES}{}", include_str!("wire/negotiation.py"));
    let done = lab().python(&script).unwrap();
    assert_eq!(lines(&done), ["v True", "['T', 'D', 'C', 'Z']"], "{done:?}");
}

#[test]
fn partial_executes_flushes_and_pipelined_syncs_are_answered_in_order() {
    check_wire(
        include_str!("wire/pipelining.py"),
        &[
            "['BEGIN', 'row', 'row', 'suspended', 'row', 'row', 'suspended', 'row', 'SELECT 1']",
            "2Ds",
            "['ROLLBACK']",
            "['22012 division by zero', 'row', 'SELECT 1', \
             '42501 lineal: denied by policy hands-off', 'row', 'SELECT 1']",
            "['value 7']",
        ],
    );
}

#[test]
fn what_was_sent_before_the_end_is_done_and_answered() {
    check_wire(include_str!("wire/last_words.py"), &["120 60"]);
}

#[test]
fn a_server_that_ends_a_session_is_heard_by_a_client_that_is_still_sending() {
    let script = format!("{WIRE}{}", include_str!("wire/server_ends.py"));
    let mut direct = Command::new(PYTHON);
    direct.args(["-c", &script]);
    let direct = finish(&mut lab().inside(&direct)).unwrap();
    assert_eq!(lines(&direct), ["True"; 6], "{direct:?}");
    check_wire(include_str!("wire/server_ends.py"), &lines(&direct));
}

#[test]
fn statements_that_sql_deallocates_never_add_up() {
    check_wire(include_str!("wire/deallocated.py"), &["DEALLOCATE"]);
}

#[test]
fn the_session_continues_after_copies_that_succeed_fail_or_are_denied() {
    let script = r#"
import psycopg
connection = psycopg.connect(sslmode="MODE", autocommit=True)
def count(): return connection.execute("SELECT count(*) FROM copied").fetchone()[0]
def copy_in(statement, rows):
    with connection.cursor().copy(statement) as copy:
        for row in rows:
            copy.write_row(row)
connection.execute("DROP TABLE IF EXISTS copied")
connection.execute("CREATE TABLE copied (n integer PRIMARY KEY, t text)")
copy_in("COPY copied FROM STDIN", ((n, "x" * 50) for n in range(20000)))
print(count())
# The server fails at the second row, while the client still sends many.
try:
    copy_in("COPY copied FROM STDIN", ((max(n, 5), "x" * 50) for n in range(4, 100000)))
except psycopg.errors.UniqueViolation:
    print("violation", count())
def gives_up():
    yield 20000, "x"
    raise KeyError
try:
    copy_in("COPY copied FROM STDIN", gives_up())
except psycopg.errors.QueryCanceled:
    print("given up", count())
try:
    copy_in("COPY forbidden FROM STDIN", ((n, "x" * 50) for n in range(100000)))
except psycopg.errors.InsufficientPrivilege as error:
    print(str(error).split(": policy")[0], connection.info.transaction_status.name)
try:
    copy_in("COPY copied FROM STDIN WHERE n IN (SELECT n FROM forbidden)", [(1, "x")])
except psycopg.errors.InsufficientPrivilege as error:
    print(str(error).split(": policy")[0])
seen = 0
try:
    failing = "COPY (SELECT 1 / (50000 - n) FROM generate_series(1, 60000) n) TO STDOUT"
    with connection.cursor().copy(failing) as copy:
        for row in copy.rows():
            seen += 1
except psycopg.errors.DivisionByZero:
    print("division", 0 < seen < 50000)
with connection.transaction():
    copy_in("COPY copied FROM STDIN", ((n, "x") for n in range(20000, 20010)))
    with connection.cursor().copy("COPY copied TO STDOUT") as copy:
        print(sum(1 for _ in copy.rows()))
"#;
    check(
        script,
        &[
            "20000",
            "violation 20000",
            "given up 20000",
            "lineal: denied by policy hands-off IDLE",
            "lineal: denied by policy hands-off",
            "division True",
            "20010",
        ],
    );
}

#[test]
fn copy_data_sent_ahead_reaches_its_copy_and_later_queries_are_answered() {
    check_wire(
        include_str!("wire/copy.py"),
        &[
            "['42501 lineal: denied by policy hands-off']",
            "['CREATE TABLE', 'COPY 1000', '42501 lineal: denied by policy hands-off', 'row', 'SELECT 1']",
            "['57014 changed my mind', 'row', 'SELECT 1']",
            "['COPY 1000']",
        ],
    );
}

#[test]
fn libpq_pipeline_mode_gets_its_results_in_order() {
    let script = r#"
from psycopg import pq
connection = pq.PGconn.connect(b"sslmode=MODE")
connection.enter_pipeline_mode()
for n in range(3000):
    connection.send_query_params(b"SELECT $1::int", [str(n).encode()])
connection.pipeline_sync()
connection.send_query_params(b"SELECT * FROM forbidden", None)
connection.send_query_params(b"SELECT 1", None)
connection.pipeline_sync()
connection.send_query_params(b"SELECT 'after'", None)
connection.pipeline_sync()
values, outcomes, syncs = [], [], 0
while syncs < 3:
    result = connection.get_result()
    if result is None:
        continue
    syncs += result.status == pq.ExecStatus.PIPELINE_SYNC
    if result.status == pq.ExecStatus.TUPLES_OK:
        values.append(result.get_value(0, 0).decode())
    else:
        state = result.error_field(pq.DiagnosticField.SQLSTATE)
        outcomes.append(state.decode() if state else pq.ExecStatus(result.status).name)
print(values[:-1] == [str(n) for n in range(3000)], values[-1])
print(outcomes)
"#;
    let outcomes = "['PIPELINE_SYNC', '42501', 'PIPELINE_ABORTED', 'PIPELINE_SYNC', 'PIPELINE_SYNC']";
    check(script, &["True after", outcomes]);
}

#[test]
fn pgbench_runs_in_every_query_mode() {
    let lab = lab();
    let script = lab.directory().join("bench.sql");
    fs::write(&script, "\\set id random(1, 5000)\nSELECT total FROM orders WHERE id = :id;\n").unwrap();
    let pgbench = program("pgbench").unwrap();
    let (pgbench, script) = (pgbench.to_str().unwrap(), script.to_str().unwrap());
    for sslmode in ["disable", "verify-full"] {
        for mode in ["simple", "extended", "prepared"] {
            let arguments = [pgbench, "-n", "-M", mode, "-c", "4", "-t", "50", "-f", script];
            let done = finish(lab.job("pgbench", &arguments).unwrap().env("PGSSLMODE", sslmode)).unwrap();
            let out = lines(&done).join("\n");
            let all = "number of transactions actually processed: 200/200";
            assert!(out.contains(all), "{sslmode}, {mode}: {out}");
        }
    }
}

#[test]
fn many_concurrent_cancels_end_their_own_statements_only() {
    let script = r#"
import psycopg, threading
count = 24
sessions = [psycopg.connect(sslmode="MODE", autocommit=True) for _ in range(count)]
watch = psycopg.connect(sslmode="MODE", autocommit=True)
ended = {}
def run(index):
    try:
        sessions[index].execute("SELECT pg_sleep(600) AS many_at_once")
    except psycopg.errors.QueryCanceled:
        ended[index] = True
runs = [threading.Thread(target=run, args=(index,)) for index in range(count)]
for thread in runs: thread.start()
SLEEPING = ("SELECT count(*) FROM pg_stat_activity "
            "WHERE wait_event = 'PgSleep' AND query LIKE '%many_at_once'")
def running(): return watch.execute(SLEEPING).fetchone()[0]
while running() < count: pass
def cancel(indices):
    threads = [threading.Thread(target=sessions[index].cancel) for index in indices]
    for thread in threads: thread.start()
    for thread in threads: thread.join()
    for index in indices: runs[index].join()
cancel(range(0, count, 2))
print(sorted(ended) == list(range(0, count, 2)), running())
cancel(range(1, count, 2))
print(len(ended), running(), {session.execute("SELECT 1").fetchone()[0] for session in sessions})
"#;
    check(script, &["True 12", "24 0 {1}"]);
}

#[test]
fn a_cancel_that_has_returned_ends_no_later_statement() {
    let script = r#"
import psycopg
connection = psycopg.connect(sslmode="MODE", autocommit=True)
hit = 0
for number in range(150):
    connection.cancel()
    try:
        connection.execute("SELECT count(*) FROM generate_series(1, 2000)")
    except psycopg.errors.QueryCanceled:
        hit += 1
print(hit)
"#;
    check(script, &["0"]);
}

#[test]
fn messages_larger_than_any_buffer_pass_without_growing_the_agent() {
    // With LINEAL_TEST_FULL, nearly the largest value that the server itself can hold.
    let megabytes = if env::var_os("LINEAL_TEST_FULL").is_some() { 1000 } else { 200 };
    let script = include_str!("wire/large_messages.py").replace("MEGABYTES", &megabytes.to_string());
    let mut lab = permissive_lab();
    let pid = lab.agent().unwrap().pid();
    let peak_kib = || -> i64 {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        line.trim().strip_suffix(" kB").unwrap().parse().unwrap()
    };
    // A small session first, so that the memory which any session takes is allocated already.
    let small = "import psycopg; psycopg.connect().execute('SELECT 1'); print(1)";
    assert_eq!(lines(&lab.python(small).unwrap()), ["1"]);
    let before = peak_kib();
    let mut job = lab.job("large", &[PYTHON, "-c", &format!("{WIRE}{script}")]).unwrap();
    let done = finish_within(&mut job, 4 * PATIENCE).unwrap();
    assert_eq!(
        lines(&done),
        [
            &format!("({megabytes}000006, [b'SELECT 1\\x00'])"),
            "(15, [b'SELECT 1\\x00'])",
            "(0, [b'CREATE TABLE\\x00'])",
            "(0, [b'COPY 0\\x00'])",
        ]
    );
    let grown = peak_kib() - before;
    assert!(grown < 8 << 10, "{grown} KiB");
}
