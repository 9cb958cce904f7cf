//! Looks up which socket listens at a loopback address, and whose it is.

use agent_abi::{SOCKET_LISTENS, SOCKET_STAMPED, TaskTag};
use aya_ebpf::{
    bindings::bpf_sock_tuple,
    helpers::generated::{bpf_sk_lookup_tcp, bpf_sk_release},
    programs::SockAddrContext,
};

use crate::{
    calls::{LOOPBACK_V4, LOOPBACK_V6, is_mapped},
    stamps::socket_tag,
};

const CURRENT_NETNS: u64 = u64::MAX; // BPF_F_CURRENT_NETNS

/// What a connection to an address would find.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Found {
    /// A listener at a loopback address that a process of the caller's own job made. A connection within a
    /// job does not leave the host and needs no policy.
    OwnListener,
    /// Nothing: no socket listens at this loopback address.
    Nothing,
    /// Anything else. A listener that was made outside the job may forward anywhere.
    Other,
}

/// What a connection of the job that `tag` names would find. 0.0.0.0 and :: count as 127.0.0.1 and ::1.
#[inline(always)]
pub fn find(ctx: &SockAddrContext, tag: &TaskTag, address: &[u32; 4], port: u32) -> Found {
    let loopback = if is_mapped(address) {
        u32::from_be(address[3]) >> 24 == 127 || address[3] == 0
    } else {
        address[0] == 0
            && address[1] == 0
            && address[2] == 0
            && (address[3] == 0 || address[3] == LOOPBACK_V6[3])
    };
    if !loopback {
        return Found::Other;
    }
    let v4 = if address[3] == 0 { LOOPBACK_V4 } else { address[3] };
    let at = if is_mapped(address) { Some(v4) } else { None };
    match listener_at(ctx, at, port) {
        None => Found::Nothing,
        Some((job, _)) if job == tag.job => Found::OwnListener,
        Some(_) => Found::Other,
    }
}

/// Whether the agent itself listens at this port (host byte order) now: on 127.0.0.1 if `v4`, otherwise on
/// ::1. The map of listeners does not tell: when an agent has ended, any process may take the port.
#[inline(always)]
pub fn agent_listens(ctx: &SockAddrContext, v4: bool, port: u16) -> bool {
    let at = if v4 { Some(LOOPBACK_V4) } else { None };
    listener_at(ctx, at, port.into()).is_some_and(|(_, state)| state == SOCKET_LISTENS)
}

/// The job and state in the storage of the socket that listens at `port` (host byte order) of the IPv4
/// address `v4`, or of ::1 if `v4` is `None`. A socket without storage has job 0, which is no job. `None` if
/// nothing listens there.
#[inline(always)]
fn listener_at(ctx: &SockAddrContext, v4: Option<u32>, port: u32) -> Option<(u64, u32)> {
    // SAFETY: an all-zero tuple is a valid one.
    let mut tuple: bpf_sock_tuple = unsafe { core::mem::zeroed() };
    // The size tells the helper the address family (bpf-helpers(7), bpf_sk_lookup_tcp). The source port stays
    // 0, which no connection has: only a listener is found.
    let size = if let Some(address) = v4 {
        // SAFETY: both members of the union are plain integers.
        let v4 = unsafe { &mut tuple.__bindgen_anon_1.ipv4 };
        v4.daddr = address;
        v4.saddr = LOOPBACK_V4;
        v4.dport = (port as u16).to_be();
        12
    } else {
        // SAFETY: both members of the union are plain integers.
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
