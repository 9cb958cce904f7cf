//! Ways for a job to send something past lineal: every kind of connect, socket, socket option, fork and
//! namespace.

use std::{
    net::{TcpListener, UdpSocket},
    process::Command,
};

use lineal_tests::{Lab, LabOptions, command::finish, http, script::PYTHON};

use crate::shared::{lab, must_not_escape};

/// Runs the body of a Python function that connects to `HOST` and `PORT` and returns the socket. Asserts that
/// no connection reached the destination, and that whatever the socket led to did not answer.
fn check(connect: &str) {
    let done = must_not_escape(&format!(
        r#"
import ctypes, os, socket, struct, sys, threading
HOST, PORT = os.environ["HOST"], int(os.environ["PORT"])
def attempt():
{}
try:
    connection = attempt()
    connection.settimeout(20)
    connection.sendall(b"hello")
    got = connection.recv(1)
    print("answered" if got else "closed")
except OSError as error:
    print("refused", error)
"#,
        connect.trim_matches('\n').lines().map(|line| format!("    {line}\n")).collect::<String>()
    ));
    assert!(!done.stdout.contains("answered"), "{done:?}");
}

#[test]
fn a_plain_connect_does_not_escape() {
    check("return socket.create_connection((HOST, PORT))");
}

#[test]
fn the_unspecified_address_from_a_bound_ipv6_socket_does_not_escape() {
    // The kernel takes the unspecified address for the one that the socket is bound to; the job has a
    // listener of its own at ::1 with the same port.
    check(
        r#"
listener = socket.socket(socket.AF_INET6)
listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
listener.bind(("::1", PORT))
listener.listen()
s = socket.socket(socket.AF_INET6)
s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
s.bind(("::ffff:127.0.0.1", 0))
s.connect(("::", PORT))
listener.close()
return s
"#,
    );
}

#[test]
fn the_unspecified_address_reaches_the_jobs_own_listener_and_no_other() {
    // The sockets are bound to 127.0.0.5, where a listener outside the job waits; the job's own is at
    // 127.0.0.1.
    let outside = TcpListener::bind("127.0.0.5:0").unwrap();
    let port = outside.local_addr().unwrap().port().to_string();
    let script = r#"
import socket, sys
port = int(sys.argv[1])
ways = (socket.AF_INET, "0.0.0.0", "127.0.0.5"), (socket.AF_INET6, "::ffff:0.0.0.0", "::ffff:127.0.0.5")
with socket.create_server(("127.0.0.1", port)) as listener:
    for family, host, own in ways:
        with socket.socket(family) as stream:
            stream.bind((own, 0))
            stream.connect((host, port))
            print(listener.accept()[1][0])
"#;
    let done = lab().run("escape", &[PYTHON, "-c", script, &port]).unwrap();
    assert_eq!(done.stdout, "127.0.0.5\n127.0.0.5\n", "{done:?}");
    outside.set_nonblocking(true).unwrap();
    assert!(outside.accept().is_err());
}

#[test]
fn source_routes_are_refused_to_jobs_and_to_nobody_else() {
    let script = r#"
import socket
def tried(family, kind, level, option, value):
    with socket.socket(family, kind) as s:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        try:
            s.setsockopt(level, option, value)
            return "set"
        except OSError as error:
            return error.errno
# An option longer than a page, of which the kernel shows a program only a part.
socket.socket().setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, (65536).to_bytes(4, "little") + bytes(8192))
loose = bytes([131, 7, 4, 127, 0, 0, 9, 0])
segments = bytes([0, 2, 4, 0, 0, 0, 0, 0]) + socket.inet_pton(socket.AF_INET6, "::1")
for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
    v6 = [tried(socket.AF_INET6, kind, 41, option, segments) for option in (5, 6, 55, 57)]
    print(tried(socket.AF_INET, kind, 0, 4, loose), *v6)
"#;
    let done = lab().run("escape", &[PYTHON, "-c", script]).unwrap();
    assert_eq!(done.stdout, "1 1 1 1 1\n1 1 1 1 1\n", "{done:?}");
    // A process outside every job may set the same options.
    let mut python = Command::new(PYTHON);
    let free = finish(&mut lab().inside(python.args(["-c", script]))).unwrap();
    assert!(free.stdout.starts_with("set "), "{free:?}");
}

#[test]
fn an_ipv4_address_mapped_into_ipv6_does_not_escape() {
    check(
        r#"
s = socket.socket(socket.AF_INET6)
s.connect(("::ffff:" + HOST, PORT))
return s
"#,
    );
}

#[test]
fn a_bound_and_marked_socket_does_not_escape() {
    check(
        r#"
s = socket.socket()
s.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, 0x1337)
s.bind(("127.0.0.1", 0))
s.connect((HOST, PORT))
return s
"#,
    );
}

#[test]
fn a_socket_bound_to_a_device_does_not_escape() {
    check(
        r#"
s = socket.socket()
s.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"lo\0")
s.connect((HOST, PORT))
return s
"#,
    );
}

#[test]
fn tcp_fast_open_does_not_escape() {
    check(
        r#"
s = socket.socket()
s.sendto(b"hello", 0x20000000, (HOST, PORT))
return s
"#,
    );
}

#[test]
fn a_non_blocking_connect_does_not_escape() {
    check(
        r#"
import select
s = socket.socket()
s.setblocking(False)
s.connect_ex((HOST, PORT))
select.select([], [s], [], 20)
return s
"#,
    );
}

#[test]
fn reconnecting_a_disconnected_socket_does_not_escape() {
    check(
        r#"
libc = ctypes.CDLL(None, use_errno=True)
s = socket.socket()
s.connect((HOST, int(os.environ["PGPORT"])))
unspecified = struct.pack("=H14x", socket.AF_UNSPEC)
assert libc.connect(s.fileno(), unspecified, len(unspecified)) == 0
s.connect((HOST, PORT))
return s
"#,
    );
}

#[test]
fn multipath_tcp_does_not_escape() {
    check(
        r#"
s = socket.socket(socket.AF_INET, socket.SOCK_STREAM, 262)
s.connect((HOST, PORT))
return s
"#,
    );
}

#[test]
fn sctp_raw_and_ping_sockets_are_refused() {
    let done = must_not_escape(
        r#"
import socket
for name, kind, protocol in (
    ("raw tcp", socket.SOCK_RAW, socket.IPPROTO_TCP),
    ("raw icmp", socket.SOCK_RAW, socket.IPPROTO_ICMP),
    ("raw", socket.SOCK_RAW, socket.IPPROTO_RAW),
    ("ping", socket.SOCK_DGRAM, socket.IPPROTO_ICMP),
    ("sctp", socket.SOCK_STREAM, 132),
    ("udp-lite", socket.SOCK_DGRAM, 136),
):
    try:
        socket.socket(socket.AF_INET, kind, protocol)
        print("open:", name)
    except OSError:
        pass
"#,
    );
    assert_eq!(done.stdout, "", "{done:?}");
}

#[test]
fn udp_datagrams_reach_nobody() {
    // The receiver is outside every job.
    let receiver = UdpSocket::bind("127.0.0.1:0").unwrap();
    receiver.set_nonblocking(true).unwrap();
    let port = receiver.local_addr().unwrap().port();
    let done = must_not_escape(&format!(
        r#"
import socket
for connected in (False, True):
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    try:
        if connected:
            s.connect(("127.0.0.1", {port}))
            s.send(b"out")
        else:
            s.sendto(b"out", ("127.0.0.1", {port}))
        print("sent")
    except OSError:
        pass
"#
    ));
    let mut buffer = [0; 16];
    assert!(receiver.recv(&mut buffer).is_err(), "a datagram got out: {done:?}");
    assert_eq!(done.stdout, "", "{done:?}");
}

#[test]
fn a_new_network_namespace_reaches_nothing() {
    let mut lab = Lab::start(&LabOptions::default()).unwrap();
    let script = r#"
import ctypes, os, socket
CLONE_NEWNET = 0x40000000
assert ctypes.CDLL(None, use_errno=True).unshare(CLONE_NEWNET) == 0
os.system("/usr/sbin/ip link set lo up")
print(socket.socket().connect_ex(("127.0.0.1", 5432)))
"#;
    let done = lab.run("unshared", &[PYTHON, "-c", script]).unwrap();
    assert_eq!(done.stdout, "111\n", "{done:?}");
    // Nothing listens at that port, so only the counter shows that it was lineal that refused.
    let scrape = http::get(lab.agent().unwrap().metrics(), "/metrics").unwrap();
    assert!(scrape.contains("lineal_kernel_refusals_total{reason=\"no_listener\"} 1"), "{scrape}");
}

#[test]
fn a_socket_that_a_forked_daemon_connects_does_not_escape() {
    check(
        r#"
s = socket.socket()
reader, writer = os.pipe()
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        os.write(writer, str(s.connect_ex((HOST, PORT))).encode())
    os._exit(0)
os.close(writer)
os.read(reader, 16)
return s
"#,
    );
}

#[test]
fn clone_parent_does_not_leave_the_lineage() {
    check(
        r#"
CLONE_PARENT, SIGCHLD = 0x00008000, 17
libc = ctypes.CDLL(None, use_errno=True)
reader, writer = os.pipe()
# SYS_clone on x86-64 and on aarch64.
number = {"x86_64": 56, "aarch64": 220}[os.uname().machine]
child = libc.syscall(number, CLONE_PARENT | SIGCHLD, 0, 0, 0, 0)
if child == 0:
    s = socket.socket()
    os.write(writer, str(s.connect_ex((HOST, PORT))).encode() or b"?")
    try:
        s.sendall(b"hello")
        os.write(writer, s.recv(1) and b" answered")
    except OSError:
        pass
    os._exit(0)
os.close(writer)
said = b""
while piece := os.read(reader, 64):
    said += piece
if b"answered" in said:
    print("answered")
raise OSError("the child told: " + said.decode())
"#,
    );
}

#[test]
fn moving_to_a_child_cgroup_does_not_escape() {
    check(
        r#"
own = next(line.split("::")[1].strip() for line in open("/proc/self/cgroup") if "::" in line)
root = next(line.split()[1] for line in open("/proc/self/mounts") if line.split()[2] == "cgroup2")
place = root + own + "/elsewhere"
os.makedirs(place, exist_ok=True)
with open(place + "/cgroup.procs", "w") as procs:
    procs.write(str(os.getpid()))
return socket.create_connection((HOST, PORT))
"#,
    );
}

#[test]
fn a_thousand_vforks_and_execs_stay_in_the_lineage() {
    let done = must_not_escape(
        r#"
import os, subprocess
for _ in range(1000):
    subprocess.run(["/bin/true"], check=True)
psql = ["psql", "-XAtqc", "SELECT 'after 1000'"]
print(subprocess.run(psql, capture_output=True, text=True).stdout.strip())
"#,
    );
    assert_eq!(done.stdout, "after 1000\n", "{done:?}");
    let rows = lab().audit(&[]).unwrap();
    assert!(rows.iter().any(|row| row["statement"]["text"] == "SELECT 'after 1000'"));
}

#[test]
fn a_job_that_dials_the_agents_listener_gets_no_answer() {
    // Client → every listener on this host's loopback: an SSLRequest. Back: an answer from the declared
    // server's port alone, because a connection to the agent's own listener is closed.
    let done = must_not_escape(
        r#"
import os, socket
with open("/proc/net/tcp") as table:
    rows = [line.split() for line in table.readlines()[1:]]
ports = sorted({int(row[1].split(":")[1], 16) for row in rows if row[3] == "0A"})
for port in ports:
    try:
        s = socket.create_connection(("127.0.0.1", port), timeout=20)
        s.sendall(b"\0\0\0\x08\x04\xd2\x16\x2f")
        got = s.recv(1)
        if got and port != int(os.environ["PGPORT"]):
            print("answered on", port, got)
    except OSError:
        pass
"#,
    );
    assert_eq!(done.stdout, "", "{done:?}");
}
