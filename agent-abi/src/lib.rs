//! The layout of every map and event that the eBPF programs and the agent share.
//!
//! Each type is `#[repr(C)]`, contains only integers and arrays of integers, and spells out its padding, so
//! that both sides read the same bytes alike. Nothing here may allocate or use the standard library, because
//! eBPF programs can do neither. A change of any layout raises [`LAYOUT`].
//!
//! Here *kernel side* means the eBPF programs of `agent-ebpf`; *the agent* means the user-space
//! process. Unless a field says otherwise:
//! - numbers are in host byte order, ports included; the words of an address are in network byte order;
//! - process ids are thread group ids (tgid) in the initial PID namespace, user ids in the initial user
//!   namespace;
//! - times are `CLOCK_MONOTONIC` nanoseconds;
//! - ids of jobs, nodes and images are never 0, so that 0 can say "none".

#![cfg_attr(not(test), no_std)]

/// Marks types as plain data for aya's user-space maps.
macro_rules! plain_data {
    ($($name:ident),* $(,)?) => {$(
        #[cfg(feature = "user")]
        #[allow(unsafe_code, reason = "aya's marker for types that are plain bytes")]
        // SAFETY: repr(C), Copy, integers and arrays of integers only, without implicit padding.
        unsafe impl aya::Pod for $name {}
    )*};
}

pub mod capacity;
mod enrolment;
mod events;
mod lineage;
mod sockets;

pub use enrolment::{
    FILE_NAME_BYTES, RULE_BY_CGROUP, RULE_BY_EXE, RULE_BY_UID, RULE_NAME_BYTES, RULE_PATH_BYTES, RULES_MAX,
    RuleKeys, Unidentified,
};
pub use events::{EVENTS_BYTES, Event, EventKind, Refusal, stat, word};
pub use lineage::{
    ARGV_BYTES_MAX, EXE_BYTES_MAX, EXE_COMPONENTS_MAX, EXECS_UNKNOWN, IMAGE_ARGV_TRUNCATED,
    IMAGE_EXE_TRUNCATED, Image, JOB_SHUT_OFF, JobControl, JobUse, MARKS_WORDS, NAME_BYTES_MAX, NODE_RECORDED,
    Node, TaskTag,
};
pub use sockets::{
    Datagram, Flow, FlowKey, Listener, SOCKET_LISTENS, SOCKET_OWN, SOCKET_OWN_ANSWERED, SOCKET_REDIRECTED_V4,
    SOCKET_REDIRECTED_V6, SOCKET_ROAMS, SOCKET_SEEN, SOCKET_STAMPED, SocketTag, mapped,
};

/// Version of these layouts; pinned maps live in a directory that is named after this number.
pub const LAYOUT: u32 = 5;

/// Processes followed at once, over all jobs, unless the configuration says otherwise. Once there are so
/// many, a followed process that forks is killed, and so is a process that a rule would begin a job with.
pub const PROCESSES_MAX: u32 = 65_536;
/// Redirected connections that the agent has not accepted yet, unless the configuration says otherwise. The
/// agent closes further ones.
pub const FLOWS_MAX: u32 = 16_384;
/// Network namespaces that the agent serves at once, unless the configuration says otherwise. In a further
/// one every connection of a job is refused.
pub const NAMESPACES_MAX: u32 = 4_096;
/// Datagram destinations that jobs may send to.
pub const RESOLVERS_MAX: u32 = 64;

#[cfg(test)]
mod tests {
    use core::mem::offset_of;

    use super::*;

    /// An agent adopts the pinned maps of its own [`LAYOUT`] without looking at their contents. Whoever
    /// changes a layout has to raise [`LAYOUT`], and to write the new sizes and offsets down here.
    #[test]
    fn pinned_maps_hold_what_their_version_says() {
        let tags = [size_of::<TaskTag>(), offset_of!(TaskTag, image), offset_of!(TaskTag, execs)];
        let nodes = [size_of::<Node>(), offset_of!(Node, image), offset_of!(Node, flags)];
        let images = [size_of::<Image>(), offset_of!(Image, exe), offset_of!(Image, argv)];
        let sockets = [size_of::<SocketTag>(), offset_of!(SocketTag, state), offset_of!(SocketTag, address)];
        let unidentified =
            [size_of::<Unidentified>(), offset_of!(Unidentified, tgid), offset_of!(Unidentified, flags)];
        let jobs = [size_of::<JobUse>(), size_of::<JobControl>(), offset_of!(JobControl, flags)];
        let counts = [MARKS_WORDS, word::COUNT, stat::COUNT].map(|count| count as usize);
        assert_eq!(
            (LAYOUT, [tags, nodes, images, sockets, unidentified, jobs, counts]),
            (
                5,
                [
                    [40, 16, 32],
                    [40, 16, 32],
                    [3_344, 16, 1_296],
                    [56, 24, 32],
                    [40, 32, 36],
                    [16, 24, 16],
                    [65_536, 4, 15]
                ]
            )
        );
    }
}
