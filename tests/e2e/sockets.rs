//! What sockets tell a job's programs, beside what they tell the same programs outside.

use std::process::Command;

use lineal_tests::{command::finish, script::PYTHON};

use crate::shared::{lab, lines};

#[test]
fn a_connection_to_no_address_is_one_to_loopback_and_shows_as_one() {
    // Client → lineal → server: an SSLRequest over each form of "any address". Back: its answer.
    let script = r#"
import os, socket
PORT = int(os.environ["PGPORT"])
for family, address in ((socket.AF_INET, "0.0.0.0"), (socket.AF_INET6, "::ffff:0.0.0.0")):
    raw = socket.socket(family)
    raw.settimeout(20)
    raw.connect((address, PORT))
    raw.sendall(bytes.fromhex("0000000804d2162f"))
    print(raw.getpeername()[0], raw.recv(1))
"#;
    let mut direct = Command::new(PYTHON);
    direct.args(["-c", script]);
    let direct = finish(&mut lab().inside(&direct)).unwrap();
    assert_eq!(lines(&direct), ["127.0.0.1 b'S'", "::ffff:127.0.0.1 b'S'"]);
    let done = lab().python(script).unwrap();
    assert_eq!(lines(&done), lines(&direct), "{done:?}");
}

#[test]
fn a_program_that_asks_for_multipath_tcp_learns_that_there_is_none() {
    let script = r#"
import errno, socket
try:
    print(socket.socket(socket.AF_INET, socket.SOCK_STREAM, 262))
except OSError as error:
    print(errno.errorcode[error.errno])
"#;
    // What socket(2) says where net.mptcp.enabled is 0; programs then use TCP.
    assert_eq!(lines(&lab().python(script).unwrap()), ["ENOPROTOOPT"]);
}
