//! A whole lab: PostgreSQL, an OpenID provider, policies and an agent, in a directory and a cgroup of their own.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::Context;
use serde_json::{Value, json};

use crate::{
    agent::{Agent, AgentOptions},
    cgroup::Cgroup,
    command::{Finished, PATIENCE, finish},
    guard::{self, Guard},
    issuer::Issuer,
    paths,
    postgres::{self, Postgres},
    server::{Server, Start},
};

/// What can be chosen about a lab.
#[derive(Clone, Debug)]
pub struct LabOptions {
    /// Whether the agent keeps a trail: false only in benches.
    pub audit: bool,
    /// Where the trail goes; into the lab's directory unless given.
    pub trail: Option<PathBuf>,
    /// What becomes of literals in the trail: `keep` or `redact`.
    pub literals: &'static str,
    /// More of the agent's `[kernel]` table.
    pub kernel: &'static str,
    /// More of the agent's configuration.
    pub agent_config: String,
    /// More of its environment.
    pub agent_environment: Vec<(&'static str, &'static str)>,
    /// More upstreams, as TOML for `upstreams.toml`.
    pub upstreams: String,
    /// How the agent reaches the shop, as TOML in its `[[upstream]]`. `LAB` in it and in what the agent is given stands
    /// for the lab's directory.
    pub leg: &'static str,
}

impl Default for LabOptions {
    fn default() -> Self {
        Self {
            audit: true,
            trail: None,
            literals: "keep",
            kernel: "",
            agent_config: String::new(),
            agent_environment: Vec::new(),
            upstreams: String::new(),
            leg: "tls.mode = \"disable\"",
        }
    }
}

/// A running lab. Dropping it takes it down; so does the end of its owner, whatever kind of end.
pub struct Lab {
    agent: Option<Agent>,
    agent_options: AgentOptions,
    /// The server that jobs are after.
    pub postgres: Postgres,
    /// Who issues their tokens.
    pub issuer: Issuer,
    directory: PathBuf,
    cgroup: Cgroup,
    // Last: it removes what everything above stands on.
    _guard: Guard,
}

impl Lab {
    /// Raises a lab; returns when every part of it is ready.
    pub fn start(options: &LabOptions) -> anyhow::Result<Self> {
        guard::sweep()?;
        let name = guard::owned_name()?;
        let directory = std::env::temp_dir().join(&name);
        fs::create_dir(&directory)?;
        // PostgreSQL's account passes through.
        fs::set_permissions(&directory, fs::Permissions::from_mode(0o755))?;
        let cgroup = Cgroup::create(&name)?;
        let pins = Path::new(guard::BPFFS).join(&name);
        let guard = Guard::set(cgroup.path(), &directory, &pins)?;
        let logs = directory.join("logs");
        fs::create_dir(&logs)?;
        // Neither waits for the other; a lab is ready when the slower one is.
        let (postgres, issuer) = std::thread::scope(|scope| {
            let issuer = scope.spawn(|| Issuer::start(&cgroup, &logs));
            let postgres = Postgres::start(&directory, &cgroup, &logs);
            (postgres, issuer.join())
        });
        let postgres = postgres?;
        let issuer = issuer.map_err(|_| anyhow::anyhow!("the provider's starter panicked"))??;
        let agent_options = AgentOptions {
            directory: directory.clone(),
            cgroup: cgroup.path().to_owned(),
            pins,
            issuer: issuer.url().to_owned(),
            audit: options.audit,
            trail: options.trail.clone().unwrap_or_else(|| directory.join("audit")),
            literals: options.literals,
            kernel: options.kernel,
            more: in_lab(&options.agent_config, &directory),
            environment: options
                .agent_environment
                .iter()
                .map(|(name, value)| (*name, in_lab(value, &directory)))
                .collect(),
        };
        let leg = in_lab(options.leg, &directory);
        write_bundle(&agent_options.policies(), &postgres.address(), &leg, &options.upstreams)?;
        fs::write(directory.join("token"), issuer.token("nightly")?)?;
        let agent = agent_options.start(&cgroup, &logs)?;
        Ok(Self { agent: Some(agent), agent_options, postgres, issuer, directory, cgroup, _guard: guard })
    }

    /// Makes these the host's own policies, beside the shipped ones; returns when they are in force.
    pub fn set_policies(&mut self, text: &str) -> anyhow::Result<()> {
        self.change_bundle("own.cedar", text)
    }

    /// Makes these the host's upstreams, as TOML; returns when they are in force.
    pub fn set_upstreams(&mut self, text: &str) -> anyhow::Result<()> {
        let text = in_lab(text, &self.directory);
        self.change_bundle("upstreams.toml", &text)
    }

    /// The shop as an upstream, as TOML: reached without TLS.
    pub fn shop(&self) -> String {
        shop(&self.postgres.address(), "tls.mode = \"disable\"")
    }

    /// Changes how the agent reaches the shop, as [`LabOptions::leg`] has it; returns when that is in force.
    pub fn set_leg(&mut self, leg: &str) -> anyhow::Result<()> {
        self.set_upstreams(&shop(&self.postgres.address(), leg))
    }

    /// Writes a file of the host's, other than it is, and returns when the agent has taken it.
    fn change_bundle(&mut self, file: &str, text: &str) -> anyhow::Result<()> {
        let before = self.agent()?.status()?.get("bundle").cloned();
        // At once: half of it would be another bundle, and the whole one more.
        let host = self.policies().join("hosts/lab");
        let next = host.join(format!(".{file}"));
        fs::write(&next, text)?;
        fs::rename(next, host.join(file))?;
        self.agent()?.wait_for_status(|status| status.get("bundle") != before.as_ref())?;
        Ok(())
    }

    /// Puts a bundle that allows all in place of the shipped one; returns when it is in force.
    pub fn allow_all(&mut self) -> anyhow::Result<()> {
        for file in fs::read_dir(self.policies().join("default"))? {
            fs::remove_file(file?.path())?;
        }
        self.set_policies("@id(\"all\") permit (principal, action, resource);\n")?;
        // The files may have been seen going one by one: now they are gone.
        let wanted = |status: &Value| status.get("bundle_error").is_some_and(Value::is_null);
        self.agent()?.wait_for_status(wanted).map(drop)
    }

    /// Where everything of this lab lies.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// What the agent attaches to, and where every process of the lab stands.
    pub fn cgroup(&self) -> &Cgroup {
        &self.cgroup
    }

    /// The running agent.
    pub fn agent(&mut self) -> anyhow::Result<&mut Agent> {
        self.agent.as_mut().context("the agent is stopped")
    }

    /// Takes the agent out, to stop or kill it.
    pub fn take_agent(&mut self) -> anyhow::Result<Agent> {
        self.agent.take().context("the agent is stopped already")
    }

    /// Starts the agent again, with the same directories.
    pub fn start_agent(&mut self) -> anyhow::Result<()> {
        self.agent = Some(self.agent_options.start(&self.cgroup, &self.logs())?);
        Ok(())
    }

    /// The same, and returns at once: for an agent that is not to live long.
    pub fn start_agent_unready(&self) -> anyhow::Result<Server> {
        Ok(self.agent_options.spawn(&self.cgroup, &self.logs())?.0)
    }

    /// How the agent is configured.
    pub fn agent_options(&mut self) -> &mut AgentOptions {
        &mut self.agent_options
    }

    /// The audit trail's directory.
    pub fn trail(&self) -> PathBuf {
        self.agent_options.trail.clone()
    }

    /// The policy bundle's directory.
    pub fn policies(&self) -> PathBuf {
        self.agent_options.policies()
    }

    /// A token file with any number of uses: its token names one CI run.
    pub fn token_file(&self) -> PathBuf {
        self.directory.join("token")
    }

    /// A `lineal` command that talks to this lab's agent, from inside the lab's cgroup.
    pub fn lineal<I: AsRef<std::ffi::OsStr>>(&self, arguments: &[I]) -> anyhow::Result<Command> {
        let mut command = Command::new(paths::lineal()?);
        command.args(arguments).env("LINEAL_CONTROL", self.agent_options.control());
        Ok(self.inside(&command))
    }

    /// Any command, inside the lab's cgroup and outside every job, with libpq's variables for the shop.
    pub fn inside(&self, command: &Command) -> Command {
        let mut inside = self.cgroup.inside(command);
        let given: Vec<_> = command.get_envs().map(|(name, _)| name.to_owned()).collect();
        for (name, value) in self.client_variables() {
            if !given.iter().any(|other| other == name) {
                inside.env(name, value);
            }
        }
        inside
    }

    /// Runs a `lineal` command to its end.
    pub fn ask<I: AsRef<std::ffi::OsStr>>(&self, arguments: &[I]) -> anyhow::Result<Finished> {
        finish(&mut self.lineal(arguments)?)
    }

    /// A command that `lineal run` becomes, under the lab's token.
    pub fn job(&self, name: &str, command: &[&str]) -> anyhow::Result<Command> {
        let token = self.token_file();
        let token = token.to_str().context("the lab's directory is not text")?;
        let mut arguments = vec!["run", "--token-file", token, "--name", name, "--"];
        arguments.extend(command);
        self.lineal(&arguments)
    }

    /// Runs a job to its end.
    pub fn run(&self, name: &str, command: &[&str]) -> anyhow::Result<Finished> {
        finish(&mut self.job(name, command)?)
    }

    /// Starts a long-lived process that is talked to by lines.
    pub fn converse(&self, name: &'static str, command: &Command) -> anyhow::Result<Server> {
        Start { name, cgroup: &self.cgroup, logs: &self.logs(), talks: true }.run(command)
    }

    /// Starts a long-lived process that logs.
    pub fn serve(&self, name: &'static str, command: &Command) -> anyhow::Result<Server> {
        Start { name, cgroup: &self.cgroup, logs: &self.logs(), talks: false }.run(command)
    }

    /// What the trail holds of decisions, with `lineal audit query`'s own filters.
    pub fn audit(&self, filters: &[&str]) -> anyhow::Result<Vec<Value>> {
        let trail = self.trail();
        let trail = trail.to_str().context("the lab's directory is not text")?;
        let mut arguments = vec!["audit", "query", "--json", "--dir", trail];
        arguments.extend(filters);
        self.ask(&arguments)?.json()
    }

    /// Waits for something that announces itself to nobody, by asking again at once, for at most [`PATIENCE`].
    pub fn wait_until(
        &self,
        what: &str,
        mut happened: impl FnMut() -> anyhow::Result<bool>,
    ) -> anyhow::Result<()> {
        let deadline = std::time::Instant::now() + PATIENCE;
        while !happened()? {
            anyhow::ensure!(std::time::Instant::now() < deadline, "waited in vain for {PATIENCE:?}: {what}");
        }
        Ok(())
    }

    /// What `cargo xtask lab --json` prints.
    pub fn describe(&mut self) -> anyhow::Result<Value> {
        Ok(json!({
            "lineal": paths::lineal()?,
            "control": self.agent_options.control(),
            "config": self.agent_options.config(),
            "audit": self.trail(),
            "metrics": format!("http://{}/metrics", self.agent()?.metrics()),
            "token_file": self.token_file(),
            "issuer": self.issuer.url(),
            "postgres": {
                "host": "127.0.0.1",
                "port": self.postgres.port(),
                "database": postgres::DATABASE,
                "user": postgres::USER,
                "password": postgres::PASSWORD,
                "superuser": postgres::SUPERUSER,
                "superuser_password": postgres::SUPERUSER_PASSWORD,
            },
        }))
    }

    /// libpq's variables for the shop's user.
    pub fn client_variables(&self) -> Vec<(&'static str, String)> {
        let mut variables = self.postgres.variables(postgres::DATABASE, postgres::USER).to_vec();
        variables.push(("PGPASSWORD", postgres::PASSWORD.to_owned()));
        variables
    }

    pub(crate) fn logs(&self) -> PathBuf {
        self.directory.join("logs")
    }
}

fn in_lab(text: &str, directory: &Path) -> String {
    text.replace("LAB", &directory.to_string_lossy())
}

/// The shipped policies, and this host's upstreams.
fn write_bundle(bundle: &Path, shop: &str, leg: &str, more: &str) -> anyhow::Result<()> {
    let shipped = paths::repository().join("policies/default");
    let default = bundle.join("default");
    fs::create_dir_all(&default)?;
    for file in fs::read_dir(&shipped).with_context(|| format!("cannot list {}", shipped.display()))? {
        let file = file?;
        fs::copy(file.path(), default.join(file.file_name()))?;
    }
    let host = bundle.join("hosts/lab");
    fs::create_dir_all(&host)?;
    fs::write(host.join("upstreams.toml"), format!("{}{more}", self::shop(shop, leg)))?;
    Ok(())
}

/// The shop as an upstream.
fn shop(address: &str, leg: &str) -> String {
    format!("[[upstream]]\nname = \"shop\"\nprotocol = \"postgres\"\naddresses = [{address:?}]\n{leg}\n")
}
