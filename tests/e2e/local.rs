//! What a job does on its own host: the addresses that the resolver gives, and its own servers.

use std::process::Command;

use lineal_tests::{
    command::{Finished, PATIENCE, finish},
    network::{FAR, NAME, apart},
    script::PYTHON,
};

use crate::shared::lab;

/// What a script prints in a network namespace of its own: outside every job, and in one.
fn direct_and_in_job(script: &str, arguments: &[&str]) -> (Finished, Finished) {
    let command = [&[PYTHON, "-c", script], arguments].concat();
    let mut direct = Command::new(PYTHON);
    direct.args(&command[1..]);
    let job = lab().job("local", &command).unwrap();
    let run = |command: &Command| finish(&mut lab().inside(&apart(command))).unwrap();
    (run(&direct), run(&job))
}

/// Asserts that a script prints the same in a job as outside, and at least something.
fn same_in_job(script: &str, arguments: &[&str]) {
    let (direct, job) = direct_and_in_job(script, arguments);
    assert_eq!(direct.code, Some(0), "{direct:?}");
    assert_ne!(direct.stdout, "", "{direct:?}");
    assert_eq!(job.stdout, direct.stdout, "{job:?}");
}

#[test]
fn names_resolve_to_addresses_in_the_order_of_the_routes() {
    let script = r#"
import socket, sys
for kind in 0, socket.SOCK_STREAM, socket.SOCK_DGRAM:
    print([found[4][0] for found in socket.getaddrinfo(sys.argv[1], 5432, type=kind)])
"#;
    same_in_job(script, &[NAME]);
    let (direct, _) = direct_and_in_job(script, &[NAME]);
    assert!(direct.stdout.starts_with(&format!("['{FAR}'")), "the route decides: {direct:?}");
}

#[test]
fn a_connected_datagram_socket_shows_the_source_address_that_the_routes_give() {
    same_in_job(
        r#"
import errno, socket, sys
V4, V6 = socket.AF_INET, socket.AF_INET6
for family, host in (V4, sys.argv[1]), (V6, "2001:db8::7"), (V4, "192.0.2.1"):
    s = socket.socket(family, socket.SOCK_DGRAM)
    try:
        s.connect((host, 53))
        print(s.getsockname()[0], s.getpeername())
    except OSError as error:
        print(errno.errorcode[error.errno])
"#,
        &[FAR],
    );
}

#[test]
fn a_jobs_own_udp_server_answers_at_every_address_of_the_host() {
    same_in_job(
        r#"
import socket, threading
def serve(family, host):
    server = socket.socket(family, socket.SOCK_DGRAM)
    server.bind((host, 0))
    def answer():
        while True:
            data, sender = server.recvfrom(64)
            server.sendto(data.upper(), sender)
    threading.Thread(target=answer, daemon=True).start()
    return server.getsockname()[1]
V4, V6 = socket.AF_INET, socket.AF_INET6
ways = (
    (V4, "127.0.0.1", V4, "127.0.0.1"), (V4, "127.0.0.53", V4, "127.0.0.53"), (V6, "::1", V6, "::1"),
    (V4, "127.0.0.1", V6, "::ffff:127.0.0.1"), (V6, "::", V4, "127.0.0.1"), (V4, "0.0.0.0", V4, "0.0.0.0"),
    (V4, "0.0.0.0", V4, "192.0.2.1"), (V4, "192.0.2.1", V4, "192.0.2.1"),
)
for family, host, from_family, to in ways:
    port = serve(family, host)
    for connected in True, False:
        with socket.socket(from_family, socket.SOCK_DGRAM) as client:
            client.settimeout(20)
            try:
                if connected:
                    client.connect((to, port))
                    client.send(b"statsd")
                else:
                    client.sendto(b"statsd", (to, port))
                data, sender = client.recvfrom(64)
                print(host, to, connected, data, sender[0])
            except OSError as error:
                print(host, to, connected, error)
"#,
        &[],
    );
}

#[test]
fn a_datagram_to_a_loopback_port_where_nobody_receives_is_answered_as_outside() {
    same_in_job(
        r#"
import errno, socket
for family, host in (socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1"):
    with socket.socket(family, socket.SOCK_DGRAM) as closed:
        closed.bind((host, 0))
        port = closed.getsockname()[1]
    with socket.socket(family, socket.SOCK_DGRAM) as client:
        client.settimeout(20)
        client.connect((host, port))
        client.send(b"anybody?")
        try:
            client.recv(64)
        except OSError as error:
            print(errno.errorcode[error.errno])
"#,
        &[],
    );
}

#[test]
fn a_job_sends_nothing_to_another_jobs_udp_server() {
    let server = r#"
import socket, sys
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.bind(("127.0.0.1", 0))
print(s.getsockname()[1], flush=True)
sys.stdin.readline()
s.setblocking(False)
try:
    print(s.recv(64), flush=True)
except BlockingIOError:
    print("nothing", flush=True)
"#;
    let client = r#"
import socket, sys
to = ("127.0.0.1", int(sys.argv[1]))
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.connect(to)
for send in lambda: s.send(b"out"), lambda: s.sendto(b"out", to):
    try:
        send()
        print("sent")
    except OSError as error:
        print(error.errno)
"#;
    let mut server =
        lab().converse("server", &lab().job("server", &[PYTHON, "-c", server]).unwrap()).unwrap();
    let port = server.line(PATIENCE).unwrap();
    let done = lab().run("client", &[PYTHON, "-c", client, &port]).unwrap();
    // The kernel gives a program on packets no say in the error.
    assert_eq!(done.stdout, "1\n111\n", "{done:?}");
    server.say("").unwrap();
    assert_eq!(server.line(PATIENCE).unwrap(), "nothing");
}

#[test]
fn a_jobs_own_listener_is_reached_at_every_address_of_the_host() {
    same_in_job(
        r#"
import socket
V4, V6 = socket.AF_INET, socket.AF_INET6
ways = (
    (V4, "192.0.2.1", V4, "192.0.2.1"), (V4, "0.0.0.0", V4, "192.0.2.1"), (V6, "::", V4, "192.0.2.1"),
    (V4, "192.0.2.1", V6, "::ffff:192.0.2.1"), (V6, "::", V6, "::1"), (V4, "127.0.0.9", V4, "127.0.0.9"),
)
for family, host, from_family, to in ways:
    with socket.socket(family) as listener, socket.socket(from_family) as client:
        listener.bind((host, 0))
        listener.listen()
        listener.settimeout(20)
        client.settimeout(20)
        try:
            client.connect((to, listener.getsockname()[1]))
            stream, peer = listener.accept()
            stream.sendall(b"welcome")
            print(host, to, client.recv(64), client.getsockname()[0], client.getpeername()[0], peer[0])
        except OSError as error:
            print(host, to, error)
"#,
        &[],
    );
}

#[test]
fn a_listener_at_every_address_does_not_stand_for_other_hosts() {
    // The job listens at 0.0.0.0, and connects to another host's address at the same port.
    let script = r#"
import socket, sys
with socket.create_server(("0.0.0.0", 0)) as listener:
    port = listener.getsockname()[1]
    s = socket.socket()
    s.settimeout(20)
    s.connect((sys.argv[1], port))
    try:
        print("answered" if s.recv(1) else "closed")
    except ConnectionResetError:
        print("closed")
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    s.bind(("0.0.0.0", port))
    try:
        s.sendto(b"out", (sys.argv[1], port))
        print("sent")
    except PermissionError:
        print("refused")
    with open("/proc/net/dev") as table:
        print(next(line.split()[10] for line in table if line.strip().startswith("out:")))
"#;
    let (_, job) = direct_and_in_job(script, &[FAR]);
    assert_eq!(job.stdout, "closed\nrefused\n0\n", "{job:?}");
}
