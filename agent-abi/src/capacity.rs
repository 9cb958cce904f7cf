//! Capacities of the maps that grow with the number of followed processes (`processes_max`), in entries.

/// Task tags: twice the bound on followed processes. When the bound is reached every process that forks is
/// killed, and has made at most one child by then; those children must still find room for their tags.
pub const fn tasks(processes_max: u32) -> u32 {
    processes_max.saturating_mul(2)
}

/// The reverse of [`tasks`]: the bound on followed processes that a task map of this capacity was made for.
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

/// What one job may hold of [`nodes`] or of [`images`]: a job that uses all of its share leaves room for
/// others. It is still enough for one job to have a node for each process that may be followed.
pub const fn share(capacity: u32) -> u32 {
    capacity / 4
}

/// Jobs that have live processes, or nodes that are kept for a while after their end.
pub const fn jobs(processes_max: u32) -> u32 {
    processes_max.saturating_mul(2)
}

/// Live jobs that have shown no token. Beyond it such jobs are followed and granted nothing, and the rule
/// that began them is not known.
pub const fn unidentified(processes_max: u32) -> u32 {
    processes_max.div_ceil(4)
}

/// Cgroups that an enrolment rule covers at once.
pub const fn cgroups(processes_max: u32) -> u32 {
    processes_max
}
