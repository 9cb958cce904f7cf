//! The layout of every map and event that the eBPF programs and the agent share.
//!
//! Nothing here may own memory or depend on the host: each type is `#[repr(C)]`, has no padding that is
//! not spelled out, and means the same on both sides. Addresses are in network byte order as the kernel
//! keeps them, ports in host byte order. A change of any layout raises [`LAYOUT`].

#![cfg_attr(not(test), no_std)]

/// Version of these layouts; pinned maps live in a directory of this name.
pub const LAYOUT: u32 = 4;

/// Bytes kept of an executable's path (its components, leaf first, each ended by NUL).
pub const EXE_BYTES_MAX: usize = 1024;
/// Bytes kept of a process's arguments (as in `/proc/PID/cmdline`: each ended by NUL).
pub const ARGV_BYTES_MAX: usize = 2048;
/// Room for one path component past [`EXE_BYTES_MAX`], so that a bounded read can never overrun (`NAME_MAX` + 1).
pub const NAME_BYTES_MAX: usize = 256;
/// Path components walked before the path counts as truncated.
pub const EXE_COMPONENTS_MAX: usize = 32;

/// Processes followed at once, over all jobs, unless the configuration says otherwise: beyond it a forking process is
/// killed.
pub const PROCESSES_MAX: u32 = 65_536;
/// Redirected connections not yet accepted by the agent, unless the configuration says otherwise.
pub const FLOWS_MAX: u32 = 16_384;
/// Network namespaces with jobs in them, unless the configuration says otherwise.
pub const NAMESPACES_MAX: u32 = 4_096;

/// Capacities of the maps that grow with the number of followed processes.
pub mod capacity {
    /// Processes: twice their bound, so that the children of forks already under way when it is reached are still tagged.
    /// Every killed forker has made at most one child.
    pub const fn tasks(processes_max: u32) -> u32 {
        processes_max.saturating_mul(2)
    }

    /// The bound that a capacity of [`tasks`] stands for.
    pub const fn processes(tasks: u32) -> u32 {
        tasks / 2
    }

    /// Lineage nodes kept in the kernel until the agent has let go of them.
    pub const fn nodes(processes_max: u32) -> u32 {
        processes_max.saturating_mul(8)
    }

    /// Executed images, likewise.
    pub const fn images(processes_max: u32) -> u32 {
        processes_max.saturating_mul(2)
    }

    /// What one job may take of [`nodes`], and of [`images`]: one that takes all of its share leaves the others theirs.
    /// Every process there may be can still have a node of one job's.
    pub const fn share(capacity: u32) -> u32 {
        capacity / 4
    }

    /// Jobs with live processes, or with places that are kept a while.
    pub const fn jobs(processes_max: u32) -> u32 {
        processes_max.saturating_mul(2)
    }

    /// Live jobs that have shown no token: more of them are followed and granted nothing, but not known by their rule.
    pub const fn unidentified(processes_max: u32) -> u32 {
        processes_max.div_ceil(4)
    }

    /// Cgroups that fall under a rule, at once.
    pub const fn cgroups(processes_max: u32) -> u32 {
        processes_max
    }
}

/// Datagram destinations that jobs may use.
pub const RESOLVERS_MAX: u32 = 64;
/// Rules of enrolment, and entries of each map that finds them.
pub const RULES_MAX: u32 = 64;
/// Room for a rule's name.
pub const RULE_NAME_BYTES: usize = 32;
/// Room for the name of an executable or a cgroup that a rule means, and a NUL.
pub const FILE_NAME_BYTES: usize = 128;
/// Room for the path of an executable (as in [`Image::exe`]) or a cgroup that a rule means, and a NUL.
pub const RULE_PATH_BYTES: usize = 256;
/// Bytes of the event ring.
pub const EVENTS_BYTES: u32 = 1 << 20;

/// Marks a type as plain data for aya's user-space maps.
macro_rules! plain_data {
    ($($name:ident),*) => {$(
        #[cfg(feature = "user")]
        #[allow(unsafe_code, reason = "aya's marker for types that are plain bytes")]
        // SAFETY: repr(C), Copy, integers and arrays of integers only, without implicit padding.
        unsafe impl aya::Pod for $name {}
    )*};
}

/// Value of the task map, keyed by tgid: which job a process belongs to and where it stands in it.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TaskTag {
    /// The job; never 0.
    pub job: u64,
    /// The process's current lineage node; 0 when the node map was full, which makes it unattributable.
    pub node: u64,
    /// The image it runs; 0 when it could not be recorded.
    pub image: u64,
    /// When the process was made, nanoseconds since boot; 0 when the agent tagged it. While one set of programs takes
    /// over from another both see a fork: the second knows by this that the first has been there.
    pub born_ns: u64,
    /// The process's count of execs when it was tagged or last executed, [`EXECS_UNKNOWN`] until then: so with an exec.
    pub execs: u32,
    /// Keeps the layout free of implicit padding.
    pub reserved: u32,
}

/// Words of the map of marks: a bit for each tgid there can be (`PID_MAX_LIMIT` of linux/threads.h). Who has no mark
/// has no tag: the kernel side sets the mark before the tag and clears it before it, the agent sets it before and after.
pub const MARKS_WORDS: u32 = 4 * 1024 * 1024 / u64::BITS;

/// Of a process that the agent tagged.
pub const EXECS_UNKNOWN: u32 = u32::MAX;

/// One process as it was between two of its execs: the ancestry is the chain of `parent`s.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Node {
    /// The job.
    pub job: u64,
    /// Node of the creating process at the time of the fork; 0 for the job's root.
    pub parent: u64,
    /// The image it runs: its own after an exec, its creator's until then.
    pub image: u64,
    /// Thread group id in the initial PID namespace.
    pub tgid: u32,
    /// User id in the initial user namespace, when the node was made.
    pub uid: u32,
    /// [`NODE_RECORDED`]: the agent's, and it alone changes it.
    pub flags: u32,
    /// Keeps the layout free of implicit padding.
    pub reserved: u32,
}

/// The trail holds this node.
pub const NODE_RECORDED: u32 = 1;

/// Value of the map of uses, keyed by job: how many nodes and images its processes have been given, ever. The kernel side
/// alone writes it.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct JobUse {
    /// Nodes.
    pub nodes: u64,
    /// Images.
    pub images: u64,
}

/// Value of the map of jobs, keyed by job: what the agent has to say of one. The agent alone writes it.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct JobWord {
    /// Nodes of it that the agent has let go of, ever.
    pub nodes: u64,
    /// Images, likewise.
    pub images: u64,
    /// [`JOB_SHUT_OFF`].
    pub flags: u64,
}

/// The job may begin nothing: not even what the kernel side decides by itself.
pub const JOB_SHUT_OFF: u64 = 1;

/// What a process executed.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Image {
    /// Bytes used of `exe`.
    pub exe_len: u32,
    /// Bytes used of `argv`.
    pub argv_len: u32,
    /// [`IMAGE_EXE_TRUNCATED`] | [`IMAGE_ARGV_TRUNCATED`].
    pub flags: u32,
    /// User id at exec.
    pub uid: u32,
    /// Path components of the executable, leaf first, each ended by NUL.
    pub exe: [u8; EXE_BYTES_MAX + NAME_BYTES_MAX],
    /// Arguments, each ended by NUL.
    pub argv: [u8; ARGV_BYTES_MAX],
}

/// The path had more components or bytes than are kept.
pub const IMAGE_EXE_TRUNCATED: u32 = 1;
/// The arguments had more bytes than are kept, or could not be read.
pub const IMAGE_ARGV_TRUNCATED: u32 = 2;

/// A socket's storage: who made it, and where it was meant to go.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SocketTag {
    /// Job of the creating or the connecting process; 0 if neither is in one.
    pub job: u64,
    /// Lineage node of that process.
    pub node: u64,
    /// Its tgid.
    pub tgid: u32,
    /// Its user id at connect.
    pub uid: u32,
    /// [`SOCKET_STAMPED`], [`SOCKET_REDIRECTED_V4`], [`SOCKET_REDIRECTED_V6`] or [`SOCKET_LISTENS`].
    pub state: u32,
    /// Original destination: port in host byte order.
    pub port: u32,
    /// Original destination: address; IPv4 as `::ffff:a.b.c.d`.
    pub address: [u32; 4],
}

/// Made by a followed process, not redirected.
pub const SOCKET_STAMPED: u32 = 0;
/// Redirected to the IPv4 listener.
pub const SOCKET_REDIRECTED_V4: u32 = 4;
/// Redirected to the IPv6 listener.
pub const SOCKET_REDIRECTED_V6: u32 = 6;
/// The agent's listener: it alone can say so, and no connection is redirected to any other.
pub const SOCKET_LISTENS: u32 = 1;

/// Key of the flow map: a redirected connection as the listener will see it.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FlowKey {
    /// Cookie of the network namespace (`SO_NETNS_COOKIE`).
    pub netns: u64,
    /// Source address; IPv4 as `::ffff:a.b.c.d`.
    pub address: [u32; 4],
    /// Source port, host byte order.
    pub port: u32,
    /// 4 or 6: the listener it goes to.
    pub listener: u32,
}

/// Value of the flow map: who connects, and where to.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flow {
    /// The job.
    pub job: u64,
    /// Lineage node of the connecting process.
    pub node: u64,
    /// Monotonic time of the connect, nanoseconds.
    pub time_ns: u64,
    /// Its tgid.
    pub tgid: u32,
    /// Its user id.
    pub uid: u32,
    /// Original destination: address; IPv4 as `::ffff:a.b.c.d`.
    pub address: [u32; 4],
    /// Original destination: port, host byte order.
    pub port: u32,
    /// Keeps the layout free of implicit padding.
    pub reserved: u32,
}

/// Value of the listener map, keyed by network namespace cookie.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Listener {
    /// Port on 127.0.0.1; 0 when there is none.
    pub port_v4: u16,
    /// Port on ::1; 0 when there is none.
    pub port_v6: u16,
}

/// Key of the resolver map: a datagram destination that jobs may use.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Datagram {
    /// Address; IPv4 as `::ffff:a.b.c.d`.
    pub address: [u32; 4],
    /// Port, host byte order.
    pub port: u32,
}

/// Value of the map of unidentified jobs, keyed by job: one that a rule began, and that has shown no token.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unidentified {
    /// The rule's name, ended by NUL.
    pub rule: [u8; RULE_NAME_BYTES],
    /// Its root process.
    pub tgid: u32,
    /// [`NODE_RECORDED`]: the trail holds its beginning.
    pub flags: u32,
}

/// Where the kernel side puts keys together: larger than fits its stack.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct RuleKeys {
    /// Name of an executable or a cgroup, the rest zero.
    pub name: [u8; FILE_NAME_BYTES],
    /// Path of one, the rest zero.
    pub path: [u8; RULE_PATH_BYTES],
}

/// There are rules that mean users.
pub const RULE_BY_UID: u32 = 1;
/// There are rules that mean cgroups.
pub const RULE_BY_CGROUP: u32 = 2;
/// There are rules that mean executables.
pub const RULE_BY_EXE: u32 = 4;

/// What the ring carries: news that something in the maps has changed. It wakes; the maps are the truth.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event {
    /// An [`EventKind`] as a number.
    pub kind: u32,
    /// The process's tgid.
    pub tgid: u32,
    /// Its job.
    pub job: u64,
    /// Its node after the event.
    pub node: u64,
    /// Its node before an exec; a [`Refusal`] for a refusal; 0 otherwise.
    pub detail: u64,
    /// Destination of a refused connection or datagram; IPv4 as `::ffff:a.b.c.d`.
    pub address: [u32; 4],
    /// Port of that destination.
    pub port: u32,
    /// Keeps the layout free of implicit padding.
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
    /// The last thread of a followed process is gone.
    Exit = 3,
    /// A socket, connect or datagram was refused in the kernel; `detail` is a [`Refusal`].
    Refused = 4,
    /// A rule began a job; `tgid` is its root.
    Enrol = 5,
}

/// Why the kernel side refused something; also the index of its counter in the statistics map.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// A socket kind that connects past the redirect: raw, ICMP, SCTP, MPTCP, UDP-Lite…
    SocketKind = 0,
    /// UDP to a destination that is no declared resolver.
    Datagram = 1,
    /// No listener of a live agent in this network namespace.
    NoListener = 2,
    /// The agent's lease has lapsed: it is down or stuck.
    NoLease = 3,
    /// The socket's storage could not be made.
    NoStorage = 4,
}

/// Counters of the statistics map; indices follow those of [`Refusal`].
pub mod stat {
    /// Ring buffer full: events not delivered (the maps still hold what they told of).
    pub const EVENTS_LOST: u32 = 5;
    /// Flow map full: the connection will be closed as not redirected.
    pub const FLOWS_FULL: u32 = 6;
    /// Node or image map full: the process can't be attributed, so its traffic is denied.
    pub const NODES_FULL: u32 = 7;
    /// Processes killed at the bound of followed processes.
    pub const TASKS_FULL: u32 = 8;
    /// Connections redirected.
    pub const REDIRECTED: u32 = 9;
    /// Connections to a listener of the same job, let through.
    pub const OWN_LISTENER: u32 = 10;
    /// Map of unidentified jobs full: the job's processes are granted nothing.
    pub const UNIDENTIFIED_FULL: u32 = 11;
    /// Map of cgroups full: what executes in the new one is followed only if it descends from what is.
    pub const CGROUPS_FULL: u32 = 12;
    /// A job's share of nodes or images is taken: the process can't be attributed, so its traffic is denied.
    pub const SHARE_FULL: u32 = 13;
    /// How many counters there are.
    pub const COUNT: u32 = 14;
}

/// Words of the shared state map.
pub mod word {
    /// Monotonic nanoseconds until which the agent's lease holds.
    pub const LEASE: u32 = 0;
    /// Next node or image id; the kernel side hands out even ones.
    pub const NEXT_ID: u32 = 1;
    /// Followed processes alive.
    pub const TASKS: u32 = 2;
    /// How many words there are.
    pub const COUNT: u32 = 3;
}

/// An IPv4 address in network byte order as `::ffff:a.b.c.d` in network byte order words.
#[inline]
pub const fn mapped(v4: u32) -> [u32; 4] {
    [0, 0, 0x0000_ffffu32.to_be(), v4]
}

plain_data!(
    TaskTag,
    Node,
    JobUse,
    JobWord,
    Image,
    SocketTag,
    FlowKey,
    Flow,
    Listener,
    Datagram,
    Unidentified,
    Event
);

#[cfg(test)]
mod tests {
    use core::mem::offset_of;

    use super::*;

    /// An agent adopts pinned maps of its own layout's version without another look: whoever changes what they hold has to
    /// raise [`LAYOUT`], and to write down here what it is now.
    #[test]
    fn pinned_maps_hold_what_their_version_says() {
        let tags = [size_of::<TaskTag>(), offset_of!(TaskTag, image), offset_of!(TaskTag, execs)];
        let nodes = [size_of::<Node>(), offset_of!(Node, image), offset_of!(Node, flags)];
        let images = [size_of::<Image>(), offset_of!(Image, exe), offset_of!(Image, argv)];
        let sockets = [size_of::<SocketTag>(), offset_of!(SocketTag, state), offset_of!(SocketTag, address)];
        let begun =
            [size_of::<Unidentified>(), offset_of!(Unidentified, tgid), offset_of!(Unidentified, flags)];
        let jobs = [size_of::<JobUse>(), size_of::<JobWord>(), offset_of!(JobWord, flags)];
        let words = [MARKS_WORDS, word::COUNT, stat::COUNT].map(|count| count as usize);
        assert_eq!(
            (LAYOUT, [tags, nodes, images, sockets, begun, jobs, words]),
            (
                4,
                [
                    [40, 16, 32],
                    [40, 16, 32],
                    [3_344, 16, 1_296],
                    [48, 24, 32],
                    [40, 32, 36],
                    [16, 24, 16],
                    [65_536, 3, 14]
                ]
            )
        );
    }
}
