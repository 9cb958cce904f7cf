//! Stamps the sockets that followed processes create, and refuses the kinds that the redirect can't see.

use agent_abi::Refusal;
use aya_ebpf::{helpers::generated::bpf_set_retval, macros::cgroup_sock, programs::SockContext};

use crate::{
    calls::{ALLOW, REFUSE, SOCK_DGRAM, SOCK_STREAM},
    events::refused,
    stamps::{socket_tag_or_insert, stamp_of},
    tags::{current_tgid, tag_of},
};

const IPPROTO_TCP: u32 = 6;
const IPPROTO_UDP: u32 = 17;
const IPPROTO_MPTCP: u32 = 262;

const ENOPROTOOPT: i32 = 92;

/// Runs when an IPv4 or IPv6 socket is created.
#[cgroup_sock(sock_create)]
pub fn lineal_sock_create(ctx: SockContext) -> i32 {
    let tgid = current_tgid();
    let Some(tag) = tag_of(tgid) else { return ALLOW };
    let sk = ctx.sock;
    // SAFETY: the context's own fields.
    let (kind, protocol) = unsafe { ((*sk).type_, (*sk).protocol) };
    // Raw, ICMP and SCTP sockets connect without the connect hook; MPTCP creates subflows that carry no
    // stamp.
    let seen = matches!((kind, protocol), (SOCK_STREAM, IPPROTO_TCP) | (SOCK_DGRAM, IPPROTO_UDP));
    if !seen {
        refused(Refusal::SocketKind, &tag, tgid, [0; 4], protocol);
        if protocol == IPPROTO_MPTCP {
            // What a kernel with net.mptcp.enabled=0 says: programs then use TCP.
            // SAFETY: the helper has no precondition.
            let _ = unsafe { bpf_set_retval(-ENOPROTOOPT) };
        }
        return REFUSE;
    }
    if socket_tag_or_insert(sk, &mut stamp_of(&tag, tgid)).is_null() {
        refused(Refusal::NoStorage, &tag, tgid, [0; 4], protocol);
        return REFUSE;
    }
    ALLOW
}
