//! The paths to one PostgreSQL server that are compared, all running at the same time.

use std::{
    fs::{self, Permissions},
    os::{fd::OwnedFd, unix::fs::PermissionsExt},
    path::PathBuf,
    process::Command,
    time::Duration,
};

use anyhow::{Context, bail};
use lineal_tests::{
    Lab, LabOptions,
    command::finish,
    notify::Notify,
    postgres::{ACCOUNT, PASSWORD, USER, program, reserve_port},
    server::{Server, as_user},
};

/// pgbench's database.
const DATABASE: &str = "bench";
/// pgbench's scale: this many times 100,000 rows.
const SCALE: &str = "10";
/// How long a proxy may take to start.
const PATIENCE: Duration = Duration::from_secs(20);

/// A path to the server.
#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Path {
    /// Nothing in between.
    Direct,
    /// Through lineal: policy on, audit on.
    Lineal,
    /// Through lineal: policy on, audit off.
    LinealNoaudit,
    /// Through PgBouncer, session pooling.
    Pgbouncer,
    /// Through HAProxy, TCP.
    Haproxy,
}

impl Path {
    /// All of them. The first one is what the others are compared with.
    pub(super) const ALL: [Self; 5] =
        [Self::Direct, Self::Lineal, Self::LinealNoaudit, Self::Pgbouncer, Self::Haproxy];

    /// Those that decrypt TLS and encrypt it again, and the direct one.
    pub(super) const TLS: [Self; 4] = [Self::Direct, Self::Lineal, Self::LinealNoaudit, Self::Pgbouncer];

    /// Its name in the results.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Lineal => "lineal",
            Self::LinealNoaudit => "lineal-noaudit",
            Self::Pgbouncer => "pgbouncer",
            Self::Haproxy => "haproxy",
        }
    }
}

/// Everything that is compared, running.
pub(super) struct Contenders {
    pgbouncer: Proxy,
    haproxy: Proxy,
    unaudited: Lab,
    lab: Lab,
    tls: bool,
}

/// Another proxy and its port.
struct Proxy {
    server: Server,
    port: u16,
    _reservation: OwnedFd,
}

impl Contenders {
    /// Raises a lab, fills its server and starts all proxies in front of it: all legs encrypted, or none.
    pub(super) fn start(tls: bool) -> anyhow::Result<Self> {
        let mode = if tls { "require" } else { "disable" };
        let leg = if tls { "tls.mode = \"require\"" } else { "tls.mode = \"disable\"" };
        let lab = Lab::start(&LabOptions { leg, ..LabOptions::default() })?;
        lab.postgres.admin("postgres", &format!("CREATE DATABASE {DATABASE} OWNER {USER}"))?;
        let mut fill = Command::new(program("pgbench")?);
        fill.args(["--initialize", "--quiet", "--scale", SCALE, DATABASE]);
        finish(&mut lab.inside(&fill))?.success().context("pgbench can't fill its database")?;
        // A second lab, whose agent leads to the first lab's server.
        let address = lab.postgres.address();
        let unaudited = Lab::start(&LabOptions {
            audit: false,
            upstreams: format!(
                "[[upstream]]\nname = \"bench\"\nprotocol = \"postgres\"\naddresses = [{address:?}]\n{leg}\n"
            ),
            ..LabOptions::default()
        })?;
        Ok(Self { pgbouncer: pgbouncer(&lab, mode)?, haproxy: haproxy(&lab)?, unaudited, lab, tls })
    }

    /// The lab with a trail.
    pub(super) fn lab(&self) -> &Lab {
        &self.lab
    }

    /// The PID of a path's proxy.
    pub(super) fn proxy(&mut self, path: Path) -> anyhow::Result<u32> {
        Ok(match path {
            Path::Lineal => self.lab.agent()?.pid(),
            Path::LinealNoaudit => self.unaudited.agent()?.pid(),
            Path::Pgbouncer => self.pgbouncer.server.pid(),
            Path::Haproxy => self.haproxy.server.pid(),
            Path::Direct => bail!("the direct path has no proxy"),
        })
    }

    /// A command whose libpq takes this path to pgbench's database.
    pub(super) fn command(&self, path: Path, arguments: &[&str]) -> anyhow::Result<Command> {
        let mut command = match path {
            Path::Lineal => self.lab.job("bench", arguments)?,
            Path::LinealNoaudit => self.unaudited.job("bench", arguments)?,
            Path::Direct | Path::Pgbouncer | Path::Haproxy => {
                let [program, arguments @ ..] = arguments else { bail!("the command is empty") };
                let mut command = Command::new(program);
                command.args(arguments);
                self.lab.inside(&command)
            }
        };
        let port = match path {
            Path::Direct | Path::Lineal | Path::LinealNoaudit => self.lab.postgres.port(),
            Path::Pgbouncer => self.pgbouncer.port,
            Path::Haproxy => self.haproxy.port,
        };
        command.env("PGPORT", port.to_string()).env("PGDATABASE", DATABASE);
        command.env("PGSSLMODE", if self.tls { "require" } else { "disable" });
        Ok(command)
    }
}

fn pgbouncer(lab: &Lab, tls: &str) -> anyhow::Result<Proxy> {
    let (reservation, port) = reserve_port()?;
    let users = readable(lab, "pgbouncer.users", &format!("\"{USER}\" \"{PASSWORD}\"\n"))?;
    let upstream = lab.postgres.port();
    let directory = lab.directory().display();
    let configuration = readable(
        lab,
        "pgbouncer.ini",
        // Clients log in as they do at the server. A session has a server connection to itself; the next one
        // reuses it.
        &format!(
            "[databases]\n\
             {DATABASE} = host=127.0.0.1 port={upstream} dbname={DATABASE} user={USER} password={PASSWORD}\n\
             [pgbouncer]\n\
             listen_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\n\
             max_client_conn = 1000\ndefault_pool_size = 1000\n\
             pool_mode = session\nauth_type = scram-sha-256\nauth_file = {}\n\
             client_tls_sslmode = {tls}\nserver_tls_sslmode = {tls}\n\
             client_tls_cert_file = {directory}/server.pem\nclient_tls_key_file = {directory}/server.key\n\
             log_connections = 0\nlog_disconnections = 0\n",
            users.display()
        ),
    )?;
    let mut command = as_user(ACCOUNT, "/usr/sbin/pgbouncer");
    command.arg(configuration);
    start(lab, "pgbouncer", command, port, reservation)
}

fn haproxy(lab: &Lab) -> anyhow::Result<Proxy> {
    let (reservation, port) = reserve_port()?;
    let upstream = lab.postgres.port();
    let configuration = readable(
        lab,
        "haproxy.cfg",
        &format!(
            "defaults\n  mode tcp\n  timeout connect 10s\n  timeout client 1h\n  timeout server 1h\n\
             frontend bench\n  bind 127.0.0.1:{port}\n  default_backend postgres\n\
             backend postgres\n  server one 127.0.0.1:{upstream}\n"
        ),
    )?;
    let mut command = Command::new("/usr/sbin/haproxy");
    // Master and worker, reporting as a systemd service does.
    command.args(["-Ws", "-f"]).arg(configuration);
    start(lab, "haproxy", command, port, reservation)
}

fn start(
    lab: &Lab,
    name: &'static str,
    mut command: Command,
    port: u16,
    reservation: OwnedFd,
) -> anyhow::Result<Proxy> {
    let notify = Notify::listen(&lab.directory().join(format!("{name}.notify")))?;
    command.env("NOTIFY_SOCKET", notify.path());
    let mut server = lab.serve(name, &command)?;
    notify.ready(&mut server, PATIENCE)?;
    Ok(Proxy { server, port, _reservation: reservation })
}

fn readable(lab: &Lab, name: &str, text: &str) -> anyhow::Result<PathBuf> {
    let path = lab.directory().join(name);
    fs::write(&path, text)?;
    fs::set_permissions(&path, Permissions::from_mode(0o644))?;
    Ok(path)
}
