//! UDP of followed processes: to a declared resolver, or not at all.

use agent_abi::{Datagram, Refusal, TaskTag, mapped};
use aya_ebpf::{bindings::bpf_sock_addr, macros::cgroup_sock_addr, programs::SockAddrContext};

use crate::{
    maps::{RESOLVERS, current_tgid, lease_holds, refused},
    redirect::{ALLOW, address_v6, deny, port_of, sender},
    shares::is_shut_off,
};

/// `sendto` and `sendmsg` on an unconnected IPv4 UDP socket.
#[cgroup_sock_addr(sendmsg4)]
pub fn lineal_sendmsg4(ctx: SockAddrContext) -> i32 {
    let Some(tag) = sender(&ctx) else { return ALLOW };
    // SAFETY: the context's own field.
    let address = mapped(unsafe { (*ctx.sock_addr).user_ip4 });
    judge(ctx.sock_addr, &tag, address)
}

/// The same for IPv6, v4-mapped destinations included.
#[cgroup_sock_addr(sendmsg6)]
pub fn lineal_sendmsg6(ctx: SockAddrContext) -> i32 {
    let Some(tag) = sender(&ctx) else { return ALLOW };
    let address = address_v6(&ctx);
    judge(ctx.sock_addr, &tag, address)
}

/// Allows a datagram of a job that may act to a resolver, while there is an agent; refuses every other.
#[inline(always)]
pub fn judge(context: *mut bpf_sock_addr, tag: &TaskTag, address: [u32; 4]) -> i32 {
    let port = port_of(context);
    if !lease_holds() {
        refused(Refusal::NoLease, tag, current_tgid(), address, port);
        return deny();
    }
    // SAFETY: only presence is asked.
    if unsafe { RESOLVERS.get(Datagram { address, port }) }.is_some() && !is_shut_off(tag.job) {
        return ALLOW;
    }
    refused(Refusal::Datagram, tag, current_tgid(), address, port);
    deny()
}
