//! Many, slow and silent clients: bounded, counted, and no one else's trouble.

use lineal_tests::{Lab, LabOptions, http, script::PYTHON};

use crate::shared::{lines, own_lab};

#[test]
fn a_thousand_idle_sessions_leave_room_for_others_and_are_counted() {
    let mut lab = own_lab();
    let script = r#"
import resource, psycopg, sys
resource.setrlimit(resource.RLIMIT_NOFILE, (4096, 4096))
open_sessions = [psycopg.connect(autocommit=True) for _ in range(1000)]
print(len(open_sessions), flush=True)
sys.stdin.readline()
print(all(session.execute("SELECT 1").fetchone()[0] == 1 for session in open_sessions), flush=True)
"#;
    let job = lab.job("many", &[PYTHON, "-c", script]).unwrap();
    let mut job = lab.converse("many", &job).unwrap();
    let patience = 4 * lineal_tests::command::PATIENCE;
    assert_eq!(job.line(patience).unwrap(), "1000");
    let metrics = http::get(lab.agent().unwrap().metrics(), "/metrics").unwrap();
    assert!(metrics.contains("lineal_sessions{protocol=\"postgres\"} 1000"), "{metrics}");
    assert_eq!(lines(&lab.psql(&["SELECT 1"]).unwrap()), ["1"]);
    job.say("").unwrap();
    assert_eq!(job.line(patience).unwrap(), "True");
}

#[test]
fn a_job_over_its_bound_of_sessions_is_refused_and_others_are_not() {
    let more = "[limits]\nsessions_per_job_max = 3\nstartup_s = 2\n".to_owned();
    let lab = Lab::start(&LabOptions { agent_config: more, ..LabOptions::default() }).unwrap();
    let script = r#"
import psycopg
open_sessions = []
try:
    for _ in range(4):
        open_sessions.append(psycopg.connect(connect_timeout=20))
except psycopg.OperationalError:
    print("refused after", len(open_sessions))
"#;
    assert_eq!(lines(&lab.python(script).unwrap()), ["refused after 3"]);
    assert_eq!(lines(&lab.psql(&["SELECT 1"]).unwrap()), ["1"]);
}

#[test]
fn a_client_that_never_says_hello_is_cut_off() {
    let more = "[limits]\nstartup_s = 1\n".to_owned();
    let lab = Lab::start(&LabOptions { agent_config: more, ..LabOptions::default() }).unwrap();
    let script = r#"
import os, socket
raw = socket.create_connection(("127.0.0.1", int(os.environ["PGPORT"])), timeout=20)
try:
    while raw.recv(65536):
        pass
except ConnectionResetError:
    pass
print("cut")
"#;
    assert_eq!(lines(&lab.python(script).unwrap()), ["cut"]);
}

#[test]
fn a_client_that_vanished_without_a_word_is_noticed() {
    let more = "[limits]\nkeepalive_s = 1\n".to_owned();
    let mut lab = Lab::start(&LabOptions { agent_config: more, ..LabOptions::default() }).unwrap();
    // A socket closed in repair mode sends nothing: to its peer the host has lost its power.
    let script = r#"
import os, psycopg, socket, sys
TCP_REPAIR = 19
connection = psycopg.connect(autocommit=True, sslmode="disable")
print("open", flush=True)
sys.stdin.readline()
raw = socket.socket(fileno=connection.fileno())
# What is unacknowledged would be sent again, and that would tell.
raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
raw.setsockopt(socket.IPPROTO_TCP, TCP_REPAIR, 1)
raw.close()
print("gone", flush=True)
sys.stdin.readline()
"#;
    let job = lab.job("vanishing", &[PYTHON, "-c", script]).unwrap();
    let mut job = lab.converse("vanishing", &job).unwrap();
    assert_eq!(job.line(lineal_tests::command::PATIENCE).unwrap(), "open");
    let address = lab.agent().unwrap().metrics().to_owned();
    let open = |count: u32| {
        let metrics = http::get(&address, "/metrics")?;
        Ok(metrics.contains(&format!("lineal_sessions{{protocol=\"postgres\"}} {count}")))
    };
    assert!(open(1).unwrap());
    job.say("").unwrap();
    assert_eq!(job.line(lineal_tests::command::PATIENCE).unwrap(), "gone");
    lab.wait_until("the session is over", || open(0)).unwrap();
}

/// Sends a query with a large result by a raw socket, and reads `READS` times before it stops reading.
const LARGE_RESULT: &str = r#"
import os, socket, struct, sys, time
import psycopg
connection = psycopg.connect(autocommit=True, sslmode="disable")
raw = socket.socket(fileno=os.dup(connection.fileno()))
raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
query = b"SELECT repeat('x', 1000000) FROM generate_series(1, 60)\0"
raw.setblocking(True)
raw.sendall(b"Q" + struct.pack("!I", len(query) + 4) + query)
"#;

#[test]
fn a_client_that_does_not_read_holds_up_nobody_and_is_cut() {
    let more = "[limits]\nstalled_write_s = 2\n".to_owned();
    let mut lab = Lab::start(&LabOptions { agent_config: more, ..LabOptions::default() }).unwrap();
    let script = format!("{LARGE_RESULT}print('not reading', flush=True)\nsys.stdin.readline()\n");
    let job = lab.job("slow", &[PYTHON, "-c", &script]).unwrap();
    let mut job = lab.converse("slow", &job).unwrap();
    assert_eq!(job.line(lineal_tests::command::PATIENCE).unwrap(), "not reading");
    for _ in 0..5 {
        assert_eq!(lines(&lab.psql(&["SELECT 1"]).unwrap()), ["1"]);
    }
    let address = lab.agent().unwrap().metrics().to_owned();
    let cut = || Ok(http::get(&address, "/metrics")?.contains("ended_total{reason=\"stalled\"} 1"));
    lab.wait_until("the session is cut", cut).unwrap();
}

/// The pauses are the slowness itself: the whole takes three times what a client may rest.
#[test]
fn a_slow_client_that_goes_on_reading_gets_everything() {
    let more = "[limits]\nstalled_write_s = 2\n".to_owned();
    let lab = Lab::start(&LabOptions { agent_config: more, ..LabOptions::default() }).unwrap();
    let script = format!(
        r#"{LARGE_RESULT}
started, got = time.monotonic(), 0
while got < 60 * 1000000:
    got += len(raw.recv(1000000))
    if time.monotonic() - started < 6:
        time.sleep(0.05)
print(time.monotonic() - started >= 6)
"#
    );
    assert_eq!(lines(&lab.python(&script).unwrap()), ["True"]);
}
