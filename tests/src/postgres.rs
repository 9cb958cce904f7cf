//! The lab's own PostgreSQL server, from Debian's packages, with a made-up shop as its database.

use std::{
    fs,
    net::{Ipv4Addr, SocketAddrV4},
    os::{fd::OwnedFd, unix::fs::chown},
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context, ensure};
use rustix::{
    net::{AddressFamily, SocketType, bind, getsockname, socket, sockopt},
    process::Signal,
};

use crate::{
    certificates,
    cgroup::Cgroup,
    command::finish,
    notify::Notify,
    paths,
    server::{Server, Start, as_user},
};

/// The account that PostgreSQL runs as: it refuses root.
pub const ACCOUNT: &str = "postgres";
/// How long the server may take to start, and to stop.
const PATIENCE: Duration = Duration::from_secs(60);
/// The shop's database.
pub const DATABASE: &str = "shop";
/// The database user of jobs, which reads and writes the shop's tables and owns none.
pub const USER: &str = "app";
/// The password of [`USER`].
pub const PASSWORD: &str = "app-lab-password";
/// The database user that the agent logs in as; no job is given its password.
pub const AGENT_USER: &str = "app_agent";
/// The password of [`AGENT_USER`].
pub const AGENT_PASSWORD: &str = "agent-lab-password";
/// The database's superuser.
pub const SUPERUSER: &str = "lab_admin";
/// The password of [`SUPERUSER`].
pub const SUPERUSER_PASSWORD: &str = "admin-lab-password";

/// A running server; stopped when dropped.
pub struct Postgres {
    server: Server,
    port: u16,
    // Bound and never listening: no other process can take the port before the server does.
    _reservation: OwnedFd,
}

impl Postgres {
    /// Initialises a server in `directory`, starts it and fills the shop's tables.
    pub fn start(directory: &Path, cgroup: &Cgroup, logs: &Path) -> anyhow::Result<Self> {
        let home = directory.join("postgres");
        let data = initialise(&home)?;
        certificates::make(directory, account()?)?;

        let (reservation, port) = reserve_port()?;
        let mut command = Command::new("unshare");
        // In an IPC namespace of its own, the System V segments of a killed server vanish with it.
        command.args(["--ipc", "--"]);
        let server = as_user(ACCOUNT, program("postgres")?);
        command.arg(server.get_program()).args(server.get_args()).arg("-D").arg(&data).current_dir(&home);
        for setting in SETTINGS {
            command.args(["-c", setting]);
        }
        command.arg("-c").arg(format!("port={port}"));
        for (setting, file) in
            [("ssl_cert_file", "server.pem"), ("ssl_key_file", "server.key"), ("ssl_ca_file", "ca.pem")]
        {
            command.arg("-c").arg(format!("{setting}={}", directory.join(file).display()));
        }
        let notify = Notify::listen(&directory.join("postgres.notify"))?;
        command.env("NOTIFY_SOCKET", notify.path());
        let mut server = Start { name: "postgres", cgroup, logs, talks: false }.run(&command)?;
        notify.ready(&mut server, PATIENCE)?;
        let postgres = Self { server, port, _reservation: reservation };
        postgres.fill()?;
        Ok(postgres)
    }

    /// The port at which it listens on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The address and port at which it listens.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Runs SQL as the superuser, directly at the server and outside every job; returns psql's unaligned
    /// rows.
    pub fn admin(&self, database: &str, sql: &str) -> anyhow::Result<String> {
        let mut psql = self.psql(database, SUPERUSER, SUPERUSER_PASSWORD)?;
        let output = finish(psql.args(["-v", "ON_ERROR_STOP=1", "-c", sql]))?.success();
        Ok(output.with_context(|| format!("the superuser's SQL failed: {sql}"))?.trim().to_owned())
    }

    /// A psql command for one user that connects directly to the server and prints unaligned rows only.
    pub fn psql(&self, database: &str, user: &str, password: &str) -> anyhow::Result<Command> {
        let mut psql = Command::new("psql");
        psql.arg("-XAtq").env("PGPASSWORD", password);
        for (name, value) in self.variables(database, user) {
            psql.env(name, value);
        }
        Ok(psql)
    }

    /// The environment variables that libpq reads for a connection, without the password.
    pub fn variables(&self, database: &str, user: &str) -> [(&'static str, String); 5] {
        [
            ("PGHOST", "127.0.0.1".to_owned()),
            ("PGPORT", self.port.to_string()),
            ("PGDATABASE", database.to_owned()),
            ("PGUSER", user.to_owned()),
            ("PGCONNECT_TIMEOUT", "20".to_owned()),
        ]
    }

    fn fill(&self) -> anyhow::Result<()> {
        self.admin("postgres", &format!("CREATE DATABASE {DATABASE}"))?;
        let mut psql = self.psql(DATABASE, SUPERUSER, SUPERUSER_PASSWORD)?;
        psql.args([
            "-v",
            "ON_ERROR_STOP=1",
            "-v",
            &format!("user={USER}"),
            "-v",
            &format!("password={PASSWORD}"),
            "-v",
            &format!("agent_password={AGENT_PASSWORD}"),
        ]);
        psql.arg("-f").arg(paths::lab_sources().join("shop.sql"));
        finish(&mut psql)?.success().context("cannot fill the shop's tables")?;
        Ok(())
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        // SIGINT is PostgreSQL's fast shutdown, which does not wait for connected clients.
        let _ = self.server.stop(Signal::INT, PATIENCE);
    }
}

/// Makes an empty database cluster in a new directory, and returns its data directory.
fn initialise(home: &Path) -> anyhow::Result<PathBuf> {
    fs::create_dir(home)?;
    let (uid, gid) = account()?;
    chown(home, Some(uid), Some(gid))?;
    let data = home.join("data");
    let passwords = home.join("superuser.password");
    fs::write(&passwords, SUPERUSER_PASSWORD)?;
    chown(&passwords, Some(uid), Some(gid))?;
    let mut initdb = as_user(ACCOUNT, program("initdb")?);
    initdb.arg("--pgdata").arg(&data).arg("--pwfile").arg(&passwords).current_dir(home);
    initdb.args(["--no-sync", "--encoding=UTF8", "--locale=C.UTF-8", "--auth=scram-sha-256", "--username"]);
    finish(initdb.arg(SUPERUSER)).and_then(|done| done.success()).context("initdb failed")?;
    fs::write(data.join("pg_hba.conf"), HOST_RULES)?;
    Ok(data)
}

/// pg_hba.conf: each authentication method that lineal relays has a user of its own.
const HOST_RULES: &str = "\
host    all app_md5       127.0.0.1/32 md5
host    all app_cleartext 127.0.0.1/32 password
hostssl all app_cert      127.0.0.1/32 cert
host    all app_cert      127.0.0.1/32 reject
host    all all           127.0.0.1/32 scram-sha-256
";

/// The server's settings; durability is off because no lab outlives its tests.
const SETTINGS: [&str; 10] = [
    "listen_addresses=127.0.0.1",
    "ssl=on",
    // Connections over a Unix socket would not pass lineal.
    "unix_socket_directories=",
    "dynamic_shared_memory_type=mmap",
    "shared_buffers=64MB",
    "max_connections=1200",
    "fsync=off",
    "synchronous_commit=off",
    "full_page_writes=off",
    "log_min_messages=warning",
];

/// The path of a program of the newest installed PostgreSQL.
pub fn program(name: &str) -> anyhow::Result<PathBuf> {
    let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut found: Vec<_> = versions
        .filter_map(|version| {
            let number: u32 = version.file_name().to_str()?.parse().ok()?;
            Some((number, version.path().join("bin").join(name)))
        })
        .filter(|(_, path)| path.is_file())
        .collect();
    found.sort();
    Ok(found
        .pop()
        .with_context(|| format!("PostgreSQL's {name} is not installed: run `cargo xtask setup`"))?
        .1)
}

/// The user and group id of [`ACCOUNT`].
pub(crate) fn account() -> anyhow::Result<(u32, u32)> {
    let accounts = fs::read_to_string("/etc/passwd")?;
    let fields = accounts.lines().map(|line| line.split(':').collect::<Vec<_>>());
    let ids = |fields: Vec<&str>| match fields.as_slice() {
        [ACCOUNT, _, uid, gid, ..] => Some((uid.parse().ok()?, gid.parse().ok()?)),
        _ => None,
    };
    fields.filter_map(ids).next().context("there is no account `postgres`: run `cargo xtask setup`")
}

/// Reserves a free port until a server of ours listens on it. The reservation and the server's socket both
/// set SO_REUSEADDR, so Linux lets them share the port while the reservation does not listen; nobody else is
/// given it.
pub fn reserve_port() -> anyhow::Result<(OwnedFd, u16)> {
    let reservation = socket(AddressFamily::INET, SocketType::STREAM, None)?;
    sockopt::set_socket_reuseaddr(&reservation, true)?;
    bind(&reservation, &SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0))?;
    let address = SocketAddrV4::try_from(getsockname(&reservation)?)?;
    ensure!(address.port() != 0, "the system gave no port");
    Ok((reservation, address.port()))
}
