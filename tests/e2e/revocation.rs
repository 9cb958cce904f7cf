//! Revocation ends what runs, and what was sent to run next.

use lineal_tests::{command::PATIENCE, script::PYTHON, story::SUBJECT};

use crate::shared::{WIRE, decisions_on, own_lab};

#[test]
fn statements_that_were_sent_ahead_do_not_run_after_a_revocation() {
    let lab = own_lab();
    let script = format!(
        r#"{WIRE}
ahead = [query("UPDATE products SET price = 31337 WHERE id = %d" % id) for id in range(10, 15)]
raw.sendall(query("SELECT pg_sleep(60)") + b"".join(ahead))
print(*told(6), flush=True)
"#
    );
    let job = lab.job("ahead", &[PYTHON, "-c", &script]).unwrap();
    let mut job = lab.converse("ahead", &job).unwrap();
    lab.wait_until("all is on its way", || Ok(decisions_on(&lab, "31337").len() == 5)).unwrap();
    lab.ask(&["revoke", "--subject", SUBJECT, "--reason", "offboarded"]).unwrap().success().unwrap();
    let said = job.line(PATIENCE).unwrap();
    assert!(said.contains("28000") && said.contains("offboarded"), "{said}");
    let running = "SELECT count(*) FROM pg_stat_activity WHERE usename = 'app' AND state IS NOT NULL";
    lab.wait_until("the server has ended the session", || {
        Ok(lab.postgres.admin("shop", running)?.trim() == "0")
    })
    .unwrap();
    let changed = lab.postgres.admin("shop", "SELECT count(*) FROM products WHERE price = 31337").unwrap();
    assert_eq!(changed.trim(), "0");
}

#[test]
fn every_process_of_a_job_can_be_killed_whatever_it_forks_meanwhile() {
    // Children, a daemon two forks away, and a chain of which each link ends as soon as it has made the next.
    let script = r#"
import os, signal, time
for _ in range(20):
    if os.fork() == 0:
        signal.pause()
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        signal.pause()
    os._exit(0)
if os.fork() == 0:
    end = time.monotonic() + 120
    while time.monotonic() < end:
        if os.fork() != 0:
            os._exit(0)
    os._exit(0)
print("running", flush=True)
signal.pause()
"#;
    let lab = own_lab();
    let job = lab.job("sprawling", &[PYTHON, "-c", script]).unwrap();
    let mut job = lab.converse("sprawling", &job).unwrap();
    assert_eq!(job.line(PATIENCE).unwrap(), "running");
    let id = lab.ask(&["jobs", "--json"]).unwrap().json().unwrap();
    let id = id[0]["id"].as_str().unwrap().to_owned();
    lab.ask(&["revoke", "--job", &id, "--kill"]).unwrap().success().unwrap();
    use std::os::unix::process::ExitStatusExt;
    assert_eq!(job.wait(PATIENCE).unwrap().signal(), Some(9));
    lab.wait_until("nothing of it is left", || Ok(lab.ask(&["jobs", "--json"])?.json()?.is_empty())).unwrap();
    // Nor anything that is followed no more: what is left are the lab's own.
    let left = lab.cgroup().processes().unwrap();
    let python = |pid: &u32| {
        std::fs::read_to_string(format!("/proc/{pid}/cmdline")).is_ok_and(|c| c.contains("signal.pause"))
    };
    assert!(!left.iter().any(python), "{left:?}");
}
