//! Runs Python and psql as jobs: most of what a test has a job do is a few lines of either.

use crate::{command::Finished, lab::Lab};

/// Debian's own Python, for which psycopg is installed.
pub const PYTHON: &str = "/usr/bin/python3";

impl Lab {
    /// Runs Python as a job's root process, to its end. The job is called `python`.
    pub fn python(&self, script: &str) -> anyhow::Result<Finished> {
        self.run("python", &[PYTHON, "-c", script])
    }

    /// Runs SQL by psql as a job's root process, each string as one `-c`. Errors show their SQLSTATE. The job
    /// is called `psql`.
    pub fn psql(&self, commands: &[&str]) -> anyhow::Result<Finished> {
        let mut arguments = vec!["psql", "-XAtq", "-v", "VERBOSITY=verbose"];
        for command in commands {
            arguments.extend(["-c", command]);
        }
        self.run("psql", &arguments)
    }
}
