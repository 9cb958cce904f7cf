//! The agent under test: its configuration, its life, and the commands that talk to it.

use std::{
    fmt::Write,
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use rustix::process::Signal;
use serde_json::Value;

use crate::{
    cgroup::Cgroup,
    command::finish,
    notify::Notify,
    paths,
    server::{Server, Start},
};

/// How long an agent may take to load its programs and report that it is ready, and to drain.
const PATIENCE: Duration = Duration::from_secs(60);

/// How an agent is configured. All of its files are in one directory.
#[derive(Clone, Debug)]
pub struct AgentOptions {
    /// The directory of its configuration, state, policies and sockets.
    pub directory: PathBuf,
    /// The cgroup that it attaches to.
    pub cgroup: PathBuf,
    /// The directory on bpffs where it pins the maps and programs that outlive it.
    pub pins: PathBuf,
    /// The URL of the issuer whose tokens it accepts.
    pub issuer: String,
    /// Whether it keeps an audit trail: false only in benches.
    pub audit: bool,
    /// The trail's directory.
    pub trail: PathBuf,
    /// What happens to literals of statements in the trail: `keep` or `redact`.
    pub literals: &'static str,
    /// TOML that ends the `[kernel]` table.
    pub kernel: &'static str,
    /// TOML that ends `agent.toml`; it begins inside the table of the issuer.
    pub more: String,
    /// Variables added to its environment.
    pub environment: Vec<(&'static str, String)>,
}

/// A running agent; stopped when dropped.
pub struct Agent {
    server: Server,
    control: PathBuf,
    metrics: String,
}

impl AgentOptions {
    /// The control socket.
    pub fn control(&self) -> PathBuf {
        self.directory.join("control.sock")
    }

    /// The configuration file.
    pub fn config(&self) -> PathBuf {
        self.directory.join("agent.toml")
    }

    /// The directory in which jobs find the certificates to trust.
    pub fn trust(&self) -> PathBuf {
        self.directory.join("trust")
    }

    /// The policy bundle's directory.
    pub fn policies(&self) -> PathBuf {
        self.directory.join("policies")
    }

    fn text(&self) -> anyhow::Result<String> {
        let mut text = String::new();
        let state = self.directory.join("state");
        writeln!(text, "control = {:?}", self.control())?;
        writeln!(text, "state_dir = {state:?}")?;
        writeln!(text, "policy_dir = {:?}", self.policies())?;
        writeln!(text, "hostname = \"lab\"")?;
        writeln!(text, "\n[kernel]\ncgroup = {:?}\nmove_jobs = true\nbpffs = {:?}", self.cgroup, self.pins)?;
        writeln!(text, "{}", self.kernel)?;
        writeln!(text, "\n[audit]\ndir = {:?}\nstate_dir = {state:?}", self.trail)?;
        writeln!(text, "enabled = {}\nliterals = {:?}", self.audit, self.literals)?;
        writeln!(text, "\n[tls]\npublic_dir = {:?}", self.trust())?;
        writeln!(text, "\n[metrics]\nlisten = \"127.0.0.1:0\"")?;
        writeln!(text, "\n[[issuer]]\nname = \"lab\"\nurl = {:?}\naudience = \"lineal\"", self.issuer)?;
        writeln!(text, "run_claims = [\"run_id\", \"run_attempt\"]\ngroups_claim = \"groups\"")?;
        writeln!(text, "{}", self.more)?;
        Ok(text)
    }

    /// Writes the configuration and starts an agent by it; returns when it is ready.
    pub fn start(&self, cgroup: &Cgroup, logs: &Path) -> anyhow::Result<Agent> {
        let (mut server, notify) = self.spawn(cgroup, logs)?;
        notify.ready(&mut server, PATIENCE)?;
        let mut agent = Agent { server, control: self.control(), metrics: String::new() };
        let status = agent.status()?;
        agent.metrics = status
            .get("metrics")
            .and_then(Value::as_str)
            .context("the agent's status names no metrics")?
            .to_owned();
        Ok(agent)
    }

    /// Starts an agent like [`Self::start`], but returns at once, with the socket where the agent reports
    /// that it is ready.
    pub fn spawn(&self, cgroup: &Cgroup, logs: &Path) -> anyhow::Result<(Server, Notify)> {
        fs::write(self.config(), self.text()?)?;
        let socket = self.directory.join("agent.notify");
        let _ = fs::remove_file(&socket);
        let notify = Notify::listen(&socket)?;
        let mut command = Command::new(paths::lineal()?);
        command.args(["agent", "--config"]).arg(self.config()).env("NOTIFY_SOCKET", notify.path());
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        let server = Start { name: "agent", cgroup, logs, talks: false }.run(&command)?;
        Ok((server, notify))
    }
}

impl Agent {
    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.server.pid()
    }

    /// The address and port that serve its metrics.
    pub fn metrics(&self) -> &str {
        &self.metrics
    }

    /// The end of its log.
    pub fn log(&self) -> String {
        self.server.log()
    }

    /// Whether it runs.
    pub fn alive(&mut self) -> anyhow::Result<bool> {
        Ok(self.server.ended()?.is_none())
    }

    /// `lineal status --json`.
    pub fn status(&self) -> anyhow::Result<Value> {
        let mut command = Command::new(paths::lineal()?);
        command.env("LINEAL_CONTROL", &self.control).args(["status", "--json"]);
        finish(&mut command)?.json()?.into_iter().next().context("the agent has no status")
    }

    /// Asks for the status again and again until it is as wanted, and returns it: there is no event to
    /// wait for.
    pub fn wait_for_status(&self, wanted: impl Fn(&Value) -> bool) -> anyhow::Result<Value> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let status = self.status()?;
            if wanted(&status) {
                return Ok(status);
            }
            ensure!(Instant::now() < deadline, "the status did not become as wanted; it is {status}");
        }
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        self.server.signal(signal)
    }

    /// Stops it as its service manager would, by SIGTERM.
    pub fn stop(mut self) -> anyhow::Result<()> {
        self.server.stop(Signal::TERM, PATIENCE).map(drop)
    }

    /// Kills it as the kernel would when memory is short, by SIGKILL.
    pub fn kill(mut self) -> anyhow::Result<()> {
        self.server.stop(Signal::KILL, PATIENCE).map(drop)
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.server.stop(Signal::TERM, PATIENCE);
    }
}
