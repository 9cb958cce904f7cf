//! Sends the TCP connections of followed processes to the agent's listener in their network namespace.
//!
//! The original destination is kept in the socket's storage at connect; `publish` hands it to the agent. A
//! connection to a loopback listener of the same job goes there directly. One to a loopback address where
//! nothing listens is refused, as it would be without lineal; so is any other that can't be redirected. Once
//! the agent's lease has lapsed, every connection is refused. The connect of a UDP socket arrives here, too,
//! and is left to `datagrams`.

use agent_abi::{
    Refusal, SOCKET_OWN, SOCKET_REDIRECTED_V4, SOCKET_REDIRECTED_V6, SOCKET_SEEN, SOCKET_STAMPED, SocketTag,
    TaskTag, mapped, stat,
};
use aya_ebpf::{
    bindings::bpf_sock_addr,
    helpers::{bpf_get_current_uid_gid, generated::bpf_get_netns_cookie},
    macros::cgroup_sock_addr,
    programs::SockAddrContext,
};

use crate::{
    calls::{
        ALLOW, LOOPBACK_V4, LOOPBACK_V6, SOCK_STREAM, address_v6, deny, is_mapped, is_unspecified, port_of,
        refuse, sender, set_address_v4, set_address_v6, set_mapped_v4, set_port,
    },
    datagrams,
    listening::{Found, agent_listens, find},
    maps::LISTENERS,
    stamps::{socket_tag_or_insert, stamp_of},
    tags::current_tgid,
    words::{count, lease_holds},
};

/// `connect` on an IPv4 socket.
#[cgroup_sock_addr(connect4)]
pub fn lineal_connect4(ctx: SockAddrContext) -> i32 {
    let Some(tag) = sender(&ctx) else { return ALLOW };
    let context = ctx.sock_addr;
    // SAFETY: the context's own fields.
    let (kind, address) = unsafe { ((*context).type_, (*context).user_ip4) };
    if kind != SOCK_STREAM {
        return datagrams::connect(context, &tag, mapped(address));
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
        return datagrams::connect(context, &tag, address);
    }
    let via = if is_mapped(&address) { Via::Mapped } else { Via::V6 };
    redirect(&ctx, &tag, address, via)
}

/// How a redirected socket reaches the listener.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Via {
    /// An IPv4 socket: 127.0.0.1.
    V4,
    /// An IPv6 socket with a v4-mapped destination: ::ffff:127.0.0.1.
    Mapped,
    /// An IPv6 socket: ::1.
    V6,
}

impl Via {
    /// Where the kernel would connect a socket that names no address. That is what the agent is told, and
    /// what getpeername shows.
    #[inline(always)]
    fn loopback(self) -> [u32; 4] {
        match self {
            Self::V4 | Self::Mapped => mapped(LOOPBACK_V4),
            Self::V6 => LOOPBACK_V6,
        }
    }
}

/// Redirects a connection, refuses it, or lets it through to a loopback listener of its own job. Returns the
/// program's answer.
#[inline(always)]
fn redirect(ctx: &SockAddrContext, tag: &TaskTag, address: [u32; 4], via: Via) -> i32 {
    let context = ctx.sock_addr;
    let tgid = current_tgid();
    let port = port_of(context);
    let Some(storage) = storage_of(context, tag, tgid) else {
        return refuse(Refusal::NoStorage, tag, tgid, address, port);
    };
    // A socket may be connected again: what an earlier connect left must not be published.
    storage.state = SOCKET_STAMPED;
    if !lease_holds() {
        return refuse(Refusal::NoLease, tag, tgid, address, port);
    }
    let found = find(ctx, tag, &address, port, storage.flags & SOCKET_SEEN != 0);
    if found == Found::OwnListener {
        count(stat::OWN_LISTENER);
        // `egress` makes sure that no other job's listener, nor anybody else's, answers the connection.
        storage.job = tag.job;
        storage.state = SOCKET_OWN;
        if is_unspecified(&address) {
            // For 0.0.0.0 and :: the kernel would connect to the address that the socket is bound to, which
            // is not the loopback address whose listener was looked up.
            go_to_loopback(context, via);
        }
        return ALLOW;
    }
    let Some(listener_port) = listener_port(ctx, via) else {
        return refuse(Refusal::NoListener, tag, tgid, address, port);
    };
    if found == Found::Nothing {
        // The kernel would refuse it, too. It is not asked: somebody may begin to listen just now.
        return deny();
    }
    storage.job = tag.job;
    storage.node = tag.node;
    storage.tgid = tgid;
    storage.uid = bpf_get_current_uid_gid() as u32;
    storage.address = if is_unspecified(&address) { via.loopback() } else { address };
    storage.port = port;
    storage.state = if via == Via::V6 { SOCKET_REDIRECTED_V6 } else { SOCKET_REDIRECTED_V4 };
    go_to_loopback(context, via);
    set_port(context, listener_port);
    count(stat::REDIRECTED);
    ALLOW
}

/// The storage of the socket that connects; made now if the socket was created outside every job. `None` if
/// it can't be made.
#[inline(always)]
fn storage_of(context: *mut bpf_sock_addr, tag: &TaskTag, tgid: u32) -> Option<&'static mut SocketTag> {
    // SAFETY: the context's own field; the verifier demands the null check below.
    let sk = unsafe { (*context).__bindgen_anon_1.sk };
    if sk.is_null() {
        return None;
    }
    // SAFETY: null or this socket's storage; connect holds the socket's lock.
    unsafe { socket_tag_or_insert(sk, &mut stamp_of(tag, tgid)).as_mut() }
}

/// Port (host byte order) of the agent's listener in this network namespace, if the agent listens there now.
#[inline(always)]
fn listener_port(ctx: &SockAddrContext, via: Via) -> Option<u16> {
    // SAFETY: the helper only takes this program's own context.
    let netns = unsafe { bpf_get_netns_cookie(ctx.sock_addr.cast()) };
    // SAFETY: a copy; the agent replaces entries whole.
    let listener = unsafe { LISTENERS.get(netns) }.copied()?;
    let port = if via == Via::V6 { listener.port_v6 } else { listener.port_v4 };
    (port != 0 && agent_listens(ctx, via != Via::V6, port)).then_some(port)
}

/// Makes the connection go to 127.0.0.1 or ::1; the port stays.
#[inline(always)]
fn go_to_loopback(context: *mut bpf_sock_addr, via: Via) {
    match via {
        Via::V4 => set_address_v4(context, LOOPBACK_V4),
        Via::Mapped => set_mapped_v4(context, LOOPBACK_V4),
        Via::V6 => set_address_v6(context, &LOOPBACK_V6),
    }
}
