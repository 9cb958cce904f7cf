//! What the programs on socket calls share: who makes the call, the address it names, and the answers it may
//! get. Addresses are in network byte order.

use agent_abi::{Refusal, TaskTag};
use aya_ebpf::{bindings::bpf_sock_addr, helpers::generated::bpf_set_retval, programs::SockAddrContext};

use crate::{
    events::refused,
    stamps::stamped,
    tags::{current_tgid, tag_of},
};

/// A cgroup program's answer that lets the call go on.
pub const ALLOW: i32 = 1;
/// A cgroup program's answer that fails the call: with EPERM, unless `bpf_set_retval` named another error.
pub const REFUSE: i32 = 0;

/// Socket types of TCP and UDP (linux/net.h).
pub const SOCK_STREAM: u32 = 1;
pub const SOCK_DGRAM: u32 = 2;

/// Tells a socket look-up to look in the caller's network namespace (BPF_F_CURRENT_NETNS).
pub const CURRENT_NETNS: u64 = u64::MAX;

/// 127.0.0.1, network byte order.
pub const LOOPBACK_V4: u32 = u32::from_be_bytes([127, 0, 0, 1]).to_be();
/// ::1, network byte order words.
pub const LOOPBACK_V6: [u32; 4] = [0, 0, 0, 1u32.to_be()];

const ECONNREFUSED: i32 = 111;
const MAPPED_PREFIX: [u32; 3] = [0, 0, 0x0000_ffffu32.to_be()];

/// The tag that a call on a socket runs under: the current process's, or else that of the process which made
/// the socket. `None` lets the call pass: it belongs to no job.
#[inline(always)]
pub fn sender(ctx: &SockAddrContext) -> Option<TaskTag> {
    if let Some(tag) = tag_of(current_tgid()) {
        return Some(tag);
    }
    // SAFETY: the context's own field.
    stamped(unsafe { (*ctx.sock_addr).__bindgen_anon_1.sk })
}

/// Refuses a call with [`deny`], counts the refusal and tells the agent. [`agent_abi::Event`] says what
/// `address` and `port` are.
#[inline(always)]
pub fn refuse(why: Refusal, tag: &TaskTag, tgid: u32, address: [u32; 4], port: u32) -> i32 {
    refused(why, tag, tgid, address, port);
    deny()
}

/// Fails the call with ECONNREFUSED rather than EPERM: clients know what to do about a refused connection.
/// Counts nothing, and tells the agent nothing.
#[inline(always)]
pub fn deny() -> i32 {
    // SAFETY: the helper has no precondition.
    let _ = unsafe { bpf_set_retval(-ECONNREFUSED) };
    REFUSE
}

/// Port that the call names, host byte order.
#[inline(always)]
pub fn port_of(context: *mut bpf_sock_addr) -> u32 {
    // SAFETY: the context's own field.
    let port = unsafe { (&raw const (*context).user_port).read_volatile() };
    u32::from(u16::from_be(port as u16))
}

/// Address that an IPv6 call names.
#[inline(always)]
pub fn address_v6(ctx: &SockAddrContext) -> [u32; 4] {
    // SAFETY: the context's own fields, each read as one word.
    unsafe {
        [
            (&raw const (*ctx.sock_addr).user_ip6[0]).read_volatile(),
            (&raw const (*ctx.sock_addr).user_ip6[1]).read_volatile(),
            (&raw const (*ctx.sock_addr).user_ip6[2]).read_volatile(),
            (&raw const (*ctx.sock_addr).user_ip6[3]).read_volatile(),
        ]
    }
}

/// Replaces the address that an IPv4 call names.
#[inline(always)]
pub fn set_address_v4(context: *mut bpf_sock_addr, address: u32) {
    // SAFETY: the context's own field, written as one word.
    unsafe { (&raw mut (*context).user_ip4).write_volatile(address) }
}

/// Replaces the address that an IPv6 call names.
#[inline(always)]
pub fn set_address_v6(context: *mut bpf_sock_addr, address: &[u32; 4]) {
    // SAFETY: the context's own fields, each written as one word.
    unsafe {
        (&raw mut (*context).user_ip6[0]).write_volatile(address[0]);
        (&raw mut (*context).user_ip6[1]).write_volatile(address[1]);
        (&raw mut (*context).user_ip6[2]).write_volatile(address[2]);
        (&raw mut (*context).user_ip6[3]).write_volatile(address[3]);
    }
}

/// Replaces the IPv4 part of the v4-mapped address that an IPv6 call names.
#[inline(always)]
pub fn set_mapped_v4(context: *mut bpf_sock_addr, address: u32) {
    // SAFETY: the context's own field, written as one word.
    unsafe { (&raw mut (*context).user_ip6[3]).write_volatile(address) }
}

/// Replaces the port that a call names; `port` is in host byte order.
#[inline(always)]
pub fn set_port(context: *mut bpf_sock_addr, port: u16) {
    // SAFETY: the context's own field, written as one word.
    unsafe { (&raw mut (*context).user_port).write_volatile(u32::from(port.to_be())) }
}

/// Whether an address is an IPv4 one, as `::ffff:a.b.c.d`.
#[inline(always)]
pub fn is_mapped(address: &[u32; 4]) -> bool {
    address[0] == MAPPED_PREFIX[0] && address[1] == MAPPED_PREFIX[1] && address[2] == MAPPED_PREFIX[2]
}

/// Whether an address is 0.0.0.0, mapped or not, or ::.
#[inline(always)]
pub fn is_unspecified(address: &[u32; 4]) -> bool {
    address[3] == 0 && (is_mapped(address) || address[0] == 0 && address[1] == 0 && address[2] == 0)
}

/// Whether an address is one of 127.0.0.0/8, mapped, or ::1.
#[inline(always)]
pub fn is_loopback(address: &[u32; 4]) -> bool {
    if is_mapped(address) {
        u32::from_be(address[3]) >> 24 == 127
    } else {
        address[0] == 0 && address[1] == 0 && address[2] == 0 && address[3] == LOOPBACK_V6[3]
    }
}
