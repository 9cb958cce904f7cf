//! What the kernel side reports: events in the ring, counters, and the words it shares with the agent.

/// Bytes of the event ring.
pub const EVENTS_BYTES: u32 = 1 << 20;

/// One record of the ring `EVENTS`: something in the maps has changed, or something was refused.
///
/// Written by the kernel side, read once by the agent. For changes the event only wakes the agent: the maps
/// are the truth. Of a refusal the maps hold nothing but its count.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event {
    /// An [`EventKind`] as a number.
    pub kind: u32,
    /// The process.
    pub tgid: u32,
    /// The process's job.
    pub job: u64,
    /// The process's lineage node after the event.
    pub node: u64,
    /// For an exec the process's node before it; for a refusal a [`Refusal`] as a number; otherwise 0.
    pub detail: u64,
    /// Destination of a refused connection or datagram, network byte order; IPv4 as `::ffff:a.b.c.d`.
    /// Otherwise 0.
    pub address: [u32; 4],
    /// Port of that destination, host byte order. For a socket that was refused at its creation, the protocol
    /// number that was asked for. Otherwise 0.
    pub port: u32,
    /// Always 0; keeps the layout free of implicit padding.
    pub reserved: u32,
}

/// Kinds of [`Event`].
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventKind {
    /// A followed process forked; `tgid` and `node` are the child's.
    Fork = 1,
    /// A followed process executed an image; `detail` is its former node.
    Exec = 2,
    /// The last thread of a followed process has ended.
    Exit = 3,
    /// A socket, connection or datagram was refused in the kernel; `detail` is a [`Refusal`].
    Refused = 4,
    /// A rule began a job; `tgid` is its root.
    Enrol = 5,
}

/// Why the kernel side refused something. Its number is also the index of its counter in the map `STATS`.
///
/// What the agent calls each of them, in metrics and in its log: `agent/src/kernel/refusals.rs`.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// A kind of socket that the redirect does not see (raw, ICMP, SCTP, MPTCP, UDP-Lite…), or a socket
    /// option that would carry packets past it.
    SocketKind = 0,
    /// UDP to a destination that is not a declared resolver.
    Datagram = 1,
    /// No live agent listens in this network namespace.
    NoListener = 2,
    /// The agent's lease has lapsed: the agent is down or stuck.
    NoLease = 3,
    /// The socket's storage could not be made.
    NoStorage = 4,
    /// A datagram or connection that must stay in its job, and that another socket was about to receive. Only
    /// counted: where that is seen, the sender is not known.
    Receiver = 5,
}

/// Counters of the map `STATS` (`u64`, one value per CPU). The kernel side adds to them; the agent sums them.
/// The indices below these count each [`Refusal`].
pub mod stat {
    /// Events lost because the ring was full. The maps still hold the changes that these events were about,
    /// and `STATS` still counts the refusals.
    pub const EVENTS_LOST: u32 = 6;
    /// Redirected connections that found the flow map full: the agent closes them.
    pub const FLOWS_FULL: u32 = 7;
    /// Forks and execs that found the node or image map full: the process can't be attributed, so its traffic
    /// is denied.
    pub const NODES_FULL: u32 = 8;
    /// Processes killed because as many as allowed were followed already.
    pub const TASKS_FULL: u32 = 9;
    /// Connections redirected.
    pub const REDIRECTED: u32 = 10;
    /// Connections to a listener of the same job, let through.
    pub const OWN_LISTENER: u32 = 11;
    /// Jobs that found the map of unidentified jobs full: their processes are granted nothing.
    pub const UNIDENTIFIED_FULL: u32 = 12;
    /// New cgroups that found the map of cgroups full: no rule follows what executes in them.
    pub const CGROUPS_FULL: u32 = 13;
    /// Forks and execs in a job that already has its whole share of nodes or images: the process can't be
    /// attributed, so its traffic is denied.
    pub const SHARE_FULL: u32 = 14;
    /// How many counters there are.
    pub const COUNT: u32 = 15;
}

/// Words of the array `WORDS` (`u64`).
pub mod word {
    /// Monotonic nanoseconds until which the agent's lease holds; 0 for no lease. The agent writes it, the
    /// kernel side reads it.
    pub const LEASE: u32 = 0;
    /// Next node or image id that the kernel side hands out: an even number. The agent sets it as it starts,
    /// the kernel side adds to it atomically. The agent's own ids are odd.
    pub const NEXT_ID: u32 = 1;
    /// Live followed processes, as a signed number. The kernel side adds to it atomically; the agent adds
    /// what it tags and corrects the count from the task map from time to time. Either write may undo an
    /// addition that is under way.
    pub const TASKS: u32 = 2;
    /// Forks of processes that are not followed although a rule by user or cgroup matches them. The kernel
    /// side adds to it atomically; the agent reads it while it searches for such processes.
    pub const MATCHED_FORKS: u32 = 3;
    /// How many words there are.
    pub const COUNT: u32 = 4;
}

plain_data!(Event);
