//! Sends the TCP connections of followed processes to the agent's listener in their network namespace.
//!
//! The original destination is kept in the socket's storage at connect and published, keyed by the
//! connection's source, before the SYN leaves: it is there before the agent can accept. What can't be
//! redirected is refused.

use agent_abi::{
    Flow, FlowKey, Refusal, SOCKET_LISTENS, SOCKET_REDIRECTED_V4, SOCKET_REDIRECTED_V6, SOCKET_STAMPED,
    SocketTag, TaskTag, mapped, stat,
};
use aya_ebpf::{
    bindings::{BPF_ANY, BPF_SOCK_OPS_TCP_CONNECT_CB, bpf_sock_addr, bpf_sock_tuple},
    helpers::{
        bpf_get_current_uid_gid, bpf_ktime_get_ns,
        generated::{bpf_get_netns_cookie, bpf_set_retval, bpf_sk_lookup_tcp, bpf_sk_release},
    },
    macros::{cgroup_sock_addr, sock_ops},
    programs::{SockAddrContext, SockOpsContext},
};

use crate::{
    datagrams,
    maps::{
        FLOWS, LISTENERS, count, current_tgid, lease_holds, refused, socket_tag, socket_tag_or_insert,
        stamped, tag_of,
    },
};

/// What a `cgroup/sock_addr` program answers to let the call go on.
pub const ALLOW: i32 = 1;
const REFUSE: i32 = 0;

const SOCK_STREAM: u32 = 1;
const ECONNREFUSED: i32 = 111;
const LOOPBACK_V4: u32 = u32::from_be_bytes([127, 0, 0, 1]).to_be();
const LOOPBACK_V6: [u32; 4] = [0, 0, 0, 1u32.to_be()];
const MAPPED_PREFIX: [u32; 3] = [0, 0, 0x0000_ffffu32.to_be()];
const CURRENT_NETNS: u64 = u64::MAX; // BPF_F_CURRENT_NETNS

/// `connect` on an IPv4 socket.
#[cgroup_sock_addr(connect4)]
pub fn lineal_connect4(ctx: SockAddrContext) -> i32 {
    let Some(tag) = sender(&ctx) else { return ALLOW };
    let context = ctx.sock_addr;
    // SAFETY: the context's own fields.
    let (kind, address) = unsafe { ((*context).type_, (*context).user_ip4) };
    if kind != SOCK_STREAM {
        return datagrams::judge(context, &tag, mapped(address));
    }
    redirect(&ctx, &tag, mapped(address), Via::V4)
}

/// `connect` on an IPv6 socket; v4-mapped destinations arrive here only.
#[cgroup_sock_addr(connect6)]
pub fn lineal_connect6(ctx: SockAddrContext) -> i32 {
    let Some(tag) = sender(&ctx) else { return ALLOW };
    let context = ctx.sock_addr;
    // SAFETY: the context's own field.
    let kind = unsafe { (*context).type_ };
    let address = address_v6(&ctx);
    if kind != SOCK_STREAM {
        return datagrams::judge(context, &tag, address);
    }
    let via = if is_mapped(&address) { Via::Mapped } else { Via::V6 };
    redirect(&ctx, &tag, address, via)
}

/// How a redirected socket reaches the listener.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Via {
    V4,
    Mapped,
    V6,
}

#[inline(always)]
fn redirect(ctx: &SockAddrContext, tag: &TaskTag, address: [u32; 4], via: Via) -> i32 {
    let context = ctx.sock_addr;
    let tgid = current_tgid();
    let port = port_of(context);
    // SAFETY: the context's own field; the verifier demands the null check below.
    let sk = unsafe { (*context).__bindgen_anon_1.sk };
    let mut fresh = SocketTag {
        job: tag.job,
        node: tag.node,
        tgid,
        uid: 0,
        state: SOCKET_STAMPED,
        port: 0,
        address: [0; 4],
    };
    if sk.is_null() {
        refused(Refusal::NoStorage, tag, tgid, address, port);
        return deny();
    }
    let storage = socket_tag_or_insert(sk, &mut fresh);
    if storage.is_null() {
        refused(Refusal::NoStorage, tag, tgid, address, port);
        return deny();
    }
    // SAFETY: checked above; the storage belongs to this socket, whose connect holds its lock.
    let storage = unsafe { &mut *storage };
    // A socket may be connected again: what an earlier connect left must not be published.
    storage.state = SOCKET_STAMPED;
    if !lease_holds() {
        refused(Refusal::NoLease, tag, tgid, address, port);
        return deny();
    }
    if owned_by_same_job(ctx, tag, &address, port) {
        count(stat::OWN_LISTENER);
        if is_unspecified(&address) {
            // The kernel would take the address that the socket is bound to: another than was looked at.
            go_to_loopback(context, via);
        }
        return ALLOW;
    }
    // SAFETY: plain helper on this program's own context.
    let netns = unsafe { bpf_get_netns_cookie(context.cast()) };
    // SAFETY: a copy; the agent replaces entries whole.
    let Some(listener) = unsafe { LISTENERS.get(netns) }.copied() else {
        refused(Refusal::NoListener, tag, tgid, address, port);
        return deny();
    };
    let listener_port = if via == Via::V6 { listener.port_v6 } else { listener.port_v4 };
    if listener_port == 0 || !listens(ctx, via, listener_port) {
        refused(Refusal::NoListener, tag, tgid, address, port);
        return deny();
    }
    storage.job = tag.job;
    storage.node = tag.node;
    storage.tgid = tgid;
    storage.uid = bpf_get_current_uid_gid() as u32;
    storage.address = address;
    storage.port = port;
    storage.state = if via == Via::V6 { SOCKET_REDIRECTED_V6 } else { SOCKET_REDIRECTED_V4 };
    go_to_loopback(context, via);
    // SAFETY: the context's own field, written as one word.
    unsafe { (&raw mut (*context).user_port).write_volatile(u32::from(listener_port.to_be())) };
    count(stat::REDIRECTED);
    ALLOW
}

/// Has the connection go to 127.0.0.1 or ::1.
#[inline(always)]
fn go_to_loopback(context: *mut bpf_sock_addr, via: Via) {
    // SAFETY: the context's own fields, each written as one word.
    unsafe {
        match via {
            Via::V4 => (&raw mut (*context).user_ip4).write_volatile(LOOPBACK_V4),
            Via::Mapped => (&raw mut (*context).user_ip6[3]).write_volatile(LOOPBACK_V4),
            Via::V6 => {
                (&raw mut (*context).user_ip6[0]).write_volatile(LOOPBACK_V6[0]);
                (&raw mut (*context).user_ip6[1]).write_volatile(LOOPBACK_V6[1]);
                (&raw mut (*context).user_ip6[2]).write_volatile(LOOPBACK_V6[2]);
                (&raw mut (*context).user_ip6[3]).write_volatile(LOOPBACK_V6[3]);
            }
        }
    }
}

/// Publishes a redirected connection before its SYN leaves.
#[sock_ops]
pub fn lineal_publish(ctx: SockOpsContext) -> u32 {
    if ctx.op() != BPF_SOCK_OPS_TCP_CONNECT_CB {
        return 1;
    }
    let ops = ctx.ops;
    // Each field is read once, before any branch on the family: the verifier refuses a moved context pointer.
    // SAFETY: the context's own fields.
    let (sk, local_ip4, port, a, b, c, d) = unsafe {
        (
            (*ops).__bindgen_anon_2.sk,
            (&raw const (*ops).local_ip4).read_volatile(),
            (&raw const (*ops).local_port).read_volatile(),
            (&raw const (*ops).local_ip6[0]).read_volatile(),
            (&raw const (*ops).local_ip6[1]).read_volatile(),
            (&raw const (*ops).local_ip6[2]).read_volatile(),
            (&raw const (*ops).local_ip6[3]).read_volatile(),
        )
    };
    if sk.is_null() {
        return 1;
    }
    let storage = socket_tag(sk);
    if storage.is_null() {
        return 1;
    }
    // SAFETY: checked above; connect holds the socket's lock.
    let tag = unsafe { &*storage };
    let (address, listener) = match tag.state {
        SOCKET_REDIRECTED_V4 => (mapped(local_ip4), 4),
        SOCKET_REDIRECTED_V6 => ([a, b, c, d], 6),
        _ => return 1,
    };
    // SAFETY: plain helpers on this program's own context.
    let (netns, time_ns) = unsafe { (bpf_get_netns_cookie(ops.cast()), bpf_ktime_get_ns()) };
    let key = FlowKey { netns, address, port, listener };
    let flow = Flow {
        job: tag.job,
        node: tag.node,
        time_ns,
        tgid: tag.tgid,
        uid: tag.uid,
        address: tag.address,
        port: tag.port,
        reserved: 0,
    };
    if FLOWS.insert(key, flow, BPF_ANY.into()).is_err() {
        count(stat::FLOWS_FULL); // The agent closes a connection that it finds no flow for.
    }
    1
}

/// `getpeername` on an IPv4 socket shows where the job meant to go.
#[cgroup_sock_addr(getpeername4)]
pub fn lineal_getpeername4(ctx: SockAddrContext) -> i32 {
    if let Some(tag) = redirected(&ctx) {
        // SAFETY: the context's own fields.
        unsafe {
            (&raw mut (*ctx.sock_addr).user_ip4).write_volatile(tag.address[3]);
            (&raw mut (*ctx.sock_addr).user_port).write_volatile(u32::from((tag.port as u16).to_be()));
        }
    }
    ALLOW
}

/// The same for IPv6, v4-mapped peers included.
#[cgroup_sock_addr(getpeername6)]
pub fn lineal_getpeername6(ctx: SockAddrContext) -> i32 {
    if let Some(tag) = redirected(&ctx) {
        // SAFETY: the context's own fields.
        unsafe {
            (&raw mut (*ctx.sock_addr).user_ip6[0]).write_volatile(tag.address[0]);
            (&raw mut (*ctx.sock_addr).user_ip6[1]).write_volatile(tag.address[1]);
            (&raw mut (*ctx.sock_addr).user_ip6[2]).write_volatile(tag.address[2]);
            (&raw mut (*ctx.sock_addr).user_ip6[3]).write_volatile(tag.address[3]);
            (&raw mut (*ctx.sock_addr).user_port).write_volatile(u32::from((tag.port as u16).to_be()));
        }
    }
    ALLOW
}

/// The tag that a call on a socket runs under: the current process's, else the one the socket was made with.
#[inline(always)]
pub fn sender(ctx: &SockAddrContext) -> Option<TaskTag> {
    if let Some(tag) = tag_of(current_tgid()) {
        return Some(tag);
    }
    // SAFETY: the context's own field.
    stamped(unsafe { (*ctx.sock_addr).__bindgen_anon_1.sk })
}

#[inline(always)]
fn redirected(ctx: &SockAddrContext) -> Option<&'static SocketTag> {
    stored(ctx).filter(|tag| matches!(tag.state, SOCKET_REDIRECTED_V4 | SOCKET_REDIRECTED_V6))
}

#[inline(always)]
fn stored(ctx: &SockAddrContext) -> Option<&'static SocketTag> {
    // SAFETY: the context's own field.
    let sk = unsafe { (*ctx.sock_addr).__bindgen_anon_1.sk };
    if sk.is_null() {
        return None;
    }
    // SAFETY: null or this socket's storage.
    unsafe { socket_tag(sk).as_ref() }
}

/// Refuses with ECONNREFUSED rather than EPERM: clients know what to do about that.
#[inline(always)]
pub fn deny() -> i32 {
    // SAFETY: plain helper.
    let _ = unsafe { bpf_set_retval(-ECONNREFUSED) };
    REFUSE
}

/// Destination port, host byte order.
#[inline(always)]
pub fn port_of(context: *mut bpf_sock_addr) -> u32 {
    // SAFETY: the context's own field.
    let port = unsafe { (&raw const (*context).user_port).read_volatile() };
    u32::from(u16::from_be(port as u16))
}

/// Destination address of an IPv6 call.
#[inline(always)]
pub fn address_v6(ctx: &SockAddrContext) -> [u32; 4] {
    // SAFETY: the context's own fields, each read as one word.
    unsafe {
        [
            (&raw const (*ctx.sock_addr).user_ip6[0]).read_volatile(),
            (&raw const (*ctx.sock_addr).user_ip6[1]).read_volatile(),
            (&raw const (*ctx.sock_addr).user_ip6[2]).read_volatile(),
            (&raw const (*ctx.sock_addr).user_ip6[3]).read_volatile(),
        ]
    }
}

#[inline(always)]
fn is_mapped(address: &[u32; 4]) -> bool {
    address[0] == MAPPED_PREFIX[0] && address[1] == MAPPED_PREFIX[1] && address[2] == MAPPED_PREFIX[2]
}

/// Whether it is 0.0.0.0, mapped or not, or ::.
#[inline(always)]
fn is_unspecified(address: &[u32; 4]) -> bool {
    address[3] == 0 && (is_mapped(address) || address[0] == 0 && address[1] == 0 && address[2] == 0)
}

/// Whether the destination is a loopback listener that a process of the same job made: talking to oneself
/// leaves no host and needs no policy. A listener made outside the job may forward anywhere.
#[inline(always)]
fn owned_by_same_job(ctx: &SockAddrContext, tag: &TaskTag, address: &[u32; 4], port: u32) -> bool {
    let loopback = if is_mapped(address) {
        u32::from_be(address[3]) >> 24 == 127 || address[3] == 0
    } else {
        address[0] == 0
            && address[1] == 0
            && address[2] == 0
            && (address[3] == 0 || address[3] == LOOPBACK_V6[3])
    };
    if !loopback {
        return false;
    }
    let v4 = if address[3] == 0 { LOOPBACK_V4 } else { address[3] };
    let at = if is_mapped(address) { Some(v4) } else { None };
    listener_at(ctx, at, port).is_some_and(|(job, _)| job == tag.job)
}

/// Whether the agent itself listens there: a dead one's port may be anybody's.
#[inline(always)]
fn listens(ctx: &SockAddrContext, via: Via, port: u16) -> bool {
    let at = if via == Via::V6 { None } else { Some(LOOPBACK_V4) };
    listener_at(ctx, at, port.into()).is_some_and(|(_, state)| state == SOCKET_LISTENS)
}

/// Job and state in the storage of the socket that listens at an IPv4 address, or else at ::1.
#[inline(always)]
fn listener_at(ctx: &SockAddrContext, v4: Option<u32>, port: u32) -> Option<(u64, u32)> {
    // SAFETY: an all-zero tuple is a valid one.
    let mut tuple: bpf_sock_tuple = unsafe { core::mem::zeroed() };
    let size = if let Some(address) = v4 {
        // SAFETY: plain integers.
        let v4 = unsafe { &mut tuple.__bindgen_anon_1.ipv4 };
        v4.daddr = address;
        v4.saddr = LOOPBACK_V4;
        v4.dport = (port as u16).to_be();
        12
    } else {
        // SAFETY: plain integers.
        let v6 = unsafe { &mut tuple.__bindgen_anon_1.ipv6 };
        v6.daddr = LOOPBACK_V6;
        v6.saddr = LOOPBACK_V6;
        v6.dport = (port as u16).to_be();
        36
    };
    // SAFETY: the verifier demands the null checks and the release.
    unsafe {
        let found = bpf_sk_lookup_tcp(ctx.sock_addr.cast(), &mut tuple, size, CURRENT_NETNS, 0);
        if found.is_null() {
            return None;
        }
        let storage = socket_tag(found);
        let answer = if storage.is_null() { (0, SOCKET_STAMPED) } else { ((*storage).job, (*storage).state) };
        bpf_sk_release(found.cast());
        Some(answer)
    }
}
