//! Reads the kernel side's counters, for metrics and `lineal status`.

use agent_abi::{Refusal, stat, word};

use super::{
    super::refusals,
    tables::{Kernel, locked},
};

/// The counters of the kernel side, as totals over all CPUs, and the number of live processes.
/// `agent_abi::stat` says what each counted event leads to.
#[derive(Clone, Copy, Debug)]
pub struct Statistics {
    /// Refused sockets, socket options, connections and datagrams, by reason.
    pub refused: [(Refusal, u64); refusals::ALL.len()],
    /// Events lost because the event ring was full.
    pub events_lost: u64,
    /// Redirected connections that found the flow map full.
    pub flows_full: u64,
    /// Forks and execs that found the node or image map full.
    pub nodes_full: u64,
    /// Jobs begun by an enrolment rule that found the map of unidentified jobs full.
    pub unidentified_full: u64,
    /// Forks and execs in a job that had used up its share of nodes or images.
    pub share_full: u64,
    /// New cgroups that found the map of cgroups full.
    pub cgroups_full: u64,
    /// Processes killed because as many were followed as the bound allows.
    pub tasks_full: u64,
    /// Connections redirected.
    pub redirected: u64,
    /// Connections to a listener of the same job, let through.
    pub own_listener: u64,
    /// Live followed processes: no counter, but the word [`word::TASKS`].
    pub tasks: u64,
}

impl Kernel {
    /// The counters as they are now. One that cannot be read is 0.
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
