//! Malformed, oversized and unexpected messages end their session with a clear error; the agent and all other
//! sessions go on.

use std::process::Command;

use lineal_tests::{command::finish, script::PYTHON};

use crate::shared::{WIRE, WIRE_MESSAGES, lab, lines};

/// Client → lineal: after a login, the bytes that the Python expression `bytes` yields. Back: what the
/// expression `answer` reads.
fn exchange(bytes: &str, answer: &str) -> String {
    let script = format!(
        r#"{WIRE}
raw.sendall({bytes})
print({answer}.decode("latin-1").replace("\0", " "))
"#
    );
    lines(&lab().python(&script).unwrap()).join("\n")
}

/// Sends bytes after a login, and expects an error that contains `expect`, the end of that session, and
/// service for others.
fn check(bytes: &str, expect: &str) {
    let answer = exchange(bytes, "(read_to_end(raw) + b' CLOSED')");
    assert!(answer.contains("CLOSED"), "{bytes}: {answer}");
    assert!(answer.contains("lineal: "), "{bytes}: the client was given no reason: {answer}");
    assert!(answer.contains(expect), "{bytes}: {answer}");
    assert_eq!(lines(&lab().psql(&["SELECT 1"]).unwrap()), ["1"], "another session is not served");
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
    // A FunctionCall names pg_backend_pid() by its OID: there is no text to decide on.
    let answer = exchange("message(b'F', struct.pack('!IHHH', 2026, 0, 0, 0))", "raw.recv(65536)");
    assert!(answer.contains("42501") && answer.contains("no-code"), "{answer}");
}

#[test]
fn bytes_that_are_not_postgresql_get_an_error_and_the_connection_closes() {
    for (bytes, reason) in [
        ("b'GET / HTTP/1.1\\r\\n\\r\\n'", "startup packet"),
        ("b'\\x00\\x00\\x00\\x08\\xff\\xff\\xff\\xff'", "version"),
        ("b'\\x00\\x00\\x00\\x00'", "startup packet"),
    ] {
        // Client → lineal: these bytes in place of a startup message. Back: an error with the reason, and the
        // end.
        let script = format!(
            r#"{WIRE_MESSAGES}
raw = connect()
raw.sendall({bytes})
print("ended", read_to_end(raw))
"#
        );
        let done = lab().python(&script).unwrap();
        let answer = lines(&done)[0];
        assert!(
            answer.starts_with("ended") && answer.contains("lineal: ") && answer.contains(reason),
            "{done:?}"
        );
    }
    assert_eq!(lines(&lab().psql(&["SELECT 1"]).unwrap()), ["1"]);
}

#[test]
fn a_terminate_in_place_of_a_startup_is_answered_by_nothing_as_direct() {
    // Client → lineal, and then client → server: a Terminate as the first message. Back: the end, and nothing
    // before it.
    let script = format!(
        r#"{WIRE_MESSAGES}
raw = connect()
raw.sendall(message(b"X", b""))
print(read_to_end(raw))
"#
    );
    let through = lab().python(&script).unwrap();
    let direct = finish(&mut lab().inside(Command::new(PYTHON).args(["-c", &script]))).unwrap();
    assert_eq!(lines(&through), lines(&direct));
    assert_eq!(lines(&direct), ["b''"]);
}

#[test]
fn tls_is_granted_at_once_and_after_gss_encryption_was_declined() {
    // Client → lineal: a GSSENCRequest and then an SSLRequest; on another connection an SSLRequest alone.
    // Back: one byte each, N (declined) for GSS and S (go on with TLS) for SSL.
    let script = format!(
        r#"{WIRE_MESSAGES}
for codes in ((GSS_REQUEST, SSL_REQUEST), (SSL_REQUEST,)):
    raw = connect()
    for code in codes:
        raw.sendall(untyped(code))
        print(raw.recv(1).decode())
"#
    );
    assert_eq!(lines(&lab().python(&script).unwrap()), ["N", "S", "S"]);
}
