//! The lab that tests share, and words they have in common.

use std::sync::OnceLock;

use lineal_tests::{Lab, LabOptions, command::Finished, http};
use serde_json::Value;

/// One lab for all tests that leave it as they found it. The guard takes it down when the process ends.
pub(crate) fn lab() -> &'static Lab {
    static LAB: OnceLock<Lab> = OnceLock::new();
    LAB.get_or_init(own_lab)
}

/// A lab for one test.
pub(crate) fn own_lab() -> Lab {
    Lab::start(&LabOptions::default()).unwrap()
}

/// A lab that reaches its upstream by verified TLS.
pub(crate) fn verified_lab() -> Lab {
    let leg = "tls.ca = \"LAB/ca.pem\"\ntls.server_name = \"db.lab.example\"";
    Lab::start(&LabOptions { leg, ..LabOptions::default() }).unwrap()
}

/// The string at a JSON pointer; empty if there is none.
pub(crate) fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

/// Starts a session as psycopg would, then speaks the protocol itself: `told(n)` is what comes back up to the nth
/// ReadyForQuery, as rows, tags and errors.
pub(crate) const WIRE: &str = r#"
import os, psycopg, socket, struct, sys
connection = psycopg.connect(autocommit=True, sslmode="disable")
raw = socket.socket(fileno=os.dup(connection.fileno()))
raw.setblocking(True)
raw.settimeout(20)
def message(kind, body): return kind + struct.pack("!I", len(body) + 4) + body
def query(text): return message(b"Q", text.encode() + b"\0")
def parse(name, text): return message(b"P", name.encode() + b"\0" + text.encode() + b"\0\0\0")
def bind(portal, name): return message(b"B", portal.encode() + b"\0" + name.encode() + bytes(7))
def execute(portal): return message(b"E", portal.encode() + bytes(5))
SYNC = message(b"S", b"")
buffered = b""
def told(readies):
    global buffered
    said = []
    while readies:
        while len(buffered) < 5 or len(buffered) <= struct.unpack("!I", buffered[1:5])[0]:
            piece = raw.recv(65536)
            if not piece:
                return said + ["CLOSED"]
            buffered += piece
        size = 1 + struct.unpack("!I", buffered[1:5])[0]
        kind, body, buffered = buffered[:1], buffered[5:size], buffered[size:]
        if kind == b"Z":
            readies -= 1
        elif kind == b"C":
            said.append(body[:-1].decode())
        elif kind == b"D":
            said.append("row")
        elif kind == b"s":
            said.append("suspended")
        elif kind == b"V":
            said.append("value " + body[4:].decode())
        elif kind == b"E":
            fields = {field[:1]: field[1:].decode() for field in body.split(b"\0") if field}
            said.append(fields[b"C"] + " " + fields[b"M"])
    return said
"#;

/// A metric's value; 0 if there is none.
pub(crate) fn counted(lab: &mut Lab, series: &str) -> u64 {
    let metrics = http::get(lab.agent().unwrap().metrics(), "/metrics").unwrap();
    let line = metrics.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    line.map_or(0, |value| value.trim().parse().unwrap())
}

/// Decisions on statements that contain a mark, in their order.
pub(crate) fn decisions_on(lab: &Lab, mark: &str) -> Vec<Value> {
    let rows = lab.audit(&[]).unwrap();
    rows.into_iter().filter(|row| text(row, "/statement/text").contains(mark)).collect()
}

/// Asserts that a command succeeded, and returns its output by lines.
pub(crate) fn lines(finished: &Finished) -> Vec<&str> {
    assert_eq!(finished.code, Some(0), "{finished:?}");
    finished.stdout.lines().collect()
}
