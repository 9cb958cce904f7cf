//! Socket options that send a packet another way than to its destination: source routes. A redirected connection goes to
//! 127.0.0.1 or ::1, and must get there.

use agent_abi::Refusal;
use aya_ebpf::{macros::cgroup_sockopt, programs::SockoptContext};

use crate::maps::{current_tgid, refused, stamped, tag_of};

/// What the kernel shows of a value at most.
const PAGE_BYTES: i32 = 4_096;
const ALLOW: i32 = 1;
const REFUSE: i32 = 0;

/// linux/in.h
const IPPROTO_IP: i32 = 0;
const IP_OPTIONS: i32 = 4;
/// linux/in6.h: the headers that can hold a route, in both generations of options (RFC 3542, RFC 2292).
const IPPROTO_IPV6: i32 = 41;
const IPV6_2292RTHDR: i32 = 5;
const IPV6_2292PKTOPTIONS: i32 = 6;
const IPV6_RTHDRDSTOPTS: i32 = 55;
const IPV6_RTHDR: i32 = 57;

/// `setsockopt` on a followed process's socket, or by one.
#[cgroup_sockopt(setsockopt)]
pub fn lineal_setsockopt(ctx: SockoptContext) -> i32 {
    let context = ctx.sockopt;
    // SAFETY: the context's own fields.
    let (level, option, len) = unsafe { ((*context).level, (*context).optname, (*context).optlen) };
    if len > PAGE_BYTES {
        // SAFETY: the context's own field. A program is shown a page at most; 0 has the kernel take the caller's own value.
        unsafe { (&raw mut (*context).optlen).write_volatile(0) };
    }
    let routes = match level {
        IPPROTO_IP => option == IP_OPTIONS,
        IPPROTO_IPV6 => {
            matches!(option, IPV6_2292RTHDR | IPV6_2292PKTOPTIONS | IPV6_RTHDRDSTOPTS | IPV6_RTHDR)
        }
        _ => false,
    };
    if !routes {
        return ALLOW;
    }
    let tgid = current_tgid();
    // SAFETY: the context's own field.
    let sk = unsafe { (*context).__bindgen_anon_1.sk };
    let Some(tag) = tag_of(tgid).or_else(|| stamped(sk)) else { return ALLOW };
    refused(Refusal::SocketKind, &tag, tgid, [0; 4], 0);
    REFUSE
}
