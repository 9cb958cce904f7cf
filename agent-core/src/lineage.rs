//! A lineage: the chain of processes from a job's root to the one that acts.

use serde::{Deserialize, Serialize};

/// One process of a lineage, as it was when it forked the next; the last, as it is now.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Process {
    /// Its PID in the host's PID namespace (the thread group id).
    pub pid: u32,
    /// The path of its executable.
    pub exe: String,
    /// Its arguments at its exec, with secrets redacted.
    pub argv: Vec<String>,
}

/// The process that acts, and its ancestry.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Lineage {
    /// The process that opened the connection.
    pub process: Process,
    /// Its working directory; empty if the kernel no longer knew it.
    pub cwd: String,
    /// Its user id, in the host's user namespace.
    pub uid: u32,
    /// The id of its container; empty outside containers.
    pub container: String,
    /// From the job's root to the process itself, both included. Never empty.
    pub ancestry: Vec<Process>,
}

impl Lineage {
    /// How many ancestors the process has in the job: 0 for the root.
    pub fn depth(&self) -> usize {
        self.ancestry.len().saturating_sub(1)
    }
}
