//! Looks up which socket listens at an address of this host, and whose it is.

use agent_abi::{SOCKET_LISTENS, SOCKET_STAMPED, TaskTag};
use aya_ebpf::{
    bindings::bpf_sock_tuple,
    helpers::generated::{bpf_bind, bpf_sk_lookup_tcp, bpf_sk_release},
    programs::SockAddrContext,
};

use crate::{
    calls::{CURRENT_NETNS, LOOPBACK_V4, LOOPBACK_V6, is_loopback, is_mapped, is_unspecified},
    stamps::socket_tag,
};

/// Address families (linux/socket.h).
const AF_INET: u32 = 2;
const AF_INET6: u32 = 10;

/// `struct sockaddr_in` (linux/in.h).
#[repr(C)]
struct SockaddrV4 {
    family: u16,
    port: u16,
    address: u32,
    rest: [u32; 2],
}

/// `struct sockaddr_in6` (linux/in6.h).
#[repr(C)]
struct SockaddrV6 {
    family: u16,
    port: u16,
    flow: u32,
    address: [u32; 4],
    scope: u32,
}

/// What a connection to an address would find.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Found {
    /// A listener at an address of this host that a process of the caller's own job made. A connection within
    /// a job does not leave the host and needs no policy.
    OwnListener,
    /// Nothing: no socket listens at this loopback address.
    Nothing,
    /// Anything else. A listener that was made outside the job may forward anywhere.
    Other,
}

/// What a connection of the job that `tag` names would find. 0.0.0.0 and :: count as 127.0.0.1 and ::1.
/// `seen` says whether `egress` sees the connection's packets: only then may it go to another address than
/// loopback.
#[inline(always)]
pub fn find(ctx: &SockAddrContext, tag: &TaskTag, address: &[u32; 4], port: u32, seen: bool) -> Found {
    if is_unspecified(address) || is_loopback(address) {
        let v4 = if address[3] == 0 { LOOPBACK_V4 } else { address[3] };
        let at = if is_mapped(address) { At::V4(v4) } else { At::V6(LOOPBACK_V6) };
        return match listener_at(ctx, &at, port) {
            None => Found::Nothing,
            Some((job, _)) if job == tag.job => Found::OwnListener,
            Some(_) => Found::Other,
        };
    }
    if !seen {
        return Found::Other;
    }
    // A listener at 0.0.0.0 or :: is found at every address, those of other hosts included.
    let at = if is_mapped(address) { At::V4(address[3]) } else { At::V6(*address) };
    let own = listener_at(ctx, &at, port).is_some_and(|(job, _)| job == tag.job);
    if own && is_of_this_host(ctx, address) { Found::OwnListener } else { Found::Other }
}

/// Where a socket may listen.
enum At {
    /// An IPv4 address.
    V4(u32),
    /// An IPv6 address.
    V6([u32; 4]),
}

/// Whether an address is this host's. The kernel binds a socket to no other, so the socket that connects is
/// bound to it: to the address that the route to it would give the socket anyway. A socket that is bound
/// already, or that may bind to foreign addresses, gets no useful answer; `egress` sees where it really goes.
#[inline(always)]
fn is_of_this_host(ctx: &SockAddrContext, address: &[u32; 4]) -> bool {
    // SAFETY: the context's own fields; the helper reads an address of the length given.
    unsafe {
        let context = ctx.sock_addr;
        let sk = (*context).__bindgen_anon_1.sk;
        if sk.is_null() || (*sk).src_port != 0 {
            return false;
        }
        if (*context).family == AF_INET {
            let mut name = SockaddrV4 { family: AF_INET as u16, port: 0, address: address[3], rest: [0; 2] };
            bpf_bind(context, (&raw mut name).cast(), size_of::<SockaddrV4>() as i32) == 0
        } else {
            let mut name =
                SockaddrV6 { family: AF_INET6 as u16, port: 0, flow: 0, address: *address, scope: 0 };
            bpf_bind(context, (&raw mut name).cast(), size_of::<SockaddrV6>() as i32) == 0
        }
    }
}

/// Whether the agent itself listens at this port (host byte order) now: on 127.0.0.1 if `v4`, otherwise on
/// ::1. The map of listeners does not tell: when an agent has ended, any process may take the port.
#[inline(always)]
pub fn agent_listens(ctx: &SockAddrContext, v4: bool, port: u16) -> bool {
    let at = if v4 { At::V4(LOOPBACK_V4) } else { At::V6(LOOPBACK_V6) };
    listener_at(ctx, &at, port.into()).is_some_and(|(_, state)| state == SOCKET_LISTENS)
}

/// The job and state in the storage of the socket that listens at `port` (host byte order) of an address. A
/// socket without storage has job 0, which is no job. `None` if nothing listens there.
#[inline(always)]
fn listener_at(ctx: &SockAddrContext, at: &At, port: u32) -> Option<(u64, u32)> {
    // SAFETY: an all-zero tuple is a valid one.
    let mut tuple: bpf_sock_tuple = unsafe { core::mem::zeroed() };
    // The size tells the helper the address family (bpf-helpers(7), bpf_sk_lookup_tcp). The source port stays
    // 0, which no connection has: only a listener is found.
    let size = match at {
        At::V4(address) => {
            // SAFETY: both members of the union are plain integers.
            let v4 = unsafe { &mut tuple.__bindgen_anon_1.ipv4 };
            v4.daddr = *address;
            v4.saddr = LOOPBACK_V4;
            v4.dport = (port as u16).to_be();
            12
        }
        At::V6(address) => {
            // SAFETY: both members of the union are plain integers.
            let v6 = unsafe { &mut tuple.__bindgen_anon_1.ipv6 };
            v6.daddr = *address;
            v6.saddr = LOOPBACK_V6;
            v6.dport = (port as u16).to_be();
            36
        }
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
