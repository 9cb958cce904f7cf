//! Every descendant of a job's root belongs to the job, and its ancestry is recorded.

use lineal_tests::{command::PATIENCE, http, script::PYTHON};
use rustix::process::Signal;
use serde_json::Value;

use crate::shared::{decisions_on, lab, lines, own_lab, text};

/// Runs a script that executes one statement with `mark` in it, and returns the recorded ancestry's program
/// names, the job's root first.
fn ancestry(script: &str, mark: &str) -> Vec<String> {
    let lab = lab();
    lines(&lab.run("lineage", &[PYTHON, "-c", &script.replace("MARK", mark)]).unwrap());
    let rows = decisions_on(lab, mark);
    assert_eq!(rows.len(), 1, "{rows:?}");
    assert_eq!(text(&rows[0], "/credential/subject"), "contractor:dana");
    let ancestry = rows[0].pointer("/process/ancestry").and_then(Value::as_array).unwrap();
    ancestry.iter().map(|process| text(process, "/exe").rsplit('/').next().unwrap().to_owned()).collect()
}

#[test]
fn a_daemon_two_forks_away_belongs_to_the_job() {
    let found = ancestry(
        r#"
import os
reader, writer = os.pipe()
os.set_inheritable(writer, True)
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        os.execvp("psql", ["psql", "-XAtqc", "SELECT 'MARK'"])
    os._exit(0)
os.wait()
os.close(writer)
# Returns when the daemon, the last process that holds the writing end, has ended.
os.read(reader, 1)
"#,
        "daemon-5a01",
    );
    assert_eq!(found.first().map(String::as_str), Some("python3.11"), "{found:?}");
    assert_eq!(found.last().map(String::as_str), Some("psql"), "{found:?}");
}

#[test]
fn a_thread_that_calls_exec_keeps_the_tag() {
    let found = ancestry(
        r#"
import os, threading
def become():
    os.execvp("psql", ["psql", "-XAtqc", "SELECT 'MARK'"])
thread = threading.Thread(target=become)
thread.start()
thread.join()
"#,
        "thread-5a02",
    );
    assert_eq!(found.last().map(String::as_str), Some("psql"), "{found:?}");
}

#[test]
fn the_ancestry_of_a_long_chain_of_shells_is_recorded_completely() {
    let found = ancestry(
        r#"
import os
command = ["psql", "-XAtqc", "SELECT 'MARK'"]
for _ in range(10):
    command = ["sh", "-c", '"$0" "$@"; true'] + command
os.execvp("sh", command)
"#,
        "chain-5a03",
    );
    let mut expect = vec!["dash"; 10];
    expect.push("psql");
    assert_eq!(found, expect);
}

#[test]
fn ancestry_survives_lost_events() {
    let mut lab = own_lab();
    let metrics = lab.agent().unwrap().metrics().to_owned();
    // Each refused socket is an event, and these are more than the ring holds: later events find it full.
    let script = r#"
import os, socket, sys
print("started", flush=True)
sys.stdin.readline()
for _ in range(20000):
    try:
        socket.socket(socket.AF_INET, socket.SOCK_RAW, 1)
    except OSError:
        pass
if os.fork() == 0:
    os.execvp("sh", ["sh", "-c", "echo ready; read go; psql -XAtqc \"SELECT 'lost-5a05'\""])
os.wait()
"#;
    let job = lab.job("lost", &[PYTHON, "-c", script]).unwrap();
    let mut job = lab.converse("lost", &job).unwrap();
    assert_eq!(job.line(PATIENCE).unwrap(), "started");
    lab.agent().unwrap().signal(Signal::STOP).unwrap();
    job.say("").unwrap();
    let ready = job.line(PATIENCE);
    lab.agent().unwrap().signal(Signal::CONT).unwrap();
    assert_eq!(ready.unwrap(), "ready");
    let lost = "lineal_kernel_bounds_total{bound=\"events\"} ";
    lab.wait_until("the loss is counted", || {
        let metrics = http::get(&metrics, "/metrics")?;
        Ok(metrics.lines().any(|line| line.strip_prefix(lost).is_some_and(|count| count != "0")))
    })
    .unwrap();
    lab.wait_until("the loss is on record", || {
        Ok(lab.audit(&["--kind", "agent"])?.iter().any(|row| text(row, "/state") == "gap"))
    })
    .unwrap();
    job.say("").unwrap();
    assert_eq!(job.line(PATIENCE).unwrap(), "lost-5a05");
    let rows = decisions_on(&lab, "lost-5a05");
    let ancestry = rows[0].pointer("/process/ancestry").and_then(Value::as_array).unwrap();
    let programs: Vec<&str> =
        ancestry.iter().map(|process| text(process, "/exe").rsplit('/').next().unwrap()).collect();
    assert_eq!(programs, ["python3.11", "dash", "psql"]);
}

#[test]
fn jobs_lists_a_job_with_its_credential_until_the_job_ends() {
    let lab = lab();
    let job = lab.job("listed-5a04", &["cat"]).unwrap();
    let mut job = lab.converse("listed", &job).unwrap();
    job.say("hello").unwrap();
    assert_eq!(job.line(PATIENCE).unwrap(), "hello");
    let find = || {
        let jobs = lab.ask(&["jobs", "--json"]).unwrap().json().unwrap();
        jobs.into_iter().find(|job| text(job, "/name") == "listed-5a04")
    };
    let listed = find().unwrap();
    assert_eq!(text(&listed, "/credential/subject"), "contractor:dana", "{listed}");
    assert_eq!(listed["root_pid"].as_u64(), Some(u64::from(job.pid())), "{listed}");
    assert_eq!(listed["processes"].as_u64(), Some(1), "{listed}");
    job.hang_up();
    assert!(job.wait(PATIENCE).unwrap().success());
    lab.wait_until("the ended job leaves the list", || Ok(find().is_none())).unwrap();
}
