//! Many, slow and silent clients are bounded and counted, and do not affect other clients.

use std::{fs, process::Command};

use lineal_tests::{Lab, LabOptions, command::PATIENCE, http, script::PYTHON};

use crate::shared::{WIRE, WIRE_MESSAGES, decisions_on, lines, own_lab};

/// A lab whose agent has these `[limits]`.
fn limited(limits: &str) -> Lab {
    let agent_config = format!("[limits]\n{limits}\n");
    Lab::start(&LabOptions { agent_config, ..LabOptions::default() }).unwrap()
}

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
    let patience = 4 * PATIENCE;
    assert_eq!(job.line(patience).unwrap(), "1000");
    let metrics = http::get(lab.agent().unwrap().metrics(), "/metrics").unwrap();
    assert!(metrics.contains("lineal_sessions{protocol=\"postgres\"} 1000"), "{metrics}");
    assert_eq!(lines(&lab.psql(&["SELECT 1"]).unwrap()), ["1"]);
    job.say("").unwrap();
    assert_eq!(job.line(patience).unwrap(), "True");
}

#[test]
fn a_job_over_the_hosts_bound_is_refused_until_another_ends() {
    let mut lab = limited("jobs_max = 1");
    let mut first =
        lab.converse("first", &lab.job("first", &["sh", "-c", "echo up; read x"]).unwrap()).unwrap();
    assert_eq!(first.line(PATIENCE).unwrap(), "up");
    let refused = lab.run("second", &["true"]).unwrap();
    assert!(refused.code == Some(125) && refused.stderr.contains("limits.jobs_max"), "{refused:?}");
    let agent = lab.agent().unwrap();
    let metrics = http::get(agent.metrics(), "/metrics").unwrap();
    assert!(metrics.contains("lineal_enrolments_total{result=\"refused\"} 1"), "{metrics}");
    assert!(metrics.contains("lineal_bounds_total{bound=\"jobs\"} 1"), "{metrics}");
    first.say("").unwrap();
    assert!(first.wait(PATIENCE).unwrap().success());
    agent.wait_for_status(|status| status["jobs"] == 0).unwrap();
    assert_eq!(lab.run("third", &["true"]).unwrap().code, Some(0));
}

#[test]
fn a_session_over_the_hosts_bound_is_refused_whichever_job_opens_it() {
    let mut lab = limited("sessions_max = 3\nsessions_per_job_max = 2");
    let script = r#"
import psycopg, sys
held = [psycopg.connect() for _ in range(2)]
print("held", flush=True)
sys.stdin.readline()
"#;
    let mut first = lab.converse("first", &lab.job("first", &[PYTHON, "-c", script]).unwrap()).unwrap();
    assert_eq!(first.line(PATIENCE).unwrap(), "held");
    let second = r#"
import psycopg
with psycopg.connect() as one:
    try:
        psycopg.connect()
    except psycopg.OperationalError:
        print('refused')
"#;
    assert_eq!(lines(&lab.python(second).unwrap()), ["refused"]);
    let metrics = http::get(lab.agent().unwrap().metrics(), "/metrics").unwrap();
    assert!(metrics.contains("lineal_connections_closed_total{reason=\"too_many_sessions\"} 1"), "{metrics}");
    first.say("").unwrap();
    assert!(first.wait(PATIENCE).unwrap().success());
}

/// The bound counts the processes above the one that connects; the job's root has none above it.
#[test]
fn a_process_too_deep_below_its_jobs_root_is_refused_as_unattributable() {
    const DEPTH_MAX: u32 = 4_096;
    let mut lab = own_lab();
    // Each shell starts the next and waits for it; the last one becomes psql, at exactly the depth asked for.
    let script = "[ $1 -gt 0 ] || exec psql -XAtqc \"SELECT 'this deep: $2'\"\nsh $0 $(($1 - 1)) $2; exit $?";
    let file = lab.directory().join("deep.sh");
    fs::write(&file, script).unwrap();
    let dive = |depth: u32| {
        let depth = depth.to_string();
        lab.run("deep", &["sh", file.to_str().unwrap(), &depth, &depth]).unwrap().code
    };
    assert_eq!(dive(DEPTH_MAX), Some(0));
    assert_eq!(dive(DEPTH_MAX + 1), Some(2));
    let [row] = decisions_on(&lab, &format!("this deep: {DEPTH_MAX}")).try_into().unwrap();
    assert_eq!(row["process"]["ancestry"].as_array().map(Vec::len), Some(DEPTH_MAX as usize + 1));
    assert!(decisions_on(&lab, &format!("this deep: {}", DEPTH_MAX + 1)).is_empty());
    let metrics = http::get(lab.agent().unwrap().metrics(), "/metrics").unwrap();
    assert!(metrics.contains("lineal_connections_closed_total{reason=\"unattributable\"} 1"), "{metrics}");
}

#[test]
fn control_connections_of_one_user_are_bounded_and_root_still_gets_one() {
    let mut lab = own_lab();
    let held = r#"
import os, socket, sys
os.setuid(65534)
held = []
for _ in range(65):
    held.append(socket.socket(socket.AF_UNIX))
    held[-1].connect(sys.argv[1])
print("refused" if held[-1].recv(1) == b"" else "heard", flush=True)
sys.stdin.readline()
"#;
    let control = lab.agent_options().control();
    let mut python = Command::new(PYTHON);
    python.args(["-c", held]).arg(&control);
    let mut crowd = lab.converse("crowd", &lab.inside(&python)).unwrap();
    assert_eq!(crowd.line(PATIENCE).unwrap(), "refused");
    let metrics = http::get(lab.agent().unwrap().metrics(), "/metrics").unwrap();
    assert!(metrics.contains("lineal_bounds_total{bound=\"control_connections\"} 1"), "{metrics}");
    assert_eq!(lines(&lab.psql(&["SELECT 1"]).unwrap()), ["1"]);
    crowd.say("").unwrap();
    assert!(crowd.wait(PATIENCE).unwrap().success());
}

#[test]
fn a_job_over_its_session_bound_is_refused_and_others_are_not() {
    let lab = limited("sessions_per_job_max = 3\nstartup_s = 2");
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
fn a_client_that_sends_no_startup_message_is_cut_off() {
    let lab = limited("startup_s = 1");
    // Client → lineal: a connection, and nothing more. Back: after `startup_s` the connection is closed.
    let script = format!("{WIRE_MESSAGES}read_to_end(connect())\nprint('cut')\n");
    assert_eq!(lines(&lab.python(&script).unwrap()), ["cut"]);
}

#[test]
fn the_session_of_a_client_that_vanished_silently_ends() {
    let mut lab = limited("keepalive_s = 1");
    // Client → lineal: a session, and then silence: a socket closed in repair mode sends nothing, as if its
    // host had lost power. Back: keepalive probes, and when nobody answers them the session ends.
    let script = r#"
import os, psycopg, socket, sys
TCP_REPAIR = 19
connection = psycopg.connect(autocommit=True, sslmode="disable")
print("open", flush=True)
sys.stdin.readline()
raw = socket.socket(fileno=connection.fileno())
# Acknowledge lineal's last bytes now. Otherwise its kernel would send them again and end the connection
# when that failed, before any keepalive probe.
raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
raw.setsockopt(socket.IPPROTO_TCP, TCP_REPAIR, 1)
raw.close()
print("gone", flush=True)
sys.stdin.readline()
"#;
    let job = lab.job("vanishing", &[PYTHON, "-c", script]).unwrap();
    let mut job = lab.converse("vanishing", &job).unwrap();
    assert_eq!(job.line(PATIENCE).unwrap(), "open");
    let address = lab.agent().unwrap().metrics().to_owned();
    let open = |count: u32| {
        let metrics = http::get(&address, "/metrics")?;
        Ok(metrics.contains(&format!("lineal_sessions{{protocol=\"postgres\"}} {count}")))
    };
    assert!(open(1).unwrap());
    job.say("").unwrap();
    assert_eq!(job.line(PATIENCE).unwrap(), "gone");
    lab.wait_until("the session has ended", || open(0)).unwrap();
}

/// Client → lineal → server: a query whose result has 60 MB, over a socket with a small receive buffer. What
/// comes back is left to the test to read, or not.
const LARGE_RESULT: &str = r#"
import time
raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
raw.sendall(query("SELECT repeat('x', 1000000) FROM generate_series(1, 60)"))
"#;

#[test]
fn a_client_that_does_not_read_is_cut_and_delays_no_other() {
    let mut lab = limited("stalled_write_s = 2");
    let script = format!("{WIRE}{LARGE_RESULT}print('not reading', flush=True)\nsys.stdin.readline()\n");
    let job = lab.job("slow", &[PYTHON, "-c", &script]).unwrap();
    let mut job = lab.converse("slow", &job).unwrap();
    assert_eq!(job.line(PATIENCE).unwrap(), "not reading");
    for _ in 0..5 {
        assert_eq!(lines(&lab.psql(&["SELECT 1"]).unwrap()), ["1"]);
    }
    let address = lab.agent().unwrap().metrics().to_owned();
    let cut = || Ok(http::get(&address, "/metrics")?.contains("ended_total{reason=\"stalled\"} 1"));
    lab.wait_until("the session is cut", cut).unwrap();
}

/// Because of the pauses, reading everything takes at least 6 s: three times `stalled_write_s`. Each single
/// pause is far shorter than that limit.
#[test]
fn a_slow_client_that_keeps_reading_gets_everything() {
    let lab = limited("stalled_write_s = 2");
    let script = format!(
        r#"{WIRE}{LARGE_RESULT}
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
