//! Shows a process where its redirected connection was meant to go, instead of the agent's listener.

use agent_abi::{SOCKET_REDIRECTED_V4, SOCKET_REDIRECTED_V6, SocketTag};
use aya_ebpf::{macros::cgroup_sock_addr, programs::SockAddrContext};

use crate::{
    calls::{ALLOW, set_address_v4, set_address_v6, set_port},
    stamps::socket_tag,
};

/// `getpeername` on an IPv4 socket.
#[cgroup_sock_addr(getpeername4)]
pub fn lineal_getpeername4(ctx: SockAddrContext) -> i32 {
    if let Some(tag) = redirected(&ctx) {
        set_address_v4(ctx.sock_addr, tag.address[3]);
        set_port(ctx.sock_addr, tag.port as u16);
    }
    ALLOW
}

/// `getpeername` on an IPv6 socket, v4-mapped peers included.
#[cgroup_sock_addr(getpeername6)]
pub fn lineal_getpeername6(ctx: SockAddrContext) -> i32 {
    if let Some(tag) = redirected(&ctx) {
        set_address_v6(ctx.sock_addr, &tag.address);
        set_port(ctx.sock_addr, tag.port as u16);
    }
    ALLOW
}

/// The storage of a socket that was redirected.
#[inline(always)]
fn redirected(ctx: &SockAddrContext) -> Option<&'static SocketTag> {
    // SAFETY: the context's own field.
    let sk = unsafe { (*ctx.sock_addr).__bindgen_anon_1.sk };
    if sk.is_null() {
        return None;
    }
    // SAFETY: null or this socket's storage.
    let tag = unsafe { socket_tag(sk).as_ref() }?;
    matches!(tag.state, SOCKET_REDIRECTED_V4 | SOCKET_REDIRECTED_V6).then_some(tag)
}
