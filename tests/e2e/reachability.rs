//! Upstreams that can't be reached, or turn sessions away: a job's client learns of them as it would
//! directly, so that its host list goes on to the next host.
//!
//! `wire/place.py` is raises the network namespace that jobs, and the same clients outside every job, run in.

use std::{fs, os::unix::fs::PermissionsExt, process::Command, sync::OnceLock, time::Duration};

use lineal_tests::{
    Lab, LabOptions,
    command::{Finished, PATIENCE, finish, finish_within},
    paths,
    postgres::{AGENT_PASSWORD, AGENT_USER},
    script::PYTHON,
    server::Server,
    story::SUBJECT,
};

use crate::shared::{counted, lines, text};

const LIVE: &str = "10.20.0.1";
const DEAD: &str = "10.20.0.2";
const STARTING: &str = "10.20.0.3";
const SILENT: &str = "10.20.0.4";
const UNROUTABLE: &str = "10.20.0.5";
const CLOSING: &str = "10.20.0.6";

/// A lab, and a namespace with servers whose addresses the lab's bundle declares.
struct Place {
    lab: Lab,
    servers: Server,
    netns: String,
}

impl Place {
    /// `leg` is how the agent reaches each of the upstreams, as TOML in `[[upstream]]`.
    fn new(leg: &str, options: LabOptions) -> Self {
        let declared = |(name, address): (&str, &str)| {
            format!(
                "[[upstream]]\nname = \"{name}\"\nprotocol = \"postgres\"\n\
                 addresses = [\"{address}:5432\"]\n{leg}\n"
            )
        };
        let hosts = [
            ("live", LIVE),
            ("dead", DEAD),
            ("starting", STARTING),
            ("silent", SILENT),
            ("unroutable", UNROUTABLE),
            ("closing", CLOSING),
        ];
        let mut lab = Lab::start(&options).unwrap();
        let upstreams: String = hosts.into_iter().map(declared).collect();
        lab.set_upstreams(&upstreams).unwrap();
        lab.allow_all().unwrap();
        let mut servers = Command::new(PYTHON);
        servers.args(["-c", include_str!("wire/place.py"), &lab.postgres.port().to_string()]);
        for file in ["server.pem", "server.key"] {
            servers.arg(lab.directory().join(file));
        }
        let mut servers = lab.converse("place", &lab.inside(&servers)).unwrap();
        let netns = servers.line(PATIENCE).unwrap();
        Self { lab, servers, netns }
    }

    /// A command in the namespace, outside every job. Clients find the live server unless told otherwise.
    fn direct(&self, command: &[&str], variables: &[(&str, &str)]) -> Command {
        let mut entering = Command::new("nsenter");
        entering.arg(format!("--net={}", self.netns)).arg("--").args(command);
        entering.env("PGHOST", LIVE).env("PGPORT", "5432").envs(variables.iter().copied());
        self.lab.inside(&entering)
    }

    /// The same command as a job.
    fn job(&self, command: &[&str], variables: &[(&str, &str)]) -> Command {
        let job = self.lab.job("client", command).unwrap();
        let program = job.get_program().to_str().unwrap();
        let whole: Vec<&str> =
            [program].into_iter().chain(job.get_args().map(|argument| argument.to_str().unwrap())).collect();
        let mut command = self.direct(&whole, variables);
        command.envs(
            job.get_envs()
                .filter_map(|(name, value)| Some((name, value?)))
                .filter(|(name, _)| !name.to_str().is_some_and(|name| name.starts_with("PG"))),
        );
        command
    }

    /// Runs a command directly and as a job, and asserts that nobody can tell the two apart by exit code or
    /// output. Returns what the job did.
    fn as_direct(&self, command: &[&str], variables: &[(&str, &str)]) -> Finished {
        let direct = finish(&mut self.direct(command, variables)).unwrap();
        let job = finish(&mut self.job(command, variables)).unwrap();
        let seen = |finished: &Finished| (finished.code, finished.stdout.clone(), finished.stderr.clone());
        assert_eq!(seen(&job), seen(&direct), "{command:?} {variables:?}");
        job
    }
}

/// The place that tests share: the job's own logins are relayed.
fn place() -> &'static Place {
    static PLACE: OnceLock<Place> = OnceLock::new();
    PLACE.get_or_init(|| Place::new("tls.mode = \"prefer\"", LabOptions::default()))
}

#[test]
fn pg_isready_tells_a_job_what_it_tells_directly() {
    for (host, code) in [(LIVE, 0), (STARTING, 1), (DEAD, 2), (SILENT, 2), (UNROUTABLE, 2), (CLOSING, 2)] {
        let done = place().as_direct(&["pg_isready", "-t", "1", "-h", host], &[]);
        assert_eq!(done.code, Some(code), "{done:?}");
    }
}

/// Host lists that begin with each of the hosts that has no server to offer; a client goes on to the live
/// one.
fn lists() -> [String; 4] {
    [DEAD, UNROUTABLE, STARTING, SILENT].map(|first| format!("{first},{LIVE}"))
}

#[test]
fn a_socket_is_refused_and_left_as_it_is_directly() {
    const SCRIPT: &str = r#"
import errno, socket
for host in 2, 1, 3, 6, 1, 2:
    for blocking in True, False:
        client = socket.socket()
        client.settimeout(20 if blocking else 0)
        outcome = client.connect_ex((f"10.20.0.{host}", 5432))
        if outcome == errno.EINPROGRESS:
            client.settimeout(20)
            socket_is_ready = __import__("select").select([], [client], [], 20)[1]
            outcome = client.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        name = outcome == 0 and client.getpeername()
        retries = client.getsockopt(socket.IPPROTO_TCP, socket.TCP_SYNCNT) if name else None
        print(host, blocking, errno.errorcode.get(outcome), name, retries)
        client.close()
asked = socket.socket()
asked.setsockopt(socket.IPPROTO_TCP, socket.TCP_SYNCNT, 3)
asked.connect(("10.20.0.1", 5432))
print(asked.getsockopt(socket.IPPROTO_TCP, socket.TCP_SYNCNT))
"#;
    let done = place().as_direct(&[PYTHON, "-c", SCRIPT], &[]);
    assert!(lines(&done)[0].contains("ECONNREFUSED"), "{done:?}");
}

#[test]
fn psql_goes_on_to_the_next_host_of_its_list() {
    for list in lists() {
        let variables = [("PGHOST", &*list), ("PGCONNECT_TIMEOUT", "2")];
        let done = place().as_direct(&["psql", "-XAtqc", "SELECT 1"], &variables);
        assert_eq!(lines(&done), ["1"], "{list}: {done:?}");
    }
}

#[test]
fn psql_names_a_dead_host_and_a_starting_server_as_directly() {
    for host in [DEAD, STARTING, SILENT, CLOSING] {
        let variables = [("PGHOST", host), ("PGCONNECT_TIMEOUT", "2"), ("PGSSLMODE", "disable")];
        let done = place().as_direct(&["psql", "-XAtqc", "SELECT 1"], &variables);
        assert_eq!(done.code, Some(2), "{host}: {done:?}");
    }
}

// psycopg 3.1 asks for the outcome of a connection without having waited for it, and so stops at a host that
// refuses later than at once, as any remote one does.
#[test]
fn psycopg_goes_on_from_a_starting_server_to_the_next_host() {
    const SCRIPT: &str = "import psycopg; print(psycopg.connect().execute('SELECT 1').fetchone())";
    let list = format!("{STARTING},{LIVE}");
    let done = place().as_direct(&[PYTHON, "-c", SCRIPT], &[("PGHOST", &list)]);
    assert_eq!(lines(&done), ["(1,)"], "{done:?}");
}

#[test]
fn asyncpg_goes_on_to_the_next_host_of_its_list() {
    const SCRIPT: &str = r#"
import asyncio, asyncpg, os, ssl
async def main():
    hosts = os.environ["HOSTS"].split(",")
    try:
        connection = await asyncpg.connect(host=hosts, port=[5432] * len(hosts), timeout=20, ssl="disable")
        print("connected", await connection.fetchval("SELECT 1"))
    except (OSError, asyncpg.PostgresError) as error:
        print("refused", type(error).__name__)
asyncio.run(main())
"#;
    for list in [format!("{DEAD},{LIVE}"), format!("{STARTING},{LIVE}"), DEAD.to_owned(), STARTING.to_owned()]
    {
        let done = place().as_direct(&[PYTHON, "-c", SCRIPT], &[("HOSTS", &list)]);
        assert_eq!(done.code, Some(0), "{list}: {done:?}");
    }
}

#[test]
fn node_postgres_reports_a_refused_connection_as_directly() {
    const SCRIPT: &str = r#"
const { Client } = require('pg');
(async () => {
  for (const host of process.env.HOSTS.split(',')) {
    const client = new Client({ host });
    try {
      await client.connect();
      console.log('connected', (await client.query('SELECT 1 AS one')).rows[0].one);
      await client.end();
    } catch (error) { console.log('refused', error.code); }
  }
})();
"#;
    let modules = paths::lab_tools().unwrap().join("clients/node/node_modules");
    let hosts = [DEAD, STARTING, CLOSING, LIVE].join(",");
    let variables = [("HOSTS", &*hosts), ("NODE_PATH", modules.to_str().unwrap())];
    let done = place().as_direct(&["node", "-e", SCRIPT], &variables);
    let expected = ["refused ECONNREFUSED", "refused 57P03", "refused undefined", "connected 1"];
    assert_eq!(lines(&done), expected, "{done:?}");
}

#[test]
fn pgjdbc_goes_on_to_the_next_host_of_its_list() {
    let source = paths::lab_sources().join("clients/Hosts.java");
    let jars = "/usr/share/java/postgresql.jar:/usr/share/java/*";
    for first in [DEAD, STARTING] {
        for hosts in [format!("{first}:5432,{LIVE}:5432"), format!("{first}:5432")] {
            let command = ["java", "-cp", jars, source.to_str().unwrap()];
            let done = place().as_direct(&command, &[("HOSTS", &hosts)]);
            assert_eq!(done.code, Some(0), "{hosts}: {done:?}");
        }
    }
}

#[test]
fn pgx_goes_on_to_the_next_host_of_its_list() {
    let built = place().lab.directory().join("hosts");
    let mut compile = Command::new("go");
    // Debian packages Go code as a GOPATH, not as modules.
    compile.env("GO111MODULE", "off").env("GOPATH", "/usr/share/gocode");
    compile.env("GOCACHE", place().lab.directory().join("gocache"));
    compile.args(["build", "-o"]).arg(&built).arg(paths::lab_sources().join("clients/hosts.go"));
    finish_within(&mut compile, Duration::from_secs(300)).unwrap().success().unwrap();
    for hosts in [format!("{DEAD},{LIVE}"), format!("{STARTING},{LIVE}"), STARTING.to_owned()] {
        let done = place().as_direct(&[built.to_str().unwrap()], &[("PGHOST", &hosts)]);
        assert_eq!(done.code, Some(0), "{hosts}: {done:?}");
    }
}

#[test]
fn a_server_that_ends_under_its_sessions_refuses_the_next_connection_as_directly() {
    let mut place = Place::new("tls.mode = \"disable\"", LabOptions::default());
    let job = place.job(&["psql", "-XAtq"], &[]);
    let mut session = place.lab.converse("session", &job).unwrap();
    session.say("SELECT 2;").unwrap();
    assert_eq!(session.line(PATIENCE).unwrap(), "2");
    place.servers.say("").unwrap();
    assert_eq!(place.servers.line(PATIENCE).unwrap(), "gone");
    place
        .lab
        .wait_until("the session has ended", || {
            let closed = place.lab.audit(&["--kind", "session"])?;
            Ok(closed.iter().any(|row| text(row, "/reason").starts_with("upstream_")))
        })
        .unwrap();
    let refused = place.as_direct(&["psql", "-XAtqc", "SELECT 1"], &[]);
    assert!(refused.stderr.contains("Connection refused"), "{refused:?}");
    let series = "lineal_connections_closed_total{reason=\"upstream_unreachable\"}";
    assert_eq!(counted(&mut place.lab, series), 1);
    place.servers.say("").unwrap();
    assert_eq!(place.servers.line(PATIENCE).unwrap(), "back");
    assert_eq!(lines(&place.as_direct(&["psql", "-XAtqc", "SELECT 1"], &[])), ["1"]);
}

#[test]
fn a_connection_that_nobody_answers_times_out_as_directly() {
    const SCRIPT: &str = r#"
import errno, socket
client = socket.socket()
client.setsockopt(socket.IPPROTO_TCP, socket.TCP_SYNCNT, 1)
print(errno.errorcode[client.connect_ex(("10.20.0.4", 5432))])
"#;
    assert_eq!(lines(&place().as_direct(&[PYTHON, "-c", SCRIPT], &[])), ["ETIMEDOUT"]);
}

#[test]
fn a_job_that_floods_a_silent_upstream_is_let_through_at_its_bound_and_others_are_served_as_before() {
    const SCRIPT: &str = r#"
import select, socket, sys
def begin():
    client = socket.socket()
    client.setblocking(False)
    client.connect_ex(("10.20.0.4", 5432))
    return client
held = [begin() for _ in range(64)]
over = [begin() for _ in range(2)]
waiting = set(over)
while waiting:
    waiting -= set(select.select([], list(waiting), [])[1])
print([client.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) for client in over])
print(select.select([], held, [], 0)[1], flush=True)
sys.stdin.readline()
for client in held + over:
    client.close()
first = begin()
print(select.select([], [first], [], 1)[1], flush=True)
sys.stdin.readline()
"#;
    let mut place = Place::new("tls.mode = \"disable\"", LabOptions::default());
    let job = place.job(&[PYTHON, "-c", SCRIPT], &[]);
    let mut flood = place.lab.converse("flood", &job).unwrap();
    assert_eq!(flood.line(PATIENCE).unwrap(), "[0, 0]");
    assert_eq!(flood.line(PATIENCE).unwrap(), "[]");
    assert_eq!(counted(&mut place.lab, "lineal_bounds_total{bound=\"reaches\"}"), 2);
    assert_eq!(place.as_direct(&["pg_isready", "-h", LIVE], &[]).code, Some(0));
    assert_eq!(place.as_direct(&["pg_isready", "-h", DEAD], &[]).code, Some(2));
    // What has been given up leaves room.
    flood.say("").unwrap();
    assert_eq!(flood.line(PATIENCE).unwrap(), "[]");
}

#[test]
fn held_connections_of_a_killed_agent_are_refused() {
    const SCRIPT: &str = r#"
import errno, select, socket
client = socket.socket()
client.setblocking(False)
print(errno.errorcode[client.connect_ex(("10.20.0.4", 5432))], flush=True)
select.select([], [client], [], 60)
print(errno.errorcode.get(client.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)), flush=True)
"#;
    let mut place = Place::new("tls.mode = \"disable\"", LabOptions::default());
    let job = place.job(&[PYTHON, "-c", SCRIPT], &[]);
    let mut held = place.lab.converse("held", &job).unwrap();
    assert_eq!(held.line(PATIENCE).unwrap(), "EINPROGRESS");
    place.lab.take_agent().unwrap().kill().unwrap();
    assert_eq!(held.line(PATIENCE).unwrap(), "ECONNREFUSED");
}

#[test]
fn nothing_is_reached_for_a_job_that_may_not_act_or_that_policy_knows_no_upstream_for() {
    let mut place = Place::new("tls.mode = \"disable\"", LabOptions::default());
    const SCRIPT: &str = r#"
import os, socket, sys
for line in sys.stdin:
    try:
        client = socket.create_connection((line.strip(), 5432), 20)
        client.sendall(b"x" * 64)
        print("connected", client.recv(64), flush=True)
    except OSError as error:
        print(type(error).__name__, flush=True)
"#;
    let job = place.job(&[PYTHON, "-c", SCRIPT], &[]);
    let mut client = place.lab.converse("client", &job).unwrap();
    client.say("10.20.0.7").unwrap();
    assert_eq!(client.line(PATIENCE).unwrap(), "ConnectionResetError");
    let revoked = place.lab.ask(&["revoke", "--subject", SUBJECT, "--reason", "offboarded"]).unwrap();
    lines(&revoked);
    client.say(LIVE).unwrap();
    client.line(PATIENCE).unwrap();
    // The servers take connections in turn: what the agent had made would be counted before these two.
    for host in ["10.20.0.7", LIVE] {
        assert_eq!(finish(&mut place.direct(&["pg_isready", "-h", host], &[])).unwrap().code, Some(0));
    }
    place.servers.say("count").unwrap();
    assert_eq!(place.servers.line(PATIENCE).unwrap(), "2");
}

/// The agent logs in itself, by verified TLS.
fn injected() -> &'static Place {
    static PLACE: OnceLock<Place> = OnceLock::new();
    PLACE.get_or_init(|| {
        let agent_config = format!(
            "[[credential]]\nname = \"shop\"\nuser = \"{AGENT_USER}\"\n\
             password_file = \"LAB/shop.password\"\n"
        );
        let leg = "tls.ca = \"LAB/ca.pem\"\ntls.server_name = \"db.lab.example\"\ncredential = \"shop\"";
        let place = Place::new(leg, LabOptions { agent_config, ..LabOptions::default() });
        let file = place.lab.directory().join("shop.password");
        fs::write(&file, AGENT_PASSWORD).unwrap();
        fs::set_permissions(&file, PermissionsExt::from_mode(0o600)).unwrap();
        place
    })
}

#[test]
fn an_upstreams_own_sqlstate_reaches_the_client_whoever_logs_in() {
    for place in [place(), injected()] {
        for host in [STARTING, DEAD, CLOSING] {
            let variables = [("PGHOST", host), ("PGSSLMODE", "disable")];
            let done = place.as_direct(&["pg_isready", "-t", "5", "-h", host], &variables);
            assert_eq!(done.code, Some(if host == STARTING { 1 } else { 2 }), "{done:?}");
            place.as_direct(&["psql", "-XAtqv", "VERBOSITY=verbose", "-c", "SELECT 1"], &variables);
        }
        let list = format!("{STARTING},{LIVE}");
        let done = finish(&mut place.job(&["psql", "-XAtqc", "SELECT 1"], &[("PGHOST", &list)])).unwrap();
        assert_eq!(lines(&done), ["1"]);
    }
}

#[test]
fn too_many_connections_are_told_with_the_servers_own_sqlstate() {
    for (place, role) in [(place(), "app"), (injected(), AGENT_USER)] {
        let limit = |connections: i32| {
            place.lab.postgres.admin("shop", &format!("ALTER ROLE {role} CONNECTION LIMIT {connections}"))
        };
        limit(0).unwrap();
        let command = ["psql", "-XAtq", "-v", "VERBOSITY=verbose", "-c", "SELECT 1"];
        let done = finish(&mut place.job(&command, &[])).unwrap();
        limit(-1).unwrap();
        assert_eq!(done.code, Some(2), "{done:?}");
        let told = format!("FATAL:  too many connections for role \"{role}\"");
        assert!(done.stderr.contains(&told) && !done.stderr.contains("lineal"), "{done:?}");
    }
}

#[test]
fn nobody_joins_the_agents_listener_by_sharing_its_port() {
    const SCRIPT: &str = r#"
import socket
def listeners():
    with open("/proc/net/tcp") as table:
        for row in list(table)[1:]:
            address, state = row.split()[1], row.split()[3]
            if state == "0A" and address.startswith("0100007F"):
                yield int(address.split(":")[1], 16)
ports = set(listeners())
print(len(ports))
for port in ports:
    thief = socket.socket()
    thief.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    try:
        thief.bind(("127.0.0.1", port))
        print("joined")
    except OSError as error:
        print(error.strerror)
"#;
    // A job of this namespace makes the agent listen there.
    let done = place().as_direct(&["pg_isready", "-h", LIVE], &[]);
    assert_eq!(done.code, Some(0), "{done:?}");
    for command in [place().direct(&[PYTHON, "-c", SCRIPT], &[]), place().job(&[PYTHON, "-c", SCRIPT], &[])] {
        let mut command = command;
        let done = finish(&mut command).unwrap();
        assert_eq!(lines(&done), ["1", "Address already in use"], "{done:?}");
    }
}
