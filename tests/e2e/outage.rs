//! Without an agent a job has no traffic at all, rather than free traffic. An upstream that cannot be reached
//! is reported to the client.

use std::{
    fs,
    net::{TcpListener, TcpStream, UdpSocket},
    time::Duration,
};

use lineal_tests::{Lab, LabOptions, command::PATIENCE, script::PYTHON, story::SUBJECT};
use rustix::{net, process::Signal};

use crate::shared::{counted, decisions_on, lab, lines, own_lab, text};

/// Connects anew for each line it is told, and prints what a query returned or why it was refused.
const CONNECT_ON_DEMAND: &str = r#"
import psycopg, sys
for line in sys.stdin:
    try:
        with psycopg.connect(connect_timeout=20) as connection:
            print(connection.execute("SELECT 1").fetchone()[0], flush=True)
    except psycopg.Error as error:
        print("refused", str(error).replace("\n", " "), flush=True)
"#;

#[test]
fn a_job_whose_agent_was_killed_reaches_nothing() {
    let mut lab = own_lab();
    let job = lab.job("orphaned", &[PYTHON, "-c", CONNECT_ON_DEMAND]).unwrap();
    let mut job = lab.converse("orphaned", &job).unwrap();
    job.say("").unwrap();
    assert_eq!(job.line(PATIENCE).unwrap(), "1");
    lab.take_agent().unwrap().kill().unwrap();
    // Several times: programs that vanished with the agent would vanish a moment after it.
    for _ in 0..5 {
        job.say("").unwrap();
        let said = job.line(PATIENCE).unwrap();
        assert!(said.starts_with("refused"), "{said}");
    }
}

#[test]
fn a_job_whose_agent_was_stopped_reaches_nothing() {
    let mut lab = own_lab();
    let job = lab.job("orphaned", &[PYTHON, "-c", CONNECT_ON_DEMAND]).unwrap();
    let mut job = lab.converse("orphaned", &job).unwrap();
    job.say("").unwrap();
    assert_eq!(job.line(PATIENCE).unwrap(), "1");
    lab.take_agent().unwrap().stop().unwrap();
    // Several times: programs that vanished with the agent would vanish a moment after it.
    for _ in 0..5 {
        job.say("").unwrap();
        let said = job.line(PATIENCE).unwrap();
        assert!(said.starts_with("refused"), "{said}");
    }
}

/// Holds a transaction open until it is told to commit, then tries one more query and prints how that failed.
const IN_A_TRANSACTION: &str = r#"
import psycopg, sys
connection = psycopg.connect()
# libpq reports an error that arrives right behind an answer as a notice, and a later one as an error.
notices = []
connection.add_notice_handler(lambda notice: notices.append(notice.message_primary))
connection.execute("UPDATE orders SET status = 'drained' WHERE id = 7")
print("open", flush=True)
sys.stdin.readline()
connection.commit()
print("committed", flush=True)
sys.stdin.readline()
try:
    connection.execute("SELECT 1")
    print("still there", flush=True)
except psycopg.Error as error:
    print(*notices, str(error).replace("\n", " "), flush=True)
"#;

#[test]
fn a_stopping_agent_lets_open_transactions_finish() {
    let mut lab = own_lab();
    let job = lab.job("drained", &[PYTHON, "-c", IN_A_TRANSACTION]).unwrap();
    let mut job = lab.converse("drained", &job).unwrap();
    assert_eq!(job.line(PATIENCE).unwrap(), "open");
    let mut agent = lab.take_agent().unwrap();
    agent.signal(Signal::TERM).unwrap();
    lab.wait_until("the agent drains", || Ok(agent.log().contains("draining"))).unwrap();
    assert!(agent.alive().unwrap());
    let refused = lab.run("late", &["true"]).unwrap();
    assert_eq!(refused.code, Some(125), "{refused:?}");
    job.say("").unwrap();
    assert_eq!(job.line(PATIENCE).unwrap(), "committed");
    lab.wait_until("the agent has ended", || Ok(!agent.alive()?)).unwrap();
    job.say("").unwrap();
    let said = job.line(PATIENCE).unwrap();
    assert!(said.contains("lineal: the agent is stopping"), "{said}");
    let status = lab.postgres.admin("shop", "SELECT status FROM orders WHERE id = 7").unwrap();
    assert_eq!(status.trim(), "drained");
}

#[test]
fn a_statement_that_outlasts_the_drain_is_cut_and_its_end_is_recorded() {
    let more = "[limits]\ndrain_s = 1\n".to_owned();
    let mut lab = Lab::start(&LabOptions { agent_config: more, ..LabOptions::default() }).unwrap();
    let job = lab.job("long", &["psql", "-XAtqc", "SELECT pg_sleep(600)"]).unwrap();
    let mut job = lab.converse("long", &job).unwrap();
    lab.wait_until("the statement runs", || Ok(decisions_on(&lab, "pg_sleep(600)").len() == 1)).unwrap();
    let mut agent = lab.take_agent().unwrap();
    agent.signal(Signal::TERM).unwrap();
    lab.wait_until("the agent has ended", || Ok(!agent.alive()?)).unwrap();
    assert!(!job.wait(PATIENCE).unwrap().success());
    assert!(job.log().contains("lineal: the agent is stopping"), "{}", job.log());
    let rows = decisions_on(&lab, "pg_sleep(600)");
    assert!(rows[0]["outcome"].is_object(), "{rows:?}");
    let closed = lab.audit(&["--kind", "session"]).unwrap();
    assert!(closed.iter().any(|row| text(row, "/reason") == "agent_stopped"), "{closed:?}");
    let running = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'SELECT pg_sleep(600)%'";
    lab.wait_until("the statement is cancelled", || Ok(lab.postgres.admin("shop", running)?.trim() == "0"))
        .unwrap();
}

#[test]
fn a_revocation_during_the_drain_takes_effect_at_once() {
    let mut lab = own_lab();
    let job = lab.job("drained", &[PYTHON, "-c", IN_A_TRANSACTION]).unwrap();
    let mut job = lab.converse("drained", &job).unwrap();
    assert_eq!(job.line(PATIENCE).unwrap(), "open");
    let mut agent = lab.take_agent().unwrap();
    agent.signal(Signal::TERM).unwrap();
    lab.wait_until("the agent drains", || Ok(agent.log().contains("draining"))).unwrap();
    let revoked = lab.ask(&["revoke", "--subject", SUBJECT, "--reason", "offboarded"]).unwrap();
    lines(&revoked);
    lab.wait_until("the agent has ended", || Ok(!agent.alive()?)).unwrap();
    job.say("").unwrap();
    assert!(!job.wait(PATIENCE).unwrap().success());
    let status = lab.postgres.admin("shop", "SELECT status FROM orders WHERE id = 7").unwrap();
    assert_ne!(status.trim(), "drained");
}

#[test]
fn a_restarted_agent_accepts_new_jobs() {
    let mut lab = own_lab();
    lab.take_agent().unwrap().stop().unwrap();
    lab.start_agent().unwrap();
    assert_eq!(lines(&lab.psql(&["SELECT 1"]).unwrap()), ["1"]);
}

#[test]
fn an_upstream_that_does_not_answer_is_reported_and_others_keep_working() {
    // A listener whose backlog is full leaves new connections waiting.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    net::listen(&silent, 0).unwrap();
    let address = silent.local_addr().unwrap();
    let mut waiting = Vec::new();
    while let Ok(stream) = TcpStream::connect_timeout(&address, Duration::from_millis(500)) {
        waiting.push(stream);
    }
    let lab = Lab::start(&LabOptions {
        upstreams: format!(
            "[[upstream]]\nname = \"silent\"\nprotocol = \"postgres\"\naddresses = [\"{address}\"]\n"
        ),
        agent_config: "[limits]\ndial_s = 1\n".to_owned(),
        ..Default::default()
    })
    .unwrap();
    let port = format!("port={}", address.port());
    let done = lab.run("silent", &["psql", "-XAtqc", "SELECT 1", &port]).unwrap();
    assert_eq!(done.code, Some(2), "{done:?}");
    assert!(done.stderr.contains("lineal: cannot reach silent"), "{done:?}");
    assert_eq!(lines(&lab.psql(&["SELECT 1"]).unwrap()), ["1"]);
}

#[test]
fn a_dead_upstream_of_this_host_refuses_as_without_lineal_and_others_keep_working() {
    let lab = Lab::start(&LabOptions {
        upstreams: "[[upstream]]\nname = \"dead\"\nprotocol = \"postgres\"\naddresses = [\"127.0.0.1:1\"]\n"
            .to_owned(),
        ..Default::default()
    })
    .unwrap();
    let done = lab.run("dead", &["psql", "-XAtqc", "SELECT 1", "port=1"]).unwrap();
    assert_eq!(done.code, Some(2), "{done:?}");
    assert!(done.stderr.contains("Connection refused"), "{done:?}");
    assert_eq!(lines(&lab.psql(&["SELECT 1"]).unwrap()), ["1"]);
}

#[test]
fn a_loopback_port_refuses_until_somebody_listens_there() {
    let script = r#"
import os, socket
def outcome(address):
    try:
        socket.create_connection(address, 20).close()
        return "connected"
    except ConnectionRefusedError:
        return "refused"
# A port that is taken and not listened at.
own = socket.socket()
own.bind(("127.0.0.1", 0))
port, server = own.getsockname()[1], int(os.environ["PGPORT"])
hosts = "127.0.0.1", "127.0.0.2", "0.0.0.0", "::1", "::ffff:127.0.0.1", "::"
print(*(outcome((host, port)) for host in hosts))
own.listen()
print(outcome(("127.0.0.1", port)))
# The server listens on 127.0.0.1 alone; "localhost" may stand for ::1 first.
print(outcome(("::1", server)), outcome(("127.0.0.1", server)), outcome(("localhost", server)))
"#;
    let done = lab().python(script).unwrap();
    let refused = ["refused"; 6].join(" ");
    assert_eq!(lines(&done), [&*refused, "connected", "refused connected connected"], "{done:?}");
}

#[test]
fn a_frozen_agent_loses_its_lease_and_every_connect_is_refused() {
    let mut lab = own_lab();
    let script = r#"
import os, socket, sys
address = ("127.0.0.1", int(os.environ["PGPORT"]))
def refused():
    try:
        socket.create_connection(address, 1).close()
        return False
    except TimeoutError:
        return False  # The frozen agent accepts nothing, and the backlog is full.
    except ConnectionRefusedError:
        return True
for line in sys.stdin:
    while refused() != (line.strip() == "refused"):
        pass
    print(line.strip(), flush=True)
"#;
    let mut job = lab.converse("knocking", &lab.job("knocking", &[PYTHON, "-c", script]).unwrap()).unwrap();
    let mut say = |word: &str| {
        job.say(word).unwrap();
        assert_eq!(job.line(PATIENCE).unwrap(), word);
    };
    say("let in");
    lab.agent().unwrap().signal(Signal::STOP).unwrap();
    say("refused");
    lab.agent().unwrap().signal(Signal::CONT).unwrap();
    say("let in");
    assert!(counted(&mut lab, "lineal_kernel_refusals_total{reason=\"no_lease\"}") >= 1);
}

#[test]
fn a_job_without_an_agent_cannot_send_to_resolvers() {
    let resolver = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = resolver.local_addr().unwrap();
    let kernel: &'static str = format!("resolvers = [\"{address}\"]").leak();
    let mut lab = Lab::start(&LabOptions { kernel, ..LabOptions::default() }).unwrap();
    let script = format!(
        r#"
import socket, sys
RESOLVER = ("127.0.0.1", {})
connected, unconnected = (socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(2))
connected.connect(RESOLVER)
def sent(send):
    try:
        send()
        return "sent"
    except (ConnectionRefusedError, PermissionError):
        return "refused"
for line in sys.stdin:
    for send in lambda: unconnected.sendto(b"who is", RESOLVER), lambda: connected.send(b"who is"):
        while sent(send) != line.strip():
            pass
    print(line.strip(), flush=True)
"#,
        address.port()
    );
    let mut job = lab.converse("asks", &lab.job("asks", &[PYTHON, "-c", &script]).unwrap()).unwrap();
    let mut say = |word: &str| {
        job.say(word).unwrap();
        assert_eq!(job.line(PATIENCE).unwrap(), word);
    };
    say("sent");
    lab.take_agent().unwrap().kill().unwrap();
    say("refused");
    lab.start_agent().unwrap();
    say("sent");
}

#[test]
fn an_agent_that_fails_to_start_leaves_no_pins_behind() {
    let mut lab = own_lab();
    let config = lab.agent_options().config();
    lab.take_agent().unwrap().stop().unwrap();
    lines(&lab.ask(&["detach", "--config", config.to_str().unwrap()]).unwrap());
    let pins = lab.agent_options().pins.clone();
    let occupied = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = format!("[metrics]\nlisten = \"{}\"\n", occupied.local_addr().unwrap());
    let missing = lab.directory().join("missing.toml");
    let without = fs::read_to_string(&config).unwrap();
    for (name, text) in [
        ("metrics", without.replace("[metrics]\nlisten = \"127.0.0.1:0\"\n", &taken)),
        ("list", format!("{without}\n[revocations]\nfile = {missing:?}\n")),
    ] {
        assert_ne!(text, without);
        let changed = lab.directory().join(format!("{name}.toml"));
        fs::write(&changed, text).unwrap();
        let failed = lab.ask(&["agent", "--config", changed.to_str().unwrap()]).unwrap();
        assert_eq!(failed.code, Some(125), "{failed:?}");
        assert!(!pins.exists(), "{name}");
    }
    lab.start_agent().unwrap();
    assert_eq!(lines(&lab.psql(&["SELECT 1"]).unwrap()), ["1"]);
}
