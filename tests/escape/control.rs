//! A job at the agent's own sockets. At the control socket it may enrol no process, not even itself again,
//! may see no job and may end no access; the agent's listeners serve redirected connections only.

use std::{
    fs,
    io::{Read, Write},
    net::TcpStream,
};

use lineal_tests::{Lab, LabOptions, command::PATIENCE, http, paths, script::PYTHON};

use crate::shared::lab;

/// Runs `lineal` as a job, asserts that it is refused, and returns what it wrote to standard error.
fn refused(arguments: &[&str]) -> String {
    let lineal = paths::lineal().unwrap();
    let mut command = vec![lineal.to_str().unwrap()];
    command.extend(arguments);
    let done = lab().run("control", &command).unwrap();
    assert_eq!(done.code, Some(125), "{done:?}");
    assert!(done.stderr.starts_with("lineal: "), "{done:?}");
    done.stderr
}

#[test]
fn a_job_cannot_take_a_second_credential() {
    let token = lab().issuer.token("release-bot").unwrap();
    let file = lab().directory().join("better-token");
    fs::write(&file, token).unwrap();
    refused(&["run", "--token-file", file.to_str().unwrap(), "--", "true"]);
}

#[test]
fn a_job_cannot_revoke_anybodys_access() {
    refused(&["revoke", "--subject", "somebody:else", "--reason", "spite"]);
}

#[test]
fn a_job_cannot_list_jobs() {
    refused(&["jobs", "--json"]);
}

/// A process of the job connects to the control socket, forks a child that inherits the connection, and
/// exits. Its tag is gone by the time the child sends a request: the request must be refused all the same.
const HANDED_ON: &str = r#"
import os, socket, sys
reader, writer = os.pipe()
if os.fork() == 0:
    connection = socket.socket(socket.AF_UNIX)
    connection.connect(os.environ["LINEAL_CONTROL"])
    gone, held = os.pipe()
    os.set_inheritable(held, True)
    if os.fork() == 0:
        os.close(held)
        # Returns when the process that connected has exited.
        os.read(gone, 1)
        try:
            connection.sendall(b'{"verb":"jobs"}\n')
            answer = connection.makefile().read()
        except OSError as error:
            answer = '{"error":"%s"}' % error
        os.write(writer, answer.encode())
    os._exit(0)
os.close(writer)
while chunk := os.read(reader, 4096):
    sys.stdout.write(chunk.decode())
"#;

#[test]
fn a_control_connection_inherited_from_an_ended_process_is_still_the_jobs() {
    let done = lab().run("handed-on", &[PYTHON, "-c", HANDED_ON]).unwrap();
    assert!(done.stdout.contains("\"error\"") && !done.stdout.contains("\"id\""), "{done:?}");
}

/// The TCP ports that a process listens on.
fn listening(pid: u32) -> Vec<u16> {
    let sockets: Vec<String> = fs::read_dir(format!("/proc/{pid}/fd"))
        .unwrap()
        .filter_map(|entry| fs::read_link(entry.unwrap().path()).ok())
        .filter_map(|link| Some(link.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.to_owned()))
        .collect();
    let table = fs::read_to_string("/proc/net/tcp").unwrap();
    let rows = table.lines().skip(1).map(|line| line.split_whitespace().collect::<Vec<_>>());
    rows.filter(|row| row[3] == "0A" && sockets.iter().any(|socket| socket == row[9]))
        .map(|row| u16::from_str_radix(row[1].rsplit(':').next().unwrap(), 16).unwrap())
        .collect()
}

#[test]
fn a_process_outside_every_job_that_dials_the_agents_listener_is_closed_and_counted() {
    let mut lab = Lab::start(&LabOptions::default()).unwrap();
    let job = lab.job("keeps the listener", &["/bin/cat"]).unwrap();
    let mut job = lab.converse("cat", &job).unwrap();
    job.say("up").unwrap();
    assert_eq!(job.line(PATIENCE).unwrap(), "up");
    let agent = lab.agent().unwrap();
    let metrics = agent.metrics().to_owned();
    let own: Vec<u16> =
        listening(agent.pid()).into_iter().filter(|port| !metrics.ends_with(&format!(":{port}"))).collect();
    assert!(!own.is_empty(), "the agent listens for nothing");
    for port in &own {
        let mut connection = TcpStream::connect(("127.0.0.1", *port)).unwrap();
        // An SSLRequest, which a PostgreSQL server would answer.
        let _ = connection.write_all(b"\0\0\0\x08\x04\xd2\x16\x2f");
        let mut answer = Vec::new();
        let _ = connection.read_to_end(&mut answer);
        assert_eq!(answer, b"", "port {port}");
    }
    let scrape = http::get(&metrics, "/metrics").unwrap();
    let closed = format!("lineal_connections_closed_total{{reason=\"not_redirected\"}} {}", own.len());
    assert!(scrape.contains(&closed), "{scrape}");
}
