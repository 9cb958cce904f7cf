//! `[kernel]` of the configuration.

use std::{net::SocketAddr, path::PathBuf};

use agent_abi::{FLOWS_MAX, NAMESPACES_MAX, PROCESSES_MAX};
use serde::Deserialize;

/// `[kernel]` of the configuration.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct KernelConfig {
    /// The cgroup-v2 directory to attach to; the root of the hierarchy unless given. Processes outside it
    /// can't be enrolled.
    pub cgroup: Option<PathBuf>,
    /// Directory on bpffs for pinned maps and links; `/sys/fs/bpf/lineal` unless given.
    pub bpffs: Option<PathBuf>,
    /// Moves a process that is outside `cgroup` into it when it is enrolled. For labs and tests.
    pub move_jobs: bool,
    /// UDP destinations that jobs may send to, `address:port`; none unless given.
    pub resolvers: Vec<SocketAddr>,
    /// Processes followed at once, over all jobs. Once there are so many, a followed process that forks is
    /// killed, and so is a process that a rule would begin a job with.
    pub processes_max: u32,
    /// Redirected connections that the agent has not accepted yet. Further ones are closed.
    pub flows_max: u32,
    /// Network namespaces with jobs in them. In a further one enrolment is refused, and so is every
    /// connection of a job that a rule began.
    pub namespaces_max: u32,
}

impl Default for KernelConfig {
    fn default() -> Self {
        Self {
            cgroup: None,
            bpffs: None,
            move_jobs: false,
            resolvers: Vec::new(),
            processes_max: PROCESSES_MAX,
            flows_max: FLOWS_MAX,
            namespaces_max: NAMESPACES_MAX,
        }
    }
}
