//! Python run inside jobs: most of what a job can try is a few lines of it.

use crate::{command::Finished, lab::Lab};

/// Debian's own, which has psycopg.
pub const PYTHON: &str = "/usr/bin/python3";

impl Lab {
    /// Runs Python as a job's root process, to its end.
    pub fn python(&self, script: &str) -> anyhow::Result<Finished> {
        self.run("python", &[PYTHON, "-c", script])
    }

    /// Runs SQL through psql as a job's root process: each string is one `-c`. Errors show their SQLSTATE.
    pub fn psql(&self, commands: &[&str]) -> anyhow::Result<Finished> {
        let mut arguments = vec!["psql", "-XAtq", "-v", "VERBOSITY=verbose"];
        for command in commands {
            arguments.extend(["-c", command]);
        }
        self.run("psql", &arguments)
    }
}
