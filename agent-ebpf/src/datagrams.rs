//! UDP of followed processes, as calls name its destinations: allowed to a declared resolver, left to
//! `egress` where it may stay on this host, refused otherwise.
//!
//! A connect sends nothing. Programs connect to learn which source address the routes give, so a connect is
//! let through where `egress` judges what the socket sends from then on.

use agent_abi::{Datagram, Refusal, SOCKET_ROAMS, SOCKET_SEEN, TaskTag, mapped};
use aya_ebpf::{bindings::bpf_sock_addr, macros::cgroup_sock_addr, programs::SockAddrContext};

use crate::{
    calls::{ALLOW, address_v6, is_loopback, is_unspecified, port_of, refuse, sender},
    maps::RESOLVERS,
    packets::Ends,
    receivers::receiver,
    shares::is_shut_off,
    stamps::socket_tag,
    tags::current_tgid,
    words::lease_holds,
};

/// `sendto` and `sendmsg` on an unconnected IPv4 UDP socket.
#[cgroup_sock_addr(sendmsg4)]
pub fn lineal_sendmsg4(ctx: SockAddrContext) -> i32 {
    let Some(tag) = sender(&ctx) else { return ALLOW };
    // SAFETY: the context's own field.
    let address = mapped(unsafe { (*ctx.sock_addr).user_ip4 });
    send(ctx.sock_addr, &tag, address)
}

/// `sendto` and `sendmsg` on an unconnected IPv6 UDP socket, v4-mapped destinations included.
#[cgroup_sock_addr(sendmsg6)]
pub fn lineal_sendmsg6(ctx: SockAddrContext) -> i32 {
    let Some(tag) = sender(&ctx) else { return ALLOW };
    let address = address_v6(&ctx);
    send(ctx.sock_addr, &tag, address)
}

/// Allows a datagram to a declared resolver. One that may stay on this host is left to `egress`; any other is
/// refused.
#[inline(always)]
fn send(context: *mut bpf_sock_addr, tag: &TaskTag, address: [u32; 4]) -> i32 {
    let port = port_of(context);
    if !lease_holds() {
        return refuse(Refusal::NoLease, tag, current_tgid(), address, port);
    }
    if is_resolver(tag, address, port) || may_stay(context, tag, address, port) && roam(context) {
        return ALLOW;
    }
    refuse(Refusal::Datagram, tag, current_tgid(), address, port)
}

/// Lets a UDP socket's connect through, if a job has made the socket. A socket made outside every job is
/// somebody else's, too: it may only be connected to a declared resolver.
#[inline(always)]
pub fn connect(context: *mut bpf_sock_addr, tag: &TaskTag, address: [u32; 4]) -> i32 {
    let port = port_of(context);
    if !lease_holds() {
        return refuse(Refusal::NoLease, tag, current_tgid(), address, port);
    }
    if is_resolver(tag, address, port) || roam(context) {
        return ALLOW;
    }
    refuse(Refusal::Datagram, tag, current_tgid(), address, port)
}

/// Whether a datagram may be one to a socket of its own job: the job would receive it, or it is to a loopback
/// address where nobody would. A socket at 0.0.0.0 or :: is found at every address, those of other hosts
/// included.
#[inline(always)]
fn may_stay(context: *mut bpf_sock_addr, tag: &TaskTag, address: [u32; 4], port: u32) -> bool {
    if is_unspecified(&address) {
        return true;
    }
    // SAFETY: the context's own field, and the socket's; the verifier demands the null check.
    let source_port = unsafe {
        let sk = (*context).__bindgen_anon_1.sk;
        if sk.is_null() {
            return false;
        }
        ((*sk).src_port as u16).to_be()
    };
    // What goes to one of the host's own addresses comes from the same address.
    let destination_port = (port as u16).to_be();
    let ends = Ends { source: address, destination: address, source_port, destination_port };
    receiver(context.cast(), &ends).map_or(is_loopback(&address), |job| job == tag.job)
}

/// Whether a job may send to this address and port (host byte order), because a resolver is declared there.
#[inline(always)]
pub fn is_resolver(tag: &TaskTag, address: [u32; 4], port: u32) -> bool {
    // SAFETY: only presence is asked.
    unsafe { RESOLVERS.get(Datagram { address, port }) }.is_some() && !is_shut_off(tag.job)
}

/// Leaves a socket's datagrams to `egress`, each to be judged by its own headers; false if `egress` doesn't
/// see them, or no job has made the socket. It stays so whatever the socket is connected to later: another
/// thread may be sending meanwhile.
#[inline(always)]
fn roam(context: *mut bpf_sock_addr) -> bool {
    // SAFETY: the context's own field; the verifier demands the null check below.
    let sk = unsafe { (*context).__bindgen_anon_1.sk };
    if sk.is_null() {
        return false;
    }
    // SAFETY: null or this socket's storage.
    match unsafe { socket_tag(sk).as_mut() } {
        Some(storage) if storage.flags & SOCKET_SEEN != 0 => {
            storage.state = SOCKET_ROAMS;
            true
        }
        _ => false,
    }
}
