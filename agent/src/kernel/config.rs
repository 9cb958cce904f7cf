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
    /// Processes followed at once, over all jobs. Beyond it a followed process that forks is killed.
    pub processes_max: u32,
    /// Redirected connections that the agent has not accepted yet. Beyond it they are closed.
    pub flows_max: u32,
    /// Network namespaces with jobs in them. Beyond it enrolment is refused.
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
