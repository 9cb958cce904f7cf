//! The kernel side's counters.

use agent_abi::{Refusal, stat, word};

use super::{
    super::refusals,
    tables::{Kernel, locked},
};

/// The counters of the kernel side, as totals over all CPUs. `agent_abi::stat` says when each is counted.
#[derive(Clone, Copy, Debug)]
pub struct Statistics {
    /// What was refused, by reason.
    pub refused: [(Refusal, u64); refusals::ALL.len()],
    /// Events that found the ring full.
    pub events_lost: u64,
    /// Connections that found the flow map full.
    pub flows_full: u64,
    /// Forks and execs that found the node or image map full.
    pub nodes_full: u64,
    /// Jobs of rules that found their map full.
    pub unidentified_full: u64,
    /// Forks and execs of jobs that had their share of nodes or images already.
    pub share_full: u64,
    /// Cgroups that found their map full.
    pub cgroups_full: u64,
    /// Processes killed at the bound of followed processes.
    pub tasks_full: u64,
    /// Connections redirected.
    pub redirected: u64,
    /// Connections to a listener of the same job, let through.
    pub own_listener: u64,
    /// Followed processes alive.
    pub tasks: u64,
}

impl Kernel {
    /// The counters as they are now.
    pub fn statistics(&self) -> Statistics {
        let total = |index: u32| -> u64 { self.stats.get(&index, 0).map_or(0, |values| values.iter().sum()) };
        Statistics {
            refused: refusals::ALL.map(|refusal| (refusal, total(refusal as u32))),
            events_lost: total(stat::EVENTS_LOST),
            flows_full: total(stat::FLOWS_FULL),
            nodes_full: total(stat::NODES_FULL),
            unidentified_full: total(stat::UNIDENTIFIED_FULL),
            share_full: total(stat::SHARE_FULL),
            cgroups_full: total(stat::CGROUPS_FULL),
            tasks_full: total(stat::TASKS_FULL),
            redirected: total(stat::REDIRECTED),
            own_listener: total(stat::OWN_LISTENER),
            tasks: locked(&self.words).get(&word::TASKS, 0).unwrap_or(0),
        }
    }
}
