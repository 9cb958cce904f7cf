//! Keeps everybody off the agent's ports: a dead agent's listener must not become somebody else's.
//!
//! The agent announces a port after it has bound it, so it needs no exemption. A socket may still come by such a port
//! without naming it; the redirect looks whose listener it is before it sends anything there.

use aya_ebpf::{
    helpers::generated::{bpf_get_netns_cookie, bpf_set_retval},
    macros::cgroup_sock_addr,
    programs::SockAddrContext,
};

use crate::{
    maps::LISTENERS,
    redirect::{ALLOW, port_of},
};

const REFUSE: i32 = 0;
const SOCK_STREAM: u32 = 1;
const EADDRINUSE: i32 = 98;

/// `bind` on an IPv4 socket.
#[cgroup_sock_addr(bind4)]
pub fn lineal_bind4(ctx: SockAddrContext) -> i32 {
    judge(&ctx)
}

/// `bind` on an IPv6 socket: it may mean 127.0.0.1, too.
#[cgroup_sock_addr(bind6)]
pub fn lineal_bind6(ctx: SockAddrContext) -> i32 {
    judge(&ctx)
}

#[inline(always)]
fn judge(ctx: &SockAddrContext) -> i32 {
    let context = ctx.sock_addr;
    // SAFETY: the context's own field.
    let kind = unsafe { (*context).type_ };
    let port = port_of(context);
    if port == 0 || kind != SOCK_STREAM {
        return ALLOW;
    }
    // SAFETY: plain helper on this program's own context; a copy, the agent replaces entries whole.
    let listener = unsafe { LISTENERS.get(bpf_get_netns_cookie(context.cast())) }.copied();
    if !listener
        .is_some_and(|listener| port == u32::from(listener.port_v4) || port == u32::from(listener.port_v6))
    {
        return ALLOW;
    }
    // SAFETY: plain helper.
    let _ = unsafe { bpf_set_retval(-EADDRINUSE) };
    REFUSE
}
