//! Refuses socket options that would carry packets elsewhere. A redirected connection is addressed to
//! 127.0.0.1 or ::1; a source route would carry its packets elsewhere first. Sockets that share a port may
//! have a program choose among them; no look-up could tell which of them it will choose.

use agent_abi::Refusal;
use aya_ebpf::{macros::cgroup_sockopt, programs::SockoptContext};

use crate::{
    calls::{ALLOW, REFUSE},
    events::refused,
    stamps::stamped,
    tags::{current_tgid, tag_of},
};

/// The kernel shows a program this much of an option's value at most.
const PAGE_BYTES: i32 = 4_096;

/// asm-generic/socket.h
const SOL_SOCKET: i32 = 1;
const SO_ATTACH_REUSEPORT_CBPF: i32 = 51;
const SO_ATTACH_REUSEPORT_EBPF: i32 = 52;
/// linux/in.h
const IPPROTO_IP: i32 = 0;
const IP_OPTIONS: i32 = 4;
/// linux/in6.h: the headers that can hold a route, in both generations of options (RFC 3542, RFC 2292).
const IPPROTO_IPV6: i32 = 41;
const IPV6_2292RTHDR: i32 = 5;
const IPV6_2292PKTOPTIONS: i32 = 6;
const IPV6_RTHDRDSTOPTS: i32 = 55;
const IPV6_RTHDR: i32 = 57;

/// `setsockopt` by a followed process, or on a socket that one made.
#[cgroup_sockopt(setsockopt)]
pub fn lineal_setsockopt(ctx: SockoptContext) -> i32 {
    let context = ctx.sockopt;
    // SAFETY: the context's own fields.
    let (level, option, len) = unsafe { ((*context).level, (*context).optname, (*context).optlen) };
    if len > PAGE_BYTES {
        // A longer value must be handed back unread: length 0 tells the kernel to use the caller's own value.
        // SAFETY: the context's own field.
        unsafe { (&raw mut (*context).optlen).write_volatile(0) };
    }
    let elsewhere = match level {
        SOL_SOCKET => matches!(option, SO_ATTACH_REUSEPORT_CBPF | SO_ATTACH_REUSEPORT_EBPF),
        IPPROTO_IP => option == IP_OPTIONS,
        IPPROTO_IPV6 => {
            matches!(option, IPV6_2292RTHDR | IPV6_2292PKTOPTIONS | IPV6_RTHDRDSTOPTS | IPV6_RTHDR)
        }
        _ => false,
    };
    if !elsewhere {
        return ALLOW;
    }
    let tgid = current_tgid();
    // SAFETY: the context's own field.
    let sk = unsafe { (*context).__bindgen_anon_1.sk };
    let Some(tag) = tag_of(tgid).or_else(|| stamped(sk)) else { return ALLOW };
    refused(Refusal::SocketKind, &tag, tgid, [0; 4], 0);
    REFUSE
}
