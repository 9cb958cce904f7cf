//! Upstreams with `protocol = "tcp"`: lineal decides whether to connect, and does not read what crosses the
//! connection.

use std::{
    io::{Read, Write},
    net::TcpListener,
    process::Command,
    thread,
};

use lineal_tests::{
    Lab,
    command::{PATIENCE, finish},
    script::PYTHON,
    server::Server,
};
use serde_json::Value;

use crate::shared::{lines, own_lab, text};

/// Client → lineal → server: each line that the script is told, as plain bytes. Back: the same bytes from the
/// server, or the end of the connection.
const TALK: &str = r#"
import socket, sys
raw = socket.create_connection(("127.0.0.1", PORT), timeout=20)
for line in sys.stdin:
    try:
        raw.sendall(line.encode())
        print(raw.recv(4096).decode().strip() or "ended", flush=True)
    except OSError as error:
        print("ended", flush=True)
"#;

/// Starts a server that sends each client's bytes back until that client has gone, and returns its port.
pub(crate) fn echo() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        while let Ok((mut client, _)) = listener.accept() {
            thread::spawn(move || {
                let mut bytes = [0; 4096];
                while let Ok(count @ 1..) = client.read(&mut bytes) {
                    if client.write_all(&bytes[..count]).is_err() {
                        return;
                    }
                }
            });
        }
    });
    port
}

/// Makes the port of 127.0.0.1 an upstream of which lineal reads nothing, and that every job may connect to.
fn open_to(lab: &mut Lab, port: u16) {
    let echo =
        format!("[[upstream]]\nname = \"echo\"\nprotocol = \"tcp\"\naddresses = [\"127.0.0.1:{port}\"]\n");
    lab.set_upstreams(&(lab.shop() + &echo)).unwrap();
    lab.set_policies("@id(\"open\")\npermit (principal, action == Action::\"connect\", resource);\n")
        .unwrap();
}

/// A lab, and the server of `wire/opaque_server.py` with its port; it is outside every job.
fn lab_and_server() -> (Lab, Server, u16) {
    let mut lab = own_lab();
    let mut command = Command::new(PYTHON);
    command.args(["-uc", include_str!("wire/opaque_server.py")]);
    let mut server = lab.converse("opaque", &command).unwrap();
    let port = server.line(PATIENCE).unwrap().parse().unwrap();
    open_to(&mut lab, port);
    (lab, server, port)
}

fn decisions_at(lab: &Lab, upstream: &str) -> Vec<Value> {
    let rows = lab.audit(&[]).unwrap();
    rows.into_iter().filter(|row| text(row, "/upstream/name") == upstream).collect()
}

#[test]
fn a_connection_to_a_tcp_upstream_is_decided_once_and_again_when_policy_changes() {
    let port = echo();
    let mut lab = own_lab();
    open_to(&mut lab, port);
    let job = lab.job("talking", &[PYTHON, "-c", &TALK.replace("PORT", &port.to_string())]).unwrap();
    let mut job = lab.converse("talking", &job).unwrap();
    job.say("hello").unwrap();
    assert_eq!(job.line(PATIENCE).unwrap(), "hello");
    lab.set_policies("@id(\"closed\")\nforbid (principal, action == Action::\"connect\", resource);\n")
        .unwrap();
    lab.wait_until("the connection is denied", || Ok(decisions_at(&lab, "echo").len() == 2)).unwrap();
    let rows = decisions_at(&lab, "echo");
    assert_eq!(text(&rows[0], "/decision"), "allow", "{rows:?}");
    assert_eq!(text(&rows[1], "/decision"), "deny", "{rows:?}");
    assert!(text(&rows[1], "/reason").contains("closed"), "{rows:?}");
    job.say("still there?").unwrap();
    assert_eq!(job.line(PATIENCE).unwrap(), "ended");
}

#[test]
fn a_connection_that_breaks_at_one_end_breaks_at_the_other() {
    let (lab, mut server, port) = lab_and_server();
    let script = include_str!("wire/opaque_ends.py").replace("PORT", &port.to_string());
    let mut at_server = || -> Vec<String> { (0..5).map(|_| server.line(PATIENCE).unwrap()).collect() };
    let mut direct = Command::new(PYTHON);
    direct.args(["-c", &script]);
    let direct = finish(&mut lab.inside(&direct)).unwrap();
    let direct_at_server = at_server();
    let done = lab.python(&script).unwrap();
    assert_eq!(lines(&done), lines(&direct), "{done:?}");
    assert_eq!(at_server(), direct_at_server);
    assert_eq!(lines(&direct), ["100000 reset", "100000 end", "6 end", "0 reset"]);
    assert_eq!(direct_at_server, ["left", "left", "end", "left", "reset"]);
}

#[test]
fn pieces_that_a_server_sends_do_not_wait_for_each_other() {
    let (lab, _server, port) = lab_and_server();
    let script = include_str!("wire/opaque_pieces.py").replace("PORT", &port.to_string());
    let done = lab.python(&script).unwrap();
    // A piece that waits until the one before has been acknowledged makes every round slow.
    let slow: u32 = lines(&done)[0].parse().unwrap();
    assert!(slow < 20, "{slow} of 40 rounds");
}
