//! A PostgreSQL cluster of the lab's own, from Debian's packages, with a made-up shop in it.

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
/// How long it may take to start, and to stop.
const PATIENCE: Duration = Duration::from_secs(60);
/// The database that the lab is about.
pub const DATABASE: &str = "shop";
/// Who reads and writes its tables and owns nothing.
pub const USER: &str = "app";
/// Its password.
pub const PASSWORD: &str = "app-lab-password";
/// Who the agent may log in as, and no job: nothing but the agent is told the password.
pub const AGENT_USER: &str = "app_agent";
/// Its password.
pub const AGENT_PASSWORD: &str = "agent-lab-password";
/// Who may do everything.
pub const SUPERUSER: &str = "lab_admin";
/// Its password.
pub const SUPERUSER_PASSWORD: &str = "admin-lab-password";

/// A running cluster.
pub struct Postgres {
    server: Server,
    port: u16,
    // Bound and never listening: keeps everybody else from taking the port before the server has.
    _reservation: OwnedFd,
}

impl Postgres {
    /// Makes a cluster in `directory`, starts it and fills it.
    pub fn start(directory: &Path, cgroup: &Cgroup, logs: &Path) -> anyhow::Result<Self> {
        let home = directory.join("postgres");
        fs::create_dir(&home)?;
        let (uid, gid) = account()?;
        chown(&home, Some(uid), Some(gid))?;
        let data = home.join("data");
        let passwords = home.join("superuser.password");
        fs::write(&passwords, SUPERUSER_PASSWORD)?;
        chown(&passwords, Some(uid), Some(gid))?;
        let mut initdb = as_user(ACCOUNT, program("initdb")?);
        initdb.arg("--pgdata").arg(&data).arg("--pwfile").arg(&passwords).current_dir(&home);
        initdb.args([
            "--no-sync",
            "--encoding=UTF8",
            "--locale=C.UTF-8",
            "--auth=scram-sha-256",
            "--username",
        ]);
        finish(initdb.arg(SUPERUSER)).and_then(|done| done.success()).context("initdb failed")?;
        fs::write(data.join("pg_hba.conf"), HOST_RULES)?;
        certificates::make(directory)?;

        let (reservation, port) = reserve_port()?;
        let mut command = Command::new("unshare");
        // Its own IPC namespace: System V segments of a killed server vanish with it.
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

    /// Where it listens.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Where it listens.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Runs SQL as the superuser, straight at the server, and returns unaligned rows.
    pub fn admin(&self, database: &str, sql: &str) -> anyhow::Result<String> {
        let mut psql = self.psql(database, SUPERUSER, SUPERUSER_PASSWORD)?;
        let output = finish(psql.args(["-v", "ON_ERROR_STOP=1", "-c", sql]))?.success();
        Ok(output.with_context(|| format!("the superuser's SQL failed: {sql}"))?.trim().to_owned())
    }

    /// A psql for one user, quiet and unaligned.
    pub fn psql(&self, database: &str, user: &str, password: &str) -> anyhow::Result<Command> {
        let mut psql = Command::new("psql");
        psql.arg("-XAtq").env("PGPASSWORD", password);
        for (name, value) in self.variables(database, user) {
            psql.env(name, value);
        }
        Ok(psql)
    }

    /// What libpq reads, without the password.
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
        finish(&mut psql)?.success().context("the shop can't be filled")?;
        Ok(())
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        // "Fast shutdown": connected clients don't hold it up.
        let _ = self.server.stop(Signal::INT, PATIENCE);
    }
}

/// Who may log in how: each kind of authentication that lineal relays has a user.
const HOST_RULES: &str = "\
host    all app_md5       127.0.0.1/32 md5
host    all app_cleartext 127.0.0.1/32 password
hostssl all app_cert      127.0.0.1/32 cert
host    all app_cert      127.0.0.1/32 reject
host    all all           127.0.0.1/32 scram-sha-256
";

const SETTINGS: [&str; 10] = [
    "listen_addresses=127.0.0.1",
    "ssl=on",
    // A job that can reach it by a path in the file system would not be captured.
    "unix_socket_directories=",
    "dynamic_shared_memory_type=mmap",
    "shared_buffers=64MB",
    "max_connections=1200",
    "fsync=off",
    "synchronous_commit=off",
    "full_page_writes=off",
    "log_min_messages=warning",
];

/// The newest installed version's program.
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

pub(crate) fn account() -> anyhow::Result<(u32, u32)> {
    let accounts = fs::read_to_string("/etc/passwd")?;
    let fields = accounts.lines().map(|line| line.split(':').collect::<Vec<_>>());
    let ids = |fields: Vec<&str>| match fields.as_slice() {
        [ACCOUNT, _, uid, gid, ..] => Some((uid.parse().ok()?, gid.parse().ok()?)),
        _ => None,
    };
    fields.filter_map(ids).next().context("there is no account `postgres`: run `cargo xtask setup`")
}

/// A port that stays ours until the server listens on it: both sockets set SO_REUSEADDR, and while neither
/// listens Linux lets them share the port with nobody else.
pub fn reserve_port() -> anyhow::Result<(OwnedFd, u16)> {
    let reservation = socket(AddressFamily::INET, SocketType::STREAM, None)?;
    sockopt::set_socket_reuseaddr(&reservation, true)?;
    bind(&reservation, &SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0))?;
    let address = SocketAddrV4::try_from(getsockname(&reservation)?)?;
    ensure!(address.port() != 0, "the system gave no port");
    Ok((reservation, address.port()))
}
