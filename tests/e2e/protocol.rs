//! The protocol at its edges, at a real server, in the clear and through TLS on both legs.

use std::{fs, process::Command, sync::OnceLock};

use lineal_tests::{
    Lab,
    command::{PATIENCE, finish},
    postgres::program,
    script::PYTHON,
};

use crate::shared::{WIRE, lines, verified_lab};

/// A lab that allows everything but one table.
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

/// One lab for all.
fn lab() -> &'static Lab {
    static LAB: OnceLock<Lab> = OnceLock::new();
    LAB.get_or_init(permissive_lab)
}

/// Runs Python once without and once with TLS, and expects the same lines; `MODE` in it stands for the `sslmode`.
fn check(script: &str, expected: &[&str]) {
    for mode in ["disable", "verify-full"] {
        let done = lab().python(&script.replace("MODE", mode)).unwrap();
        assert_eq!(lines(&done), expected, "{mode}: {done:?}");
    }
}

/// Speaks the protocol itself; see [`WIRE`].
fn check_wire(script: &str, expected: &[&str]) {
    let brief = "tell_all = told\n\
                 def told(readies): return [said.split(': policy')[0] for said in tell_all(readies)]\n";
    let done = lab().python(&format!("{WIRE}{brief}{script}")).unwrap();
    assert_eq!(lines(&done), expected, "{done:?}");
}

#[test]
fn startup_options_reach_the_server_byte_for_byte() {
    let script = r#"
import psycopg
# The server's own escapes: a backslash in front of a space and of a backslash.
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
    check_wire(
        r#"
raw = socket.create_connection(("127.0.0.1", int(os.environ["PGPORT"])), timeout=20)
body = b"user\0app_cleartext\0database\0shop\0_pq_.novelty\0" + b"on\0\0"
raw.sendall(struct.pack("!II", 8 + len(body), (3 << 16) + 2) + body)
stream = raw.makefile("rb")
def read():
    header = stream.read(5)
    return header[:1], stream.read(struct.unpack("!I", header[1:])[0] - 4)
got = read()
# The newest minor version that the server speaks, and the options that it does not know.
print(got[0].decode(), got[1] == struct.pack("!II", 0, 1) + b"_pq_.novelty\0"
      or got[1] == struct.pack("!II", 3 << 16, 1) + b"_pq_.novelty\0")
while got[0] != b"Z":
    got = read()
    if got == (b"R", struct.pack("!I", 3)):
        raw.sendall(message(b"p", os.environ["PGPASSWORD"].encode() + b"\0"))
    if got[0] == b"E":
        print(got[1])
raw.sendall(query("SELECT 1"))
print([read()[0].decode() for _ in range(4)])
"#,
        &["v True", "['T', 'D', 'C', 'Z']"],
    );
}

#[test]
fn partial_executes_flushes_and_pipelined_syncs_are_answered_in_order() {
    check_wire(
        r#"
def some(portal, rows): return message(b"E", portal.encode() + b"\0" + struct.pack("!I", rows))
FLUSH = message(b"H", b"")
raw.sendall(query("BEGIN") + parse("", "SELECT generate_series(1, 5)") + bind("five", "")
            + some("five", 2) + some("five", 2) + some("five", 2) + SYNC)
print(told(2))
# An answer without a Sync: by a Flush alone.
raw.sendall(bind("again", "") + some("again", 1) + FLUSH)
kinds = b""
while kinds[-1:] != b"s":
    header = raw.recv(5, socket.MSG_WAITALL)
    raw.recv(struct.unpack("!I", header[1:])[0] - 4, socket.MSG_WAITALL) if header[1:] != b"\0\0\0\4" else b""
    kinds += header[:1]
print(kinds.decode())
raw.sendall(SYNC + SYNC + SYNC + query("ROLLBACK"))
print(told(4))
# An error skips to its own Sync and no further.
raw.sendall(parse("", "SELECT 1/0") + bind("", "") + execute("") + parse("", "SELECT 7") + SYNC
            + parse("", "SELECT 8") + bind("", "") + execute("") + SYNC
            + parse("", "SELECT * FROM forbidden") + bind("", "") + execute("") + SYNC
            + parse("", "SELECT 9") + bind("", "") + execute("") + SYNC)
print(told(4))
# abs(integer), by its OID.
raw.sendall(message(b"F", struct.pack("!IHHI2sH", 1397, 0, 1, 2, b"-7", 0)))
print(told(1))
"#,
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
# The server gives up early; much of the data comes late.
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
    with connection.cursor().copy("COPY (SELECT 1 / (50000 - n) FROM generate_series(1, 60000) n) TO STDOUT") as copy:
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
        r#"
data = message(b"d", b"1\n") * 1000
raw.sendall(query("COPY forbidden FROM STDIN"))
print(told(1))
raw.sendall(query("CREATE TEMP TABLE here (n integer)") + query("COPY here FROM STDIN") + data + message(b"c", b"")
            + query("SELECT * FROM forbidden") + query("SELECT count(*) FROM here"))
print(told(4))
raw.sendall(query("COPY here FROM STDIN") + data + message(b"f", b"changed my mind\0") + query("SELECT 1"))
print([said.replace("COPY from stdin failed: ", "") for said in told(2)])
# libpq's way: Execute and Sync at once, the data after.
raw.sendall(parse("", "COPY here FROM STDIN") + bind("", "") + execute("") + SYNC + data + message(b"c", b"") + SYNC)
print(told(1))
"#,
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
values, told, syncs = [], [], 0
while syncs < 3:
    result = connection.get_result()
    if result is None:
        continue
    syncs += result.status == pq.ExecStatus.PIPELINE_SYNC
    if result.status == pq.ExecStatus.TUPLES_OK:
        values.append(result.get_value(0, 0).decode())
    else:
        state = result.error_field(pq.DiagnosticField.SQLSTATE)
        told.append(state.decode() if state else pq.ExecStatus(result.status).name)
print(values[:-1] == [str(n) for n in range(3000)], values[-1])
print(told)
"#;
    let told = "['PIPELINE_SYNC', '42501', 'PIPELINE_ABORTED', 'PIPELINE_SYNC', 'PIPELINE_SYNC']";
    check(script, &["True after", told]);
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
def running(): return watch.execute(
    "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep' AND query LIKE '%many_at_once'").fetchone()[0]
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
fn messages_larger_than_any_buffer_pass_without_growing_the_agent() {
    // With all the tests that there are, nearly what the server itself can make of one value.
    let megabytes = if std::env::var_os("LINEAL_TEST_FULL").is_some() { 1000 } else { 200 };
    let script = r#"
raw.settimeout(None)
SIZE = MEGABYTES * 1000 * 1000
def count(readies):
    """What comes back: bytes of rows, and errors."""
    global buffered
    rows, errors = 0, []
    while readies:
        while len(buffered) < 5:
            buffered += raw.recv(1 << 20)
        kind, left = buffered[:1], struct.unpack("!I", buffered[1:5])[0] - 4
        buffered = buffered[5:]
        body = b""
        if kind == b"D":
            rows += left
        while left:
            piece = buffered[:left] or raw.recv(min(left, 1 << 20))
            buffered = buffered[len(piece):] if buffered else b""
            left -= len(piece)
            if kind in b"EC":
                body += piece
        if kind in b"EC":
            errors.append(body[:90])
        readies -= kind == b"Z"
    return rows, errors
raw.sendall(query(f"SELECT repeat('x', {SIZE})"))
print(count(1))
def pour(count):
    piece = b"y" * (1 << 20)
    while count:
        raw.sendall(piece[:min(count, len(piece))])
        count -= min(count, len(piece))
BIG = SIZE * 6 // 10
raw.sendall(parse("", "SELECT length($1)"))
raw.sendall(b"B" + struct.pack("!I", 4 + 2 + 2 + 2 + 4 + BIG + 2) + b"\0\0" + struct.pack("!HHI", 0, 1, BIG))
pour(BIG)
raw.sendall(b"\0\0" + execute("") + SYNC)
print(count(1))
# One message of copied data, of one row that is then left out.
raw.sendall(query("CREATE TEMP TABLE big (t text)") + query("COPY big FROM STDIN WHERE t IS NULL"))
print(count(1))
raw.sendall(b"d" + struct.pack("!I", 4 + BIG))
pour(BIG - 1)
raw.sendall(b"\n" + message(b"c", b""))
print(count(1))
"#;
    let mut lab = permissive_lab();
    let pid = lab.agent().unwrap().pid();
    let peak_kib = || -> i64 {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        line.trim().strip_suffix(" kB").unwrap().parse().unwrap()
    };
    // Once small, so that what any session takes is there already.
    assert_eq!(
        lines(&lab.python("import psycopg; psycopg.connect().execute('SELECT 1'); print(1)").unwrap()),
        ["1"]
    );
    let before = peak_kib();
    let mut job = lab
        .job(
            "large",
            &[PYTHON, "-c", &format!("{WIRE}{}", script.replace("MEGABYTES", &megabytes.to_string()))],
        )
        .unwrap();
    let done = lineal_tests::command::finish_within(&mut job, 4 * PATIENCE).unwrap();
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
