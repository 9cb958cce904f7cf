//! Upstreams with `protocol = "tcp"`: lineal decides whether to connect, and does not read what crosses the
//! connection.

use std::{
    io::{Read, Write},
    net::TcpListener,
    thread,
};

use lineal_tests::{Lab, LabOptions, command::PATIENCE, script::PYTHON};
use serde_json::Value;

use crate::shared::text;

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

/// Starts a server that sends its first client's bytes back until that client has gone, and returns its port.
pub(crate) fn echo() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        let (mut client, _) = listener.accept().unwrap();
        let mut bytes = [0; 4096];
        while let Ok(count @ 1..) = client.read(&mut bytes) {
            if client.write_all(&bytes[..count]).is_err() {
                return;
            }
        }
    });
    port
}

fn decisions_at(lab: &Lab, upstream: &str) -> Vec<Value> {
    let rows = lab.audit(&[]).unwrap();
    rows.into_iter().filter(|row| text(row, "/upstream/name") == upstream).collect()
}

#[test]
fn a_connection_to_a_tcp_upstream_is_decided_once_and_again_when_policy_changes() {
    let port = echo();
    let upstreams =
        format!("[[upstream]]\nname = \"echo\"\nprotocol = \"tcp\"\naddresses = [\"127.0.0.1:{port}\"]\n");
    let mut lab = Lab::start(&LabOptions { upstreams, ..LabOptions::default() }).unwrap();
    lab.set_policies("@id(\"open\")\npermit (principal, action == Action::\"connect\", resource);\n")
        .unwrap();
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
