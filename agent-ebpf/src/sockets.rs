//! Stamps the sockets that followed processes make, and refuses the kinds that the redirect can't see.

use agent_abi::{Refusal, SOCKET_STAMPED, SocketTag};
use aya_ebpf::{macros::cgroup_sock, programs::SockContext};

use crate::maps::{current_tgid, refused, socket_tag_or_insert, tag_of};

const SOCK_STREAM: u32 = 1;
const SOCK_DGRAM: u32 = 2;
const IPPROTO_TCP: u32 = 6;
const IPPROTO_UDP: u32 = 17;

const ALLOW: i32 = 1;
const REFUSE: i32 = 0;

/// Runs when an IPv4 or IPv6 socket is made.
#[cgroup_sock(sock_create)]
pub fn lineal_sock_create(ctx: SockContext) -> i32 {
    let tgid = current_tgid();
    let Some(tag) = tag_of(tgid) else { return ALLOW };
    let sk = ctx.sock;
    // SAFETY: the context's own fields.
    let (kind, protocol) = unsafe { ((*sk).type_, (*sk).protocol) };
    // Raw, ICMP and SCTP sockets connect past the connect hook; MPTCP makes subflows that carry no stamp.
    let seen = matches!((kind, protocol), (SOCK_STREAM, IPPROTO_TCP) | (SOCK_DGRAM, IPPROTO_UDP));
    if !seen {
        refused(Refusal::SocketKind, &tag, tgid, [0; 4], protocol);
        return REFUSE;
    }
    let mut stamp = SocketTag {
        job: tag.job,
        node: tag.node,
        tgid,
        uid: 0,
        state: SOCKET_STAMPED,
        port: 0,
        address: [0; 4],
    };
    if socket_tag_or_insert(sk, &mut stamp).is_null() {
        refused(Refusal::NoStorage, &tag, tgid, [0; 4], protocol);
        return REFUSE;
    }
    ALLOW
}
