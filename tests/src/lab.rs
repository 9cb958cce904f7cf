//! A whole lab: PostgreSQL, an OpenID provider, policies and an agent, in one directory and one cgroup.

use std::{
    env,
    ffi::OsStr,
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::Instant,
};

use anyhow::{Context, anyhow, ensure};
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

/// How a lab differs from the default one. `LAB` in `agent_config`, `agent_environment` and `leg` stands for
/// the lab's directory.
#[derive(Clone, Debug)]
pub struct LabOptions {
    /// Whether the agent keeps an audit trail: false only in benches.
    pub audit: bool,
    /// The trail's directory; one in the lab's directory unless given.
    pub trail: Option<PathBuf>,
    /// What happens to literals of statements in the trail: `keep` or `redact`.
    pub literals: &'static str,
    /// TOML that ends the `[kernel]` table of the agent's configuration.
    pub kernel: &'static str,
    /// TOML that ends the agent's configuration; it begins inside the table of the issuer.
    pub agent_config: String,
    /// Variables added to the agent's environment.
    pub agent_environment: Vec<(&'static str, &'static str)>,
    /// Upstreams beside the shop, as TOML for `upstreams.toml`.
    pub upstreams: String,
    /// How the agent reaches the shop, as TOML in its `[[upstream]]`.
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

/// A running lab. It is taken down when this is dropped, and also when its owner ends in any other way.
pub struct Lab {
    agent: Option<Agent>,
    agent_options: AgentOptions,
    /// The database server that jobs connect to: the upstream `shop`.
    pub postgres: Postgres,
    /// The issuer of the jobs' tokens.
    pub issuer: Issuer,
    directory: PathBuf,
    cgroup: Cgroup,
    // Dropped last: it removes the directory and the cgroup that the parts above use.
    _guard: Guard,
}

impl Lab {
    /// Raises a lab; returns when every part of it is ready.
    pub fn start(options: &LabOptions) -> anyhow::Result<Self> {
        guard::sweep()?;
        let name = guard::owned_name()?;
        let directory = env::temp_dir().join(&name);
        fs::create_dir(&directory)?;
        // PostgreSQL's account must be able to enter its own directory in this one.
        fs::set_permissions(&directory, fs::Permissions::from_mode(0o755))?;
        let cgroup = Cgroup::create(&name)?;
        let pins = Path::new(guard::BPFFS).join(&name);
        let guard = Guard::set(cgroup.path(), &directory, &pins)?;
        let logs = directory.join("logs");
        fs::create_dir(&logs)?;
        // The two start at the same time, because neither needs the other.
        let (postgres, issuer) = thread::scope(|scope| {
            let issuer = scope.spawn(|| Issuer::start(&cgroup, &logs));
            let postgres = Postgres::start(&directory, &cgroup, &logs);
            (postgres, issuer.join())
        });
        let postgres = postgres?;
        let issuer = issuer.map_err(|_| anyhow!("the thread that starts the OpenID provider panicked"))??;
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

    /// Makes these the host's tags of resources, as TOML; returns when they are in force.
    pub fn set_resources(&mut self, text: &str) -> anyhow::Result<()> {
        self.change_bundle("resources.toml", text)
    }

    /// The shop as an upstream, as TOML: reached without TLS.
    pub fn shop(&self) -> String {
        shop(&self.postgres.address(), "tls.mode = \"disable\"")
    }

    /// Changes how the agent reaches the shop, as [`LabOptions::leg`] has it; returns when that is in force.
    pub fn set_leg(&mut self, leg: &str) -> anyhow::Result<()> {
        self.set_upstreams(&shop(&self.postgres.address(), leg))
    }

    /// Replaces a file of the host's bundle, whose content must change, and returns when the agent has loaded
    /// it.
    fn change_bundle(&mut self, file: &str, text: &str) -> anyhow::Result<()> {
        let before = self.agent()?.status()?.get("bundle").cloned();
        // By a rename: the agent could load a half-written file as a bundle of its own.
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
        // The agent may have loaded, or refused, bundles with only some of the files removed: wait for the
        // last one.
        let wanted = |status: &Value| status.get("bundle_error").is_some_and(Value::is_null);
        self.agent()?.wait_for_status(wanted).map(drop)
    }

    /// The directory that holds all files of this lab.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// The cgroup that the agent attaches to, and that every process of the lab is in.
    pub fn cgroup(&self) -> &Cgroup {
        &self.cgroup
    }

    /// The running agent.
    pub fn agent(&mut self) -> anyhow::Result<&mut Agent> {
        self.agent.as_mut().context("the agent is stopped")
    }

    /// Takes the agent out of the lab, to stop or kill it.
    pub fn take_agent(&mut self) -> anyhow::Result<Agent> {
        self.agent.take().context("the agent is stopped already")
    }

    /// Starts the agent again, with the same directories.
    pub fn start_agent(&mut self) -> anyhow::Result<()> {
        self.agent = Some(self.agent_options.start(&self.cgroup, &self.logs())?);
        Ok(())
    }

    /// Starts the agent like [`Self::start_agent`], but returns at once: for an agent that is expected to
    /// fail, or that is killed before it is ready.
    pub fn start_agent_unready(&self) -> anyhow::Result<Server> {
        Ok(self.agent_options.spawn(&self.cgroup, &self.logs())?.0)
    }

    /// How the agent is configured; changes apply to the next one that is started.
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

    /// A file with a token that can be used any number of times, because it names a CI run.
    pub fn token_file(&self) -> PathBuf {
        self.directory.join("token")
    }

    /// A `lineal` command that talks to this lab's agent, run in the lab's cgroup.
    pub fn lineal<I: AsRef<OsStr>>(&self, arguments: &[I]) -> anyhow::Result<Command> {
        let mut command = Command::new(paths::lineal()?);
        command.args(arguments).env("LINEAL_CONTROL", self.agent_options.control());
        Ok(self.inside(&command))
    }

    /// A command run in the lab's cgroup and outside every job, with libpq's variables for the shop unless it
    /// has its own.
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
    pub fn ask<I: AsRef<OsStr>>(&self, arguments: &[I]) -> anyhow::Result<Finished> {
        finish(&mut self.lineal(arguments)?)
    }

    /// A `lineal run` that starts a command as a job of this name, with the lab's token.
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

    /// Starts a long-lived process whose standard output is read line by line.
    pub fn converse(&self, name: &'static str, command: &Command) -> anyhow::Result<Server> {
        Start { name, cgroup: &self.cgroup, logs: &self.logs(), talks: true }.run(command)
    }

    /// Starts a long-lived process whose standard output goes to its log.
    pub fn serve(&self, name: &'static str, command: &Command) -> anyhow::Result<Server> {
        Start { name, cgroup: &self.cgroup, logs: &self.logs(), talks: false }.run(command)
    }

    /// The trail's decisions, or other records, by the filters of `lineal audit query`.
    pub fn audit(&self, filters: &[&str]) -> anyhow::Result<Vec<Value>> {
        let trail = self.trail();
        let trail = trail.to_str().context("the lab's directory is not text")?;
        let mut arguments = vec!["audit", "query", "--json", "--dir", trail];
        arguments.extend(filters);
        self.ask(&arguments)?.json()
    }

    /// Waits for something that no event announces, by asking again and again for at most [`PATIENCE`];
    /// `what` names it in the error.
    pub fn wait_until(
        &self,
        what: &str,
        mut happened: impl FnMut() -> anyhow::Result<bool>,
    ) -> anyhow::Result<()> {
        let deadline = Instant::now() + PATIENCE;
        while !happened()? {
            ensure!(Instant::now() < deadline, "this did not happen within {PATIENCE:?}: {what}");
        }
        Ok(())
    }

    /// The lab's addresses, paths and passwords: what `cargo xtask lab --json` prints.
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

    /// The directory of the parts' logs.
    pub(crate) fn logs(&self) -> PathBuf {
        self.directory.join("logs")
    }
}

/// Puts the lab's directory in place of `LAB`.
fn in_lab(text: &str, directory: &Path) -> String {
    text.replace("LAB", &directory.to_string_lossy())
}

/// Writes a bundle of the shipped policies and this host's upstreams.
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

/// The shop as an upstream, as TOML; `leg` is how the agent reaches it.
fn shop(address: &str, leg: &str) -> String {
    format!("[[upstream]]\nname = \"shop\"\nprotocol = \"postgres\"\naddresses = [{address:?}]\n{leg}\n")
}
