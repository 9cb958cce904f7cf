//! Capacities, in entries, of the maps that grow with the number of followed processes. `processes_max` is
//! the bound on that number: `processes_max` under `[kernel]` in the configuration.

/// Task tags: twice the bound on followed processes. Once the bound is reached, a followed process that forks
/// is killed, but the child of that fork lives on. There must still be room for the tag of one such child of
/// each process.
pub const fn tasks(processes_max: u32) -> u32 {
    processes_max.saturating_mul(2)
}

/// The reverse of [`tasks`]: the bound on followed processes for which a map of this many task tags was made.
pub const fn processes(tasks: u32) -> u32 {
    tasks / 2
}

/// Lineage nodes, which stay in the kernel until the agent removes them.
pub const fn nodes(processes_max: u32) -> u32 {
    processes_max.saturating_mul(8)
}

/// Executed images, which stay in the kernel until the agent removes them.
pub const fn images(processes_max: u32) -> u32 {
    processes_max.saturating_mul(2)
}

/// How much of a `capacity`, that of [`nodes`] or of [`images`], one job may hold: a job that uses all of its
/// share leaves room for others. A job's share of the nodes is still enough for a node for each process that
/// may be followed.
pub const fn share(capacity: u32) -> u32 {
    capacity / 4
}

/// Jobs with live processes, and ended jobs of which the agent has not removed all nodes yet.
pub const fn jobs(processes_max: u32) -> u32 {
    processes_max.saturating_mul(2)
}

/// Live jobs that a rule began and that have shown no token. A further such job is followed and granted
/// nothing, too, but the agent does not learn which rule began it.
pub const fn unidentified(processes_max: u32) -> u32 {
    processes_max.div_ceil(4)
}

/// Cgroups that enrolment rules, all together, cover at once. The rules do not match processes in a further
/// cgroup by its cgroup.
pub const fn cgroups(processes_max: u32) -> u32 {
    processes_max
}

/// Listening sockets of the agent's, when it serves as many network namespaces as it may: in each of them two
/// for IPv4 and two for IPv6.
pub const fn doors(namespaces_max: u32) -> u32 {
    namespaces_max.saturating_mul(4)
}
