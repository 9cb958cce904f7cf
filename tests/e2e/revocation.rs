//! Revocation cuts open sessions, stops statements that were already sent, and kills processes where asked
//! to.

use std::{fs, net::UdpSocket, os::unix::process::ExitStatusExt};

use lineal_tests::{Lab, LabOptions, command::PATIENCE, script::PYTHON, server::Server, story::SUBJECT};
use serde_json::{Value, json};

use crate::shared::{WIRE, decisions_on, lines, own_lab, text};

/// The id of the one live job with a name.
fn id_of(lab: &Lab, name: &str) -> String {
    let jobs: Vec<Value> = lab.ask(&["jobs", "--json"]).unwrap().json().unwrap();
    let [job] = jobs.iter().filter(|job| text(job, "/name") == name).collect::<Vec<_>>().try_into().unwrap();
    text(job, "/id").to_owned()
}

#[test]
fn pipelined_statements_do_not_run_after_a_revocation() {
    let lab = own_lab();
    // Client → lineal → server: a long query, and five UPDATEs behind it in the same packet. Back, once
    // access was revoked: an error with the reason (28000), and the end; the server never runs the UPDATEs.
    let script = format!(
        r#"{WIRE}
ahead = [query("UPDATE products SET price = 31337 WHERE id = %d" % id) for id in range(10, 15)]
raw.sendall(query("SELECT pg_sleep(60)") + b"".join(ahead))
print(*replies(6), flush=True)
"#
    );
    let job = lab.job("ahead", &[PYTHON, "-c", &script]).unwrap();
    let mut job = lab.converse("ahead", &job).unwrap();
    lab.wait_until("every statement is decided", || Ok(decisions_on(&lab, "31337").len() == 5)).unwrap();
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
fn killing_a_job_kills_every_process_whatever_it_forks_meanwhile() {
    // Children, a daemon two forks away that ignores SIGTERM, and a chain of processes each of which forks
    // the next and exits.
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
    assert_eq!(job.wait(PATIENCE).unwrap().signal(), Some(9));
    lab.wait_until("no job is left", || Ok(lab.ask(&["jobs", "--json"])?.json()?.is_empty())).unwrap();
    // No process of it is left untagged either: those in the cgroup are the lab's own.
    let left = lab.cgroup().processes().unwrap();
    let python = |pid: &u32| {
        fs::read_to_string(format!("/proc/{pid}/cmdline")).is_ok_and(|line| line.contains("signal.pause"))
    };
    assert!(!left.iter().any(python), "{left:?}");
}

#[test]
fn a_job_that_forks_and_exits_without_pause_is_killed_too() {
    let lab = own_lab();
    let chain = env!("CARGO_BIN_EXE_chain");
    let mut job = lab.converse("chain", &lab.job("chain", &[chain, "120"]).unwrap()).unwrap();
    assert_eq!(job.line(PATIENCE).unwrap(), "running");
    lab.ask(&["revoke", "--job", &id_of(&lab, "chain"), "--kill"]).unwrap().success().unwrap();
    job.silence(PATIENCE).unwrap();
    lab.wait_until("the job has ended", || Ok(lab.ask(&["jobs", "--json"])?.json()?.is_empty())).unwrap();
}

#[test]
fn jobs_that_lose_access_are_killed_if_configured() {
    let agent_config = "[revocations]\nkill = true\n".to_owned();
    let lab = Lab::start(&LabOptions { agent_config, ..LabOptions::default() }).unwrap();
    let start = |name: &'static str| {
        let mut job = lab.converse(name, &lab.job(name, &["sh", "-c", "echo up; read x"]).unwrap()).unwrap();
        assert_eq!(job.line(PATIENCE).unwrap(), "up");
        job
    };
    let (mut meant, mut other) = (start("meant"), start("other"));
    lab.ask(&["revoke", "--job", &id_of(&lab, "meant")]).unwrap().success().unwrap();
    assert_eq!(meant.wait(PATIENCE).unwrap().signal(), Some(9));
    other.say("").unwrap();
    assert!(other.wait(PATIENCE).unwrap().success());
}

#[test]
fn revoking_a_claim_ends_the_access_of_jobs_with_that_claim_only() {
    let lab = own_lab();
    let start = |name: &'static str, actor: &str| -> Server {
        let token = lab.issuer.mint(&json!({"claims": {"actor": actor}})).unwrap();
        let file = lab.directory().join(format!("{name}.token"));
        fs::write(&file, token).unwrap();
        let script = r#"
import psycopg, sys
for line in sys.stdin:
    try:
        print(psycopg.connect().execute('SELECT 1').fetchone()[0], flush=True)
    except psycopg.Error as error:
        print('offboarded' in str(error), flush=True)
"#;
        let run = ["run", "--name", name, "--token-file", file.to_str().unwrap(), "--", PYTHON, "-c", script];
        lab.converse(name, &lab.lineal(&run).unwrap()).unwrap()
    };
    let say = |job: &mut Server| {
        job.say("").unwrap();
        job.line(PATIENCE).unwrap()
    };
    let (mut dana, mut erin) = (start("of-dana", "dana"), start("of-erin", "erin"));
    assert_eq!((say(&mut dana), say(&mut erin)), ("1".to_owned(), "1".to_owned()));
    let revoked = lab.ask(&["revoke", "--claim", "actor=dana", "--reason", "offboarded"]).unwrap();
    assert_eq!(lines(&revoked).len(), 1, "{revoked:?}");
    assert_eq!((say(&mut dana), say(&mut erin)), ("True".to_owned(), "1".to_owned()));
    // A job whose token has no such claim is let in.
    assert_eq!(lab.run("again", &["true"]).unwrap().code, Some(0));
}

#[test]
fn no_session_slips_past_a_revocation() {
    let lab = own_lab();
    lab.postgres.admin("postgres", "ALTER ROLE app SET log_statement = 'all'").unwrap();
    // Eight threads connect and query without pause, and keep trying while they are refused.
    let script = r#"
import os, psycopg, sys, threading
stop = threading.Event()
served = [0] * 8
def hammer(index):
    while not stop.is_set():
        try:
            with psycopg.connect(autocommit=True) as connection:
                for _ in range(3):
                    connection.execute("SELECT '%s'" % sys.argv[1])
                served[index] += 1
        except psycopg.Error:
            pass
threads = [threading.Thread(target=hammer, args=(index,)) for index in range(len(served))]
for thread in threads: thread.start()
while min(served) < 2: pass
print("hammering", flush=True)
sys.stdin.readline()
before = list(served)
sys.stdin.readline()
print(served == before, flush=True)
stop.set()
for thread in threads: thread.join()
"#;
    let executed = |mark: &str| {
        let log = fs::read_to_string(lab.directory().join("logs/postgres.log")).unwrap();
        log.matches(&format!("statement: SELECT '{mark}'")).count()
    };
    for round in 0..3 {
        let mark = format!("round {round}");
        let mut job =
            lab.converse("hammer", &lab.job(&mark, &[PYTHON, "-c", script, &mark]).unwrap()).unwrap();
        assert_eq!(job.line(PATIENCE).unwrap(), "hammering");
        lab.ask(&["revoke", "--job", &id_of(&lab, &mark)]).unwrap().success().unwrap();
        // Open sessions are cut; once they are, no statement may be answered or reach the server.
        let open = "SELECT count(*) FROM pg_stat_activity WHERE usename = 'app' AND state IS NOT NULL";
        lab.wait_until("all sessions are cut", || Ok(lab.postgres.admin("shop", open)?.trim() == "0"))
            .unwrap();
        job.say("").unwrap();
        let then = executed(&mark);
        lab.wait_until("the job was refused fifty times", || {
            let denied = lab.audit(&["--decision", "deny"])?;
            Ok(denied.iter().filter(|row| text(row, "/job/name") == mark).count() >= 50)
        })
        .unwrap();
        job.say("").unwrap();
        assert_eq!(job.line(PATIENCE).unwrap(), "True");
        assert_eq!(executed(&mark), then);
        assert!(job.wait(PATIENCE).unwrap().success());
    }
}

#[test]
fn a_revoked_job_cannot_send_to_resolvers() {
    let resolver = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = resolver.local_addr().unwrap();
    let kernel: &'static str = format!("resolvers = [\"{address}\"]").leak();
    let lab = Lab::start(&LabOptions { kernel, ..LabOptions::default() }).unwrap();
    let script = format!(
        r#"
import socket, sys
RESOLVER = ("127.0.0.1", {})
connected, unconnected = (socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(2))
connected.connect(RESOLVER)
for line in sys.stdin:
    for send in lambda: unconnected.sendto(b"who is", RESOLVER), lambda: connected.send(b"who is"):
        try:
            send()
            print("sent", end=" ")
        except OSError as error:
            print(error.errno, end=" ")
    print(flush=True)
"#,
        address.port()
    );
    let mut job = lab.converse("asks", &lab.job("asks", &[PYTHON, "-c", &script]).unwrap()).unwrap();
    job.say("").unwrap();
    assert_eq!(job.line(PATIENCE).unwrap(), "sent sent ");
    lab.ask(&["revoke", "--subject", SUBJECT]).unwrap().success().unwrap();
    job.say("").unwrap();
    assert_eq!(job.line(PATIENCE).unwrap(), "111 1 ");
}
