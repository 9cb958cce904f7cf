//! Keeps everybody off the agent's ports, so that no other process can take over the port of an agent that
//! has ended.
//!
//! The agent binds a second socket to a port that it has announced already; its own sockets are marked, and
//! pass. A socket can still get such a port without naming it in `bind`; the redirect therefore checks whose
//! listener it is before it sends anything there.

use agent_abi::SOCKET_LISTENS;
use aya_ebpf::{
    helpers::generated::{bpf_get_netns_cookie, bpf_set_retval},
    macros::cgroup_sock_addr,
    programs::SockAddrContext,
};

use crate::{
    calls::{ALLOW, REFUSE, SOCK_STREAM, port_of},
    maps::LISTENERS,
    stamps::socket_tag,
};

const EADDRINUSE: i32 = 98;

/// `bind` on an IPv4 socket.
#[cgroup_sock_addr(bind4)]
pub fn lineal_bind4(ctx: SockAddrContext) -> i32 {
    judge(&ctx)
}

/// `bind` on an IPv6 socket, which may also take 127.0.0.1.
#[cgroup_sock_addr(bind6)]
pub fn lineal_bind6(ctx: SockAddrContext) -> i32 {
    judge(&ctx)
}

/// Fails a bind to one of the agent's ports in this network namespace with EADDRINUSE.
#[inline(always)]
fn judge(ctx: &SockAddrContext) -> i32 {
    let context = ctx.sock_addr;
    // SAFETY: the context's own field.
    let kind = unsafe { (*context).type_ };
    let port = port_of(context);
    if port == 0 || kind != SOCK_STREAM {
        return ALLOW;
    }
    // SAFETY: the helper only takes this program's own context; a copy, the agent replaces entries whole.
    let listener = unsafe { LISTENERS.get(bpf_get_netns_cookie(context.cast())) }.copied();
    if !listener
        .is_some_and(|listener| port == u32::from(listener.port_v4) || port == u32::from(listener.port_v6))
    {
        return ALLOW;
    }
    // SAFETY: the context's own field; the verifier demands the null check.
    let sk = unsafe { (*context).__bindgen_anon_1.sk };
    if !sk.is_null() {
        let storage = socket_tag(sk);
        // SAFETY: null or this socket's storage.
        if unsafe { storage.as_ref() }.is_some_and(|tag| tag.state == SOCKET_LISTENS) {
            return ALLOW;
        }
    }
    // SAFETY: the helper has no precondition.
    let _ = unsafe { bpf_set_retval(-EADDRINUSE) };
    REFUSE
}
