//! A job that tries to obtain the password that the agent logs in with.

use std::{
    fs::{self, File, Permissions},
    io::{BufRead, BufReader},
    os::{fd::AsFd, unix::fs::PermissionsExt},
    process::{Child, Command, Stdio},
    thread,
};

use lineal_tests::{
    Lab, LabOptions,
    command::{Finished, PATIENCE, finish},
    forwarder::Forwarder,
    paths,
    postgres::{AGENT_PASSWORD, AGENT_USER},
    script::PYTHON,
};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// A network namespace whose loopback device is up. It exists until this is dropped, held by a child process.
struct Namespace(Child);

impl Namespace {
    /// Makes one. The process that holds it is a child of the calling thread.
    fn new() -> Self {
        let hold = "ip link set lo up && echo up && exec cat";
        let mut holder = Command::new("unshare")
            .args(["--net", "sh", "-c", hold])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(holder.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "up\n");
        Self(holder)
    }

    fn path(&self) -> String {
        format!("/proc/{}/ns/net", self.0.id())
    }

    /// Moves the calling thread into the namespace, and with it every process that it starts from now on.
    fn enter(&self) {
        let file = File::open(self.path()).unwrap();
        move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
    }

    /// Runs shell commands in the namespace.
    fn shell(&self, commands: &str) {
        let net = format!("--net={}", self.path());
        let done = finish(Command::new("nsenter").args([&net, "sh", "-ec", commands])).unwrap();
        assert_eq!(done.code, Some(0), "{done:?}");
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The database's address in the agent's network namespace, which the job also gives itself in its own.
const DATABASE: &str = "10.77.0.1";

/// Adds the database's address to the loopback device, and connects to it. Prints the user of the session it
/// got.
const DIVERTER: &str = r#"
import os, psycopg, sys
os.system(f"ip addr add {sys.argv[1]}/32 dev lo")
try:
    with psycopg.connect(host=sys.argv[1], port=sys.argv[2], password="worthless", sslmode="disable",
                         connect_timeout=3) as connection:
        print(connection.execute("SELECT current_user").fetchone()[0])
except psycopg.OperationalError as error:
    print("no session")
"#;

/// Listens at every address and the database's port, in the job's network namespace and outside the job: to
/// its own listener the job may connect without the agent. For each line says whether somebody came.
const IMPOSTOR: &str = r#"
import socket, sys
impostor = socket.create_server(("0.0.0.0", int(sys.argv[1])))
impostor.setblocking(False)
print("listening", flush=True)
for _ in sys.stdin:
    try:
        impostor.accept()
        print("diverted", flush=True)
    except BlockingIOError:
        print("not diverted", flush=True)
"#;

#[test]
fn a_job_that_controls_its_network_namespace_cannot_divert_the_agents_login() {
    // The whole lab is in a network namespace of its own, in which the database has an address that is not
    // loopback. A thread of its own enters it, so that no other test does.
    let everything = || {
        let network = Namespace::new();
        network.enter();
        network.shell(&format!("ip addr add {DATABASE}/32 dev lo"));
        let mut lab = Lab::start(&LabOptions {
            agent_config: "[[credential]]\nname = \"shop\"\nuser = \"app_agent\"\n\
                           password_file = \"LAB/shop.password\"\n"
                .into(),
            ..LabOptions::default()
        })
        .unwrap();
        let file = lab.directory().join("shop.password");
        fs::write(&file, AGENT_PASSWORD).unwrap();
        fs::set_permissions(&file, Permissions::from_mode(0o600)).unwrap();
        let database = Forwarder::from(&format!("{DATABASE}:0"), &lab.postgres.address()).unwrap();

        let jobs = Namespace::new();
        network.shell(&format!(
            "ip link add outer type veth peer name inner netns {}\n\
             ip addr add 10.77.1.1/24 dev outer\nip link set outer up",
            jobs.0.id()
        ));
        jobs.shell(
            "ip addr add 10.77.1.2/24 dev inner\nip link set inner up\nip route add default via 10.77.1.1",
        );
        let port = database.address().port().to_string();
        let mut impostor = Command::new("nsenter");
        impostor.arg(format!("--net={}", jobs.path())).args([PYTHON, "-c", IMPOSTOR, &port]);
        let mut impostor = lab.converse("impostor", &lab.inside(&impostor)).unwrap();
        assert_eq!(impostor.line(PATIENCE).unwrap(), "listening");
        let mut came = || {
            impostor.say("").unwrap();
            impostor.line(PATIENCE).unwrap()
        };
        let attempt = |lab: &mut Lab, leg: &str| -> Finished {
            lab.set_upstreams(&format!(
                "[[upstream]]\nname = \"far\"\nprotocol = \"postgres\"\naddresses = [\"{}\"]\n{leg}\n",
                database.address()
            ))
            .unwrap();
            let control = lab.agent_options().control();
            let mut job = Command::new("nsenter");
            job.arg(format!("--net={}", jobs.path())).arg(paths::lineal().unwrap());
            job.args(["run", "--token-file"])
                .arg(lab.token_file())
                .args(["--", PYTHON, "-c", DIVERTER, DATABASE]);
            job.arg(database.address().port().to_string()).env("LINEAL_CONTROL", control);
            finish(&mut lab.inside(&job)).unwrap()
        };
        // Without a password to protect, the agent dials in the job's network namespace: the job may have a
        // database of its own there.
        let done = attempt(&mut lab, "tls.mode = \"disable\"");
        assert_eq!(done.stdout, "no session\n", "{done:?}");
        assert_eq!(came(), "diverted");
        assert_eq!(database.connections(), 0);
        let done = attempt(&mut lab, "tls.mode = \"disable\"\ncredential = \"shop\"");
        assert_eq!(done.stdout, format!("{AGENT_USER}\n"), "{done:?}");
        assert_eq!(came(), "not diverted");
        assert_eq!(database.connections(), 1);
    };
    thread::scope(|scope| scope.spawn(everything).join()).unwrap();
}
