//! Malformed, oversized and unexpected messages: that session ends with a clear error; the agent and all others
//! live.

use crate::shared::{lab, lines};

/// Starts a session as psycopg would, then sends bytes of the test's own, and prints what comes back.
const AFTER_LOGIN: &str = r#"
import os, socket, struct, sys, hashlib
import psycopg
connection = psycopg.connect(autocommit=True, sslmode="disable")
raw = socket.socket(fileno=os.dup(connection.fileno()))
raw.setblocking(True)
raw.settimeout(20)
def message(kind, body):
    return kind + struct.pack("!I", len(body) + 4) + body
def answers():
    got = b""
    try:
        while True:
            piece = raw.recv(65536)
            if not piece:
                return got + b" CLOSED"
            got += piece
    except ConnectionResetError:
        return got + b" CLOSED"
raw.sendall(BYTES)
got = answers()
print(got.decode("latin-1").replace("\0", " "))
"#;

fn check(bytes: &str, expect: &str) {
    let done = lab().python(&AFTER_LOGIN.replace("BYTES", bytes)).unwrap();
    let told = lines(&done).join("\n");
    assert!(told.contains("CLOSED"), "{bytes}: {told}");
    assert!(told.contains("lineal: "), "{bytes}: no reason was told: {told}");
    assert!(told.contains(expect), "{bytes}: {told}");
    assert_eq!(lines(&lab().psql(&["SELECT 1"]).unwrap()), ["1"], "others did not live");
}

#[test]
fn a_message_shorter_than_its_own_length_field_ends_the_session() {
    check("b'Q' + struct.pack('!I', 3)", "length");
}

#[test]
fn a_message_longer_than_any_bound_ends_the_session() {
    check("b'Q' + struct.pack('!I', 0x7fffffff)", "");
}

#[test]
fn an_unknown_message_ends_the_session() {
    check("message(b'z', b'')", "");
}

#[test]
fn a_startup_message_after_login_ends_the_session() {
    check("struct.pack('!II', 8, 196608)", "");
}

#[test]
fn a_query_without_its_terminating_zero_byte_ends_the_session() {
    check("message(b'Q', b'SELECT 1')", "");
}

#[test]
fn a_function_call_message_is_denied() {
    // pg_backend_pid() by its OID: no text to decide on.
    let script = AFTER_LOGIN.replace("got = answers()", "got = raw.recv(65536)");
    let done =
        lab().python(&script.replace("BYTES", "message(b'F', struct.pack('!IHHH', 2026, 0, 0, 0))")).unwrap();
    let told = lines(&done).join("\n");
    assert!(told.contains("42501") && told.contains("no-code"), "{told}");
}

#[test]
fn bytes_that_are_not_postgresql_get_an_error_and_the_connection_closes() {
    for (bytes, reason) in [
        ("b'GET / HTTP/1.1\\r\\n\\r\\n'", "startup packet"),
        ("b'\\x00\\x00\\x00\\x08\\xff\\xff\\xff\\xff'", "version"),
        ("b'\\x00\\x00\\x00\\x00'", "startup packet"),
    ] {
        let script = format!(
            r#"
import os, socket
raw = socket.create_connection(("127.0.0.1", int(os.environ["PGPORT"])), timeout=20)
raw.sendall({bytes})
got = b""
try:
    while piece := raw.recv(65536):
        got += piece
except ConnectionResetError:
    pass
print("ended", got)
"#
        );
        let done = lab().python(&script).unwrap();
        let told = lines(&done)[0];
        assert!(told.starts_with("ended") && told.contains("lineal: ") && told.contains(reason), "{done:?}");
    }
    assert_eq!(lines(&lab().psql(&["SELECT 1"]).unwrap()), ["1"]);
}

#[test]
fn tls_is_granted_at_once_and_after_gss_encryption_was_declined() {
    let done = lab()
        .python(
            r#"
import os, socket, struct
GSS, SSL = 80877104, 80877103
for codes in ((GSS, SSL), (SSL,)):
    raw = socket.create_connection(("127.0.0.1", int(os.environ["PGPORT"])), timeout=20)
    for code in codes:
        raw.sendall(struct.pack("!II", 8, code))
        print(raw.recv(1).decode())
"#,
        )
        .unwrap();
    assert_eq!(lines(&done), ["N", "S", "S"]);
}
