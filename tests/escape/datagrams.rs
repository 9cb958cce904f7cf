//! Ways for a job to send a datagram to anybody but itself.

use std::{net::UdpSocket, process::Command};

use lineal_tests::{
    Lab, LabOptions,
    command::{PATIENCE, finish},
    network::{FAR, apart},
    script::PYTHON,
};

use crate::shared::lab;

/// Every way to send a datagram.
const WAYS: &str = include_str!("ways.py");

/// A receiver outside every job, and its port.
fn receiver() -> (UdpSocket, u16) {
    let receiver = UdpSocket::bind("127.0.0.1:0").unwrap();
    receiver.set_nonblocking(true).unwrap();
    let port = receiver.local_addr().unwrap().port();
    (receiver, port)
}

/// Whether a datagram has arrived.
fn has_received(receiver: &UdpSocket) -> bool {
    receiver.recv(&mut [0; 64]).is_ok()
}

#[test]
fn no_way_to_send_a_datagram_leaves_the_host() {
    let python = Command::new(PYTHON);
    let script = |mut python: Command| {
        python.args(["-c", WAYS, FAR]);
        python
    };
    let direct = finish(&mut lab().inside(&apart(&script(python)))).unwrap();
    // Outside every job each way works, so the device's counter tells.
    assert_eq!(direct.code, Some(0), "{direct:?}");
    assert!(direct.stdout.lines().all(|line| line.ends_with(" sent left")), "{direct:?}");
    let job = lab().job("ways", &[PYTHON, "-c", WAYS, FAR]).unwrap();
    let done = finish(&mut lab().inside(&apart(&job))).unwrap();
    assert_eq!(done.code, Some(0), "{done:?}");
    assert_eq!(done.stdout.lines().count(), direct.stdout.lines().count(), "{done:?}");
    for line in done.stdout.lines() {
        // Whoever takes the cork out is told nothing: the kernel forgets what came of it.
        assert!(line.ends_with(" refused stayed") || line == "corked sent stayed", "{done:?}");
    }
}

#[test]
fn a_connected_socket_that_comes_from_outside_sends_nothing_in_a_job() {
    let (receiver, port) = receiver();
    // An untagged process connects a socket. The job gets it twice: inherited, and over a unix socket.
    let script = r#"
import os, socket, subprocess, sys
port, job = int(sys.argv[1]), sys.argv[2:]
inherited = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
inherited.connect(("127.0.0.1", port))
ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
passed = [ours.fileno(), theirs.fileno(), inherited.fileno()]
running = subprocess.Popen(job + [str(theirs.fileno()), str(inherited.fileno())], pass_fds=passed)
other = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
other.connect(("127.0.0.1", port))
socket.send_fds(ours, [b"x"], [other.fileno()])
sys.exit(running.wait())
"#;
    let in_job = r#"
import socket, sys
theirs, inherited = (socket.socket(fileno=int(number)) for number in sys.argv[1:])
_, [passed], _, _ = socket.recv_fds(theirs, 1, 1)
for s in inherited, socket.socket(fileno=passed):
    for send in lambda: s.send(b"out"), lambda: s.sendto(b"out", s.getpeername()):
        try:
            send()
            print("sent")
        except (PermissionError, ConnectionRefusedError):
            print("refused")
"#;
    let job = lab().job("given", &[PYTHON, "-c", in_job]).unwrap();
    let mut outside = Command::new(PYTHON);
    outside.args(["-c", script, &port.to_string()]).arg(job.get_program()).args(job.get_args());
    outside.envs(job.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let done = finish(&mut lab().inside(&outside)).unwrap();
    assert!(!has_received(&receiver), "a datagram got out: {done:?}");
    assert_eq!(done.stdout, "refused\n".repeat(4), "{done:?}");
}

#[test]
fn a_socket_that_a_job_has_connected_sends_nothing_outside_either() {
    let (receiver, port) = receiver();
    // The job hands its connected socket to a process outside, which sends.
    let script = r#"
import socket, subprocess, sys
port, job = sys.argv[1], sys.argv[2:]
ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
passed = [theirs.fileno()]
running = subprocess.Popen(job + [str(theirs.fileno()), port], pass_fds=passed)
_, [connected], _, _ = socket.recv_fds(ours, 1, 1)
s = socket.socket(fileno=connected)
for send in lambda: s.send(b"out"), lambda: s.sendto(b"out", ("127.0.0.1", int(port))):
    try:
        send()
        print("sent")
    except (PermissionError, ConnectionRefusedError):
        print("refused")
"#;
    let in_job = r#"
import socket, sys
theirs = socket.socket(fileno=int(sys.argv[1]))
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.connect(("127.0.0.1", int(sys.argv[2])))
socket.send_fds(theirs, [b"x"], [s.fileno()])
"#;
    let job = lab().job("gives", &[PYTHON, "-c", in_job]).unwrap();
    let mut outside = Command::new(PYTHON);
    outside.args(["-c", script, &port.to_string()]).arg(job.get_program()).args(job.get_args());
    outside.envs(job.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let done = finish(&mut lab().inside(&outside)).unwrap();
    assert!(!has_received(&receiver), "a datagram got out: {done:?}");
    assert_eq!(done.stdout, "refused\nrefused\n", "{done:?}");
}

#[test]
fn a_process_enrolled_later_sends_nothing_on_the_socket_that_it_had_connected() {
    let (receiver, port) = receiver();
    let script = r#"
import socket, sys
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.connect(("127.0.0.1", int(sys.argv[1])))
for line in sys.stdin:
    try:
        s.send(b"out")
        print("sent", flush=True)
    except PermissionError:
        print("refused", flush=True)
"#;
    let mut python = Command::new(PYTHON);
    python.args(["-c", script, &port.to_string()]);
    let mut running = lab().converse("connected", &lab().inside(&python)).unwrap();
    let pid = running.pid().to_string();
    let mut sent = || {
        running.say("").unwrap();
        running.line(PATIENCE).unwrap()
    };
    assert_eq!(sent(), "sent");
    assert!(has_received(&receiver));
    let token = lab().token_file();
    let enrolled = lab().ask(&["enroll", "--pid", &pid, "--token-file", token.to_str().unwrap()]).unwrap();
    assert_eq!(enrolled.code, Some(0), "{enrolled:?}");
    assert_eq!(sent(), "refused");
    assert!(!has_received(&receiver));
}

#[test]
fn connecting_elsewhere_and_back_while_another_thread_sends_lets_nothing_out() {
    let (resolver, resolvers_port) = receiver();
    let (outside, port) = receiver();
    let kernel: &'static str = format!("resolvers = [\"127.0.0.1:{resolvers_port}\"]").leak();
    let lab = Lab::start(&LabOptions { kernel, ..LabOptions::default() }).unwrap();
    let script = r#"
import socket, sys, threading
resolver, elsewhere = (("127.0.0.1", int(port)) for port in sys.argv[1:])
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.connect(resolver)
s.send(b"a question")
done = False
def connect():
    while not done:
        s.connect(elsewhere)
        s.connect(resolver)
other = threading.Thread(target=connect)
other.start()
sent = 0
for _ in range(20000):
    try:
        s.send(b"perhaps")
        sent += 1
    except (PermissionError, ConnectionRefusedError):
        pass
done = True
other.join()
print(sent > 0)
"#;
    let ports = [resolvers_port.to_string(), port.to_string()];
    let done = lab.run("race", &[PYTHON, "-c", script, &ports[0], &ports[1]]).unwrap();
    assert_eq!(done.stdout, "True\n", "{done:?}");
    assert!(has_received(&resolver));
    assert!(!has_received(&outside), "a datagram got out");
}

#[test]
fn a_source_route_given_with_a_single_datagram_to_a_resolver_is_refused() {
    let (resolver, port) = receiver();
    let kernel: &'static str = format!("resolvers = [\"127.0.0.1:{port}\"]").leak();
    let lab = Lab::start(&LabOptions { kernel, ..LabOptions::default() }).unwrap();
    let script = r#"
import socket, sys
resolver = ("127.0.0.1", int(sys.argv[1]))
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.sendto(b"straight", resolver)
route = bytes([131, 11, 4]) + socket.inet_aton("127.0.0.1") + socket.inet_aton("127.0.0.9") + bytes(1)
try:
    s.sendmsg([b"routed"], [(socket.IPPROTO_IP, 7, route)], 0, resolver)
    print("sent")
except PermissionError:
    print("refused")
"#;
    let done = lab.run("routes", &[PYTHON, "-c", script, &port.to_string()]).unwrap();
    assert_eq!(done.stdout, "refused\n", "{done:?}");
    assert!(has_received(&resolver) && !has_received(&resolver));
}
