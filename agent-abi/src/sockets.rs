//! Sockets and connections of followed processes: who made a socket, where it was meant to go, and where it
//! is redirected.

/// Storage of a socket (map `SOCKETS`): who made it, and its original destination.
///
/// Written by the kernel side when a followed process creates or connects the socket; read by it when the
/// connection is published and at `getpeername`. The agent writes it for its own listeners only.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SocketTag {
    /// Job of the creating process, or of the connecting one once it has connected; 0 if there is none.
    pub job: u64,
    /// Lineage node of that process.
    pub node: u64,
    /// That process.
    pub tgid: u32,
    /// Its user id at connect; 0 before.
    pub uid: u32,
    /// One of the states below.
    pub state: u32,
    /// Port of the original destination, host byte order; valid in the two redirected states.
    pub port: u32,
    /// Address of the original destination, network byte order; IPv4 as `::ffff:a.b.c.d`. Valid in the two
    /// redirected states.
    pub address: [u32; 4],
    /// [`SOCKET_SEEN`] or 0.
    pub flags: u32,
    /// Always 0; keeps the layout free of implicit padding.
    pub reserved: u32,
}

/// Flag: a job has made the socket in a cgroup where the kernel side sees each packet that leaves.
pub const SOCKET_SEEN: u32 = 1;

/// State: made by a followed process, not redirected.
pub const SOCKET_STAMPED: u32 = 0;
/// State of a UDP socket: it has been connected, or has sent, to what is no resolver. Each of its datagrams
/// is judged by its own headers, for ever.
pub const SOCKET_ROAMS: u32 = 2;
/// State of a TCP socket: on its way to a listener of its own job; no other may answer it.
pub const SOCKET_OWN: u32 = 3;
/// State of a TCP socket: answered by a listener of its own job.
pub const SOCKET_OWN_ANSWERED: u32 = 5;
/// State: redirected to the IPv4 listener.
pub const SOCKET_REDIRECTED_V4: u32 = 4;
/// State: redirected to the IPv6 listener.
pub const SOCKET_REDIRECTED_V6: u32 = 6;
/// State: the agent's listener. The agent alone can write it, and no connection is redirected to a socket
/// without it.
pub const SOCKET_LISTENS: u32 = 1;

/// Key of the map `FLOWS`: a redirected connection as the agent's listener will see it.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FlowKey {
    /// Cookie of the network namespace (`SO_NETNS_COOKIE`).
    pub netns: u64,
    /// Source address, network byte order; IPv4 as `::ffff:a.b.c.d`.
    pub address: [u32; 4],
    /// Source port, host byte order.
    pub port: u32,
    /// Address family of the listener that it goes to: 4 or 6.
    pub listener: u32,
}

/// Value of the map `FLOWS`: who connects, and where to.
///
/// Written by the kernel side before the connection's SYN leaves. The agent reads and removes it when it
/// accepts the connection, and removes it when it has grown old.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flow {
    /// The job.
    pub job: u64,
    /// Lineage node of the connecting process.
    pub node: u64,
    /// When it connected.
    pub time_ns: u64,
    /// The connecting process.
    pub tgid: u32,
    /// Its user id.
    pub uid: u32,
    /// Address of the original destination, network byte order; IPv4 as `::ffff:a.b.c.d`.
    pub address: [u32; 4],
    /// Port of the original destination, host byte order.
    pub port: u32,
    /// Always 0; keeps the layout free of implicit padding.
    pub reserved: u32,
}

/// Value of the map `LISTENERS`, keyed by network namespace cookie (`u64`): the agent's ports there.
///
/// The agent alone writes it, whole entries at a time; the kernel side reads it at connect and bind.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Listener {
    /// Port on 127.0.0.1, host byte order; 0 when there is none.
    pub port_v4: u16,
    /// Port on ::1, host byte order; 0 when there is none.
    pub port_v6: u16,
}

/// Key of the map `RESOLVERS`: a datagram destination that jobs may send to. The values (`u8`) carry nothing.
///
/// The agent writes the map before the programs are attached; the kernel side reads it.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Datagram {
    /// Address, network byte order; IPv4 as `::ffff:a.b.c.d`.
    pub address: [u32; 4],
    /// Port, host byte order.
    pub port: u32,
}

/// An IPv4 address (network byte order) as `::ffff:a.b.c.d` (network byte order words).
#[inline]
pub const fn mapped(v4: u32) -> [u32; 4] {
    [0, 0, 0x0000_ffffu32.to_be(), v4]
}

plain_data!(SocketTag, FlowKey, Flow, Listener, Datagram);
