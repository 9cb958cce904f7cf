//! The chain of processes from a job's root to the one that acts.

use serde::{Deserialize, Serialize};

/// One process of a lineage, as it was when it created the next one down (or, for the last, as it is).
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Process {
    /// Its host PID (thread group id).
    pub pid: u32,
    /// Path of its executable.
    pub exe: String,
    /// Its arguments as at exec, through the redactor.
    pub argv: Vec<String>,
}

/// The process that acts, with its ancestry.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Lineage {
    /// The process that opened the connection.
    pub process: Process,
    /// Its working directory, where the kernel still knew it.
    pub cwd: String,
    /// Its user id, in the host's user namespace.
    pub uid: u32,
    /// Its container's id, or empty outside containers.
    pub container: String,
    /// From the job's root to the process itself, both included; never empty.
    pub ancestry: Vec<Process>,
}

impl Lineage {
    /// How many processes stand above this one in the job: 0 for the root.
    pub fn depth(&self) -> usize {
        self.ancestry.len().saturating_sub(1)
    }
}
