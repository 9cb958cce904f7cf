//! Each bound of the agent's own tables and queues is reached: what happens then is what the operations guide
//! says, and it is counted.

use std::{fs, net::TcpStream, process::Command, time::SystemTime};

use lineal_tests::{Lab, command::PATIENCE, http, script::PYTHON, story::SUBJECT};
use serde_json::{Map, Value, json};

use crate::shared::{WIRE, counted, lines, own_lab, text};

/// How many revocations, and how many used tokens, the agent stores at most.
const KEPT_MAX: usize = 65_536;

/// How often a bound was reached.
fn reached(lab: &mut Lab, bound: &str) -> u64 {
    counted(lab, &format!("lineal_bounds_total{{bound=\"{bound}\"}}"))
}

/// A lab whose agent was started with this file in its state directory.
fn with_state(file: &str, content: &str) -> Lab {
    let mut lab = own_lab();
    lab.take_agent().unwrap().stop().unwrap();
    fs::write(lab.directory().join("state").join(file), content).unwrap();
    lab.start_agent().unwrap();
    lab
}

#[test]
fn messages_and_prepared_statements_over_their_bounds_are_denied_and_full_caches_evict() {
    let mut lab = own_lab();
    // Client → lineal: a query over the bound on messages, queries on 1100 different tables, 4096 prepared
    // statements and one more, 1025 by SQL. Back: an error for what is over a bound; the session continues.
    let script = format!(
        r#"{WIRE}
def said(text):
    raw.sendall(query(text))
    return replies(1)[-1]
print(said("SELECT '" + "x" * (17 << 20) + "'"))
for number in range(1100):
    said(f"SELECT a{{number}} FROM t{{number}}")
raw.sendall(b"".join(parse(f"s{{number}}", "SELECT 1") for number in range(4096)) + SYNC)
print(replies(1))
raw.sendall(parse("beyond", "SELECT 1") + SYNC)
print(replies(1)[-1])
for number in range(1025):
    said(f"PREPARE q{{number}} AS SELECT 1")
print(said("SELECT 1"))
"#
    );
    let said = lab.python(&script).unwrap();
    let said = lines(&said);
    assert!(said[0].starts_with("42501") && said[0].contains("more than 16 MiB"), "{said:?}");
    assert_eq!(said[1], "[]");
    assert!(said[2].starts_with("42501") && said[2].contains("too many prepared statements"), "{said:?}");
    assert_eq!(said[3], "SELECT 1");
    assert_eq!(reached(&mut lab, "message_bytes"), 1);
    assert_eq!(reached(&mut lab, "prepared_statements"), 1);
    assert_eq!(reached(&mut lab, "names"), 1);
    // The cache of readings was full once by the queries' texts and three times by the prepared statements.
    assert_eq!(reached(&mut lab, "readings"), 4);
    // Every decision beyond the 256 that the cache keeps evicted one.
    assert!(reached(&mut lab, "decisions") >= 1100 - 256);
}

#[test]
fn a_revocation_over_the_bound_of_stored_ones_still_ends_access() {
    let line = |subject: usize| {
        let selector = json!({"subject": subject.to_string()});
        let revocation = json!({"selector": selector, "reason": "left", "time_us": 1, "by_uid": 0});
        revocation.to_string() + "\n"
    };
    let mut lab = with_state("revocations.jsonl", &(0..KEPT_MAX).map(line).collect::<String>());
    let script = r#"
import psycopg, sys
connection = psycopg.connect(autocommit=True)
print("open", flush=True)
sys.stdin.readline()
try:
    connection.execute("SELECT 1")
except psycopg.Error as error:
    print("offboarded" in str(error), flush=True)
"#;
    let mut job = lab.converse("held", &lab.job("held", &[PYTHON, "-c", script]).unwrap()).unwrap();
    assert_eq!(job.line(PATIENCE).unwrap(), "open");
    let revoked = lab.ask(&["revoke", "--subject", SUBJECT, "--reason", "offboarded"]).unwrap();
    assert!(
        revoked.code == Some(125) && revoked.stderr.contains("live jobs have lost access"),
        "{revoked:?}"
    );
    job.say("").unwrap();
    assert_eq!(job.line(PATIENCE).unwrap(), "True");
    assert_eq!(reached(&mut lab, "revocations"), 1);
}

#[test]
fn a_token_is_refused_when_no_more_used_tokens_can_be_remembered() {
    let far = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs() + 86_400;
    let uses: Map<String, Value> = (0..KEPT_MAX)
        .map(|token| {
            let enroller = json!({"uid": 0, "pod_uid": null});
            let first =
                json!({"run": null, "enroller": enroller, "first_unix": far - 100_000, "forget_unix": far});
            (format!("{token:064x}"), first)
        })
        .collect();
    let stored = json!({"v": 1, "forgotten_unix": 0, "uses": uses});
    let mut lab = with_state("used-tokens.json", &stored.to_string());
    let refused = lab.run("beyond", &["true"]).unwrap();
    assert!(refused.code == Some(125) && refused.stderr.contains("no more are remembered"), "{refused:?}");
    assert_eq!(reached(&mut lab, "used_tokens"), 1);
}

#[test]
fn sessions_cut_together_are_all_closed_at_the_server_a_bounded_number_at_a_time() {
    let mut lab = own_lab();
    let script = r#"
import psycopg, sys
held = [psycopg.connect(autocommit=True) for _ in range(40)]
print("held", flush=True)
sys.stdin.readline()
def was_told_why(connection):
    try:
        connection.execute("SELECT 1")
    except psycopg.OperationalError as error:
        return "offboarded" in str(error)
print(sum(map(was_told_why, held)), flush=True)
"#;
    let mut job = lab.converse("held", &lab.job("held", &[PYTHON, "-c", script]).unwrap()).unwrap();
    assert_eq!(job.line(PATIENCE).unwrap(), "held");
    lab.ask(&["revoke", "--subject", SUBJECT, "--reason", "offboarded"]).unwrap().success().unwrap();
    job.say("").unwrap();
    assert_eq!(job.line(PATIENCE).unwrap(), "40");
    assert!(reached(&mut lab, "closings") >= 1);
    lab.agent().unwrap().wait_for_status(|status| status["sessions"] == 0).unwrap();
    let left = "SELECT count(*) FROM pg_stat_activity WHERE usename = 'app' AND state IS NOT NULL";
    lab.wait_until("the server has ended the sessions", || {
        Ok(lab.postgres.admin("shop", left)?.trim() == "0")
    })
    .unwrap();
}

#[test]
fn a_scrape_over_the_bound_of_concurrent_scrapes_is_refused_and_counted() {
    let mut lab = own_lab();
    let address = lab.agent().unwrap().metrics().to_owned();
    let held: Vec<TcpStream> = (0..16).map(|_| TcpStream::connect(&address).unwrap()).collect();
    assert!(http::get(&address, "/metrics").is_err());
    drop(held);
    let scraped = || {
        let Ok(metrics) = http::get(&address, "/metrics") else { return Ok(false) };
        let line =
            metrics.lines().find_map(|line| line.strip_prefix("lineal_bounds_total{bound=\"scrapes\"}"));
        Ok(line.is_some_and(|count| count.trim().parse::<u64>().is_ok_and(|count| count >= 1)))
    };
    lab.wait_until("a scrape is served again and counts the refused one", scraped).unwrap();
}

#[test]
fn a_revocation_file_that_is_too_long_is_refused_and_reported() {
    let mut lab = own_lab();
    let file = lab.directory().join("revoked.toml");
    fs::write(&file, "").unwrap();
    lab.take_agent().unwrap().stop().unwrap();
    lab.agent_options().more = format!("[revocations]\nfile = {file:?}\n");
    lab.start_agent().unwrap();
    assert_eq!(counted(&mut lab, "lineal_revocation_list_refused"), 0);
    let entries: String =
        (0..=KEPT_MAX).map(|subject| format!("[[revocation]]\nsubject = \"{subject}\"\n")).collect();
    let next = file.with_extension("next");
    fs::write(&next, entries).unwrap();
    fs::rename(&next, &file).unwrap();
    let status =
        lab.agent().unwrap().wait_for_status(|status| !status["revocations_error"].is_null()).unwrap();
    assert!(text(&status, "/revocations_error").contains("more than 65536 entries"), "{status}");
    assert_eq!(counted(&mut lab, "lineal_revocation_list_refused"), 1);
}

#[test]
fn control_connections_of_all_users_together_are_bounded_and_root_still_gets_one() {
    let mut lab = own_lab();
    // Four users hold every connection there is; the fifth gets none, although it holds none yet.
    let held = r#"
import os, socket, sys
def hold(uid, count):
    there, said = os.pipe()
    if os.fork() == 0:
        os.setuid(uid)
        held = []
        for _ in range(count):
            held.append(socket.socket(socket.AF_UNIX))
            held[-1].connect(sys.argv[1])
        last = held[-1]
        last.settimeout(1)
        try:
            refused = last.recv(1) == b""
        except TimeoutError:
            refused = False
        os.write(said, b"refused" if refused else b"heard")
        sys.stdin.readline()
        os._exit(0)
    return os.read(there, 16).decode()
print(*[hold(65000 + user, 64) for user in range(4)], hold(65004, 1), flush=True)
"#;
    let control = lab.agent_options().control();
    let mut python = Command::new(PYTHON);
    python.args(["-c", held]).arg(&control);
    let mut crowd = lab.converse("crowd", &lab.inside(&python)).unwrap();
    assert_eq!(crowd.line(PATIENCE).unwrap(), "heard heard heard heard refused");
    assert_eq!(reached(&mut lab, "control_connections"), 1);
    assert_eq!(lines(&lab.psql(&["SELECT 1"]).unwrap()), ["1"]);
    crowd.hang_up();
}
