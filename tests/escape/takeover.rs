//! Attempts to have a connection that a job may make to its own listener accepted by somebody else.

use std::{process::Command, time::Duration};

use lineal_tests::{
    Lab, LabOptions,
    command::{PATIENCE, finish},
    http,
    network::{FAR, apart},
    paths,
    script::PYTHON,
};

use crate::shared::lab;

/// How long one look at what a job prints may take.
const GLANCE: Duration = Duration::from_millis(100);

/// Takes the port that it is told, and later says what it was sent there.
const OUTSIDE: &str = r#"
import socket, sys
port = int(sys.stdin.readline())
listener = socket.socket()
listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
listener.bind(("127.0.0.1", port))
listener.listen()
print("listening", flush=True)
sys.stdin.readline()
listener.setblocking(False)
try:
    print("accepted", listener.accept()[0].recv(16), flush=True)
except BlockingIOError:
    print("nobody came", flush=True)
"#;

/// How many packets were kept from a socket of another owner, by the metrics served at this address.
fn kept_back(metrics: &str) -> u64 {
    let metrics = http::get(metrics, "/metrics").unwrap();
    let series = "lineal_kernel_refusals_total{reason=\"receiver\"} ";
    let line = metrics.lines().find_map(|line| line.strip_prefix(series));
    line.map_or(0, |value| value.trim().parse().unwrap())
}

#[test]
fn a_connection_that_waits_for_room_does_not_reach_the_next_owner_of_the_port() {
    let mut lab = Lab::start(&LabOptions::default()).unwrap();
    // The listener's queue is full, so the kernel asks again later; by then the port has another owner.
    let script = r#"
import select, socket, sys
listener = socket.socket()
listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
listener.bind(("127.0.0.1", 0))
listener.listen(0)
filling = socket.create_connection(listener.getsockname())
waiting = socket.socket()
waiting.setblocking(False)
waiting.connect_ex(listener.getsockname())
assert not select.select([], [waiting], [], 0)[1]
port = listener.getsockname()[1]
listener.close()
filling.close()
print(port, flush=True)
writable = select.select([sys.stdin], [waiting], [])[1]
if writable and waiting.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0:
    waiting.send(b"out")
    print("connected", flush=True)
sys.stdin.readline()
"#;
    let mut outside = Command::new(PYTHON);
    outside.args(["-c", OUTSIDE]);
    let mut outside = lab.converse("outside", &lab.inside(&outside)).unwrap();
    let mut job = lab.converse("job", &lab.job("waits", &[PYTHON, "-c", script]).unwrap()).unwrap();
    outside.say(&job.line(PATIENCE).unwrap()).unwrap();
    assert_eq!(outside.line(PATIENCE).unwrap(), "listening");
    let metrics = lab.agent().unwrap().metrics().to_owned();
    let mut connected = None;
    lab.wait_until("the connection is asked for again", || {
        connected = job.line(GLANCE).ok();
        Ok(connected.is_some() || kept_back(&metrics) > 0)
    })
    .unwrap();
    outside.say("").unwrap();
    assert_eq!(outside.line(PATIENCE).unwrap(), "nobody came", "{connected:?}");
    assert_eq!(connected, None);
}

/// Sockets at eight ports which others may share, of the kind that the first argument names: at any, or at
/// those that standard input names. At a word from there, or after connecting to each port often enough, says
/// how many connections or datagrams have come.
const SHARED: &str = r#"
import socket, sys
kind, inside = getattr(socket, sys.argv[1]), sys.argv[2] == "inside"
wanted = [0] * 8 if inside else map(int, sys.stdin.readline().split())
held = []
for port in wanted:
    s = socket.socket(socket.AF_INET, kind)
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    s.bind(("127.0.0.1", port))
    if kind == socket.SOCK_STREAM:
        s.listen(64)
    s.setblocking(False)
    held.append(s)
print(*(s.getsockname()[1] for s in held), flush=True)
sys.stdin.readline()
kept = []
for s in held if inside else []:
    for _ in range(16):
        kept.append(socket.socket(socket.AF_INET, kind))
        kept[-1].setblocking(False)
        kept[-1].connect_ex(s.getsockname())
        try:
            kept[-1].send(b"out")
        except OSError:
            pass
came = 0
for s in held:
    try:
        while s.accept() if kind == socket.SOCK_STREAM else s.recv(16):
            came += 1
    except BlockingIOError:
        pass
print(came, flush=True)
"#;

#[test]
fn sockets_of_several_owners_at_one_port_do_not_get_each_others_packets() {
    // The kernel chooses among the sockets at a port by both ends of each connection and datagram.
    for kind in ["SOCK_STREAM", "SOCK_DGRAM"] {
        let mut python = Command::new(PYTHON);
        python.args(["-c", SHARED, kind, "outside"]);
        let mut outside = lab().converse("outside", &lab().inside(&python)).unwrap();
        let job = lab().job("shares", &[PYTHON, "-c", SHARED, kind, "inside"]).unwrap();
        let mut job = lab().converse("job", &job).unwrap();
        let ports = job.line(PATIENCE).unwrap();
        outside.say(&ports).unwrap();
        assert_eq!(outside.line(PATIENCE).unwrap(), ports);
        job.say("").unwrap();
        let came: usize = job.line(PATIENCE).unwrap().parse().unwrap();
        outside.say("").unwrap();
        assert_eq!(outside.line(PATIENCE).unwrap(), "0", "{kind}");
        assert!(came > 0 && came < 128, "{kind}: {came}");
    }
}

#[test]
fn a_job_cannot_have_a_program_choose_among_the_sockets_at_a_port() {
    let script = r#"
import ctypes, socket, struct
SO_ATTACH_REUSEPORT_CBPF = 51
# A classic program that always chooses the first socket.
code = ctypes.create_string_buffer(struct.pack("=HBBI", 6, 0, 0, 0))
program = struct.pack("=H6xQ", 1, ctypes.addressof(code))
for kind in socket.SOCK_STREAM, socket.SOCK_DGRAM:
    s = socket.socket(socket.AF_INET, kind)
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    s.bind(("127.0.0.1", 0))
    try:
        s.setsockopt(socket.SOL_SOCKET, SO_ATTACH_REUSEPORT_CBPF, program)
        print("set")
    except PermissionError:
        print("refused")
"#;
    let done = lab().run("chooses", &[PYTHON, "-c", script]).unwrap();
    assert_eq!(done.stdout, "refused\nrefused\n", "{done:?}");
    let mut python = Command::new(PYTHON);
    let free = finish(&mut lab().inside(python.args(["-c", script]))).unwrap();
    assert_eq!(free.stdout, "set\nset\n", "{free:?}");
}

#[test]
fn a_listener_at_every_address_takes_no_unseen_socket_to_another_host() {
    // The job moves to a cgroup where its packets are not seen. There it has a socket that the kernel would
    // bind to any address, as if it were the host's own.
    let script = r#"
import os, socket, sys
far, cgroup = sys.argv[1:]
with open(cgroup + "/unseen/cgroup.procs", "w") as procs:
    procs.write(str(os.getpid()))
IP_TRANSPARENT = 19
listener = socket.create_server(("0.0.0.0", 0))
s = socket.socket()
s.setsockopt(socket.IPPROTO_IP, IP_TRANSPARENT, 1)
s.setblocking(False)
s.connect_ex((far, listener.getsockname()[1]))
u = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
print(u.connect_ex((far, 9)))
with open("/proc/net/dev") as table:
    print(next(line.split()[10] for line in table if line.strip().startswith("out:")))
"#;
    const IN_PLACE: &str =
        "mkdir \"$0\" \"$0/seen\" \"$0/unseen\" && echo $$ > \"$0/seen/cgroup.procs\" && exec \"$@\"";
    let mut lab = Lab::start(&LabOptions::default()).unwrap();
    let cgroup = lab.cgroup().path().join("jobs");
    let mut placed = Command::new("/bin/sh");
    placed.args(["-c", IN_PLACE]).arg(&cgroup).arg(paths::lineal().unwrap());
    placed.args(["run", "--token-file"]).arg(lab.token_file());
    placed.args(["--", PYTHON, "-c", script, FAR]).arg(&cgroup);
    placed.env("LINEAL_CONTROL", lab.agent_options().control());
    let done = finish(&mut apart(&placed)).unwrap();
    assert_eq!(done.stdout, "111\n0\n", "{done:?}");
}
