//! UDP of followed processes: allowed to a declared resolver, refused otherwise.

use agent_abi::{Datagram, Refusal, TaskTag, mapped};
use aya_ebpf::{bindings::bpf_sock_addr, macros::cgroup_sock_addr, programs::SockAddrContext};

use crate::{
    calls::{ALLOW, address_v6, port_of, refuse, sender},
    maps::RESOLVERS,
    shares::is_shut_off,
    tags::current_tgid,
    words::lease_holds,
};

/// `sendto` and `sendmsg` on an unconnected IPv4 UDP socket.
#[cgroup_sock_addr(sendmsg4)]
pub fn lineal_sendmsg4(ctx: SockAddrContext) -> i32 {
    let Some(tag) = sender(&ctx) else { return ALLOW };
    // SAFETY: the context's own field.
    let address = mapped(unsafe { (*ctx.sock_addr).user_ip4 });
    judge(ctx.sock_addr, &tag, address)
}

/// `sendto` and `sendmsg` on an unconnected IPv6 UDP socket, v4-mapped destinations included.
#[cgroup_sock_addr(sendmsg6)]
pub fn lineal_sendmsg6(ctx: SockAddrContext) -> i32 {
    let Some(tag) = sender(&ctx) else { return ALLOW };
    let address = address_v6(&ctx);
    judge(ctx.sock_addr, &tag, address)
}

/// Allows a datagram, or a UDP socket's connect, to a declared resolver while the agent's lease holds and the
/// job is not shut off; refuses every other.
#[inline(always)]
pub fn judge(context: *mut bpf_sock_addr, tag: &TaskTag, address: [u32; 4]) -> i32 {
    let port = port_of(context);
    if !lease_holds() {
        return refuse(Refusal::NoLease, tag, current_tgid(), address, port);
    }
    // SAFETY: only presence is asked.
    if unsafe { RESOLVERS.get(Datagram { address, port }) }.is_some() && !is_shut_off(tag.job) {
        return ALLOW;
    }
    refuse(Refusal::Datagram, tag, current_tgid(), address, port)
}
