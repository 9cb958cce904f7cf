//! The agent's listener: lets a connection through, refuses it, or drops its SYN.
//!
//! At each of the agent's ports two sockets listen, in one reuseport group. The agent accepts at the first
//! one. The other one's queue is full for good, so the kernel drops what is handed to it and answers nothing;
//! the connecting kernel sends its SYN again. This program is the group's, and hands a SYN to the one or to
//! the other. The kernel answers a SYN that the program drops with a reset: `connect` fails with
//! ECONNREFUSED.

use agent_abi::{Flow, FlowKey, HeldFlow, Refusal, TaskTag, VERDICT_GO, VERDICT_REFUSE, mapped};
use aya_ebpf::{
    bindings::bpf_hdr_start_off::BPF_HDR_START_NET,
    bindings::sk_action::{SK_DROP, SK_PASS},
    helpers::generated::{bpf_get_socket_cookie, bpf_skb_load_bytes_relative},
    macros::sk_reuseport,
    programs::SkReuseportContext,
};

use crate::{
    events::refused,
    maps::{DOORS, ENTRANCES, FLOWS, VERDICTS},
    words::lease_holds,
};

/// Where the source address begins in an IPv4 and in an IPv6 header.
const SOURCE_V4: u32 = 12;
const SOURCE_V6: u32 = 8;

/// Runs for each packet that no connection of the port belongs to yet.
#[sk_reuseport]
pub fn lineal_door(ctx: SkReuseportContext) -> u32 {
    judge(&ctx).unwrap_or(SK_DROP)
}

/// The program's answer; `None` if the packet can't be told, and is refused.
#[inline(always)]
fn judge(ctx: &SkReuseportContext) -> Option<u32> {
    // SAFETY: the context's own field, which is never null; the helper takes any socket.
    let cookie = unsafe { bpf_get_socket_cookie((*ctx.md).__bindgen_anon_3.sk.cast()) };
    // SAFETY: a copy; the agent replaces entries whole.
    let door = unsafe { DOORS.get(cookie) }.copied()?;
    let key = FlowKey {
        netns: door.netns,
        address: source(ctx, door.listener)?,
        port: source_port(ctx)?,
        listener: door.listener,
    };
    // SAFETY: a copy; the kernel side replaces flows whole.
    let held = unsafe { FLOWS.get(&key) }.copied().filter(|flow| flow.held != 0);
    let Some(Flow { job, node, tgid, address, port, time_ns, .. }) = held else {
        return enter(ctx, door.entrance);
    };
    if !lease_holds() {
        let tag = TaskTag { job, node, image: 0, born_ns: 0, execs: 0, reserved: 0 };
        refused(Refusal::NoLease, &tag, tgid, address, port);
        return None;
    }
    let flow = HeldFlow { key, time_ns };
    // SAFETY: a copy; the agent replaces entries whole.
    match unsafe { VERDICTS.get(&flow) }.copied() {
        Some(VERDICT_GO) => enter(ctx, door.entrance),
        Some(VERDICT_REFUSE) => None,
        _ => enter(ctx, door.entrance + 1),
    }
}

#[inline(always)]
fn enter(ctx: &SkReuseportContext, entrance: u32) -> Option<u32> {
    ENTRANCES.select_reuseport(ctx, entrance).ok().map(|()| SK_PASS)
}

/// The packet's source address.
#[inline(always)]
fn source(ctx: &SkReuseportContext, family: u32) -> Option<[u32; 4]> {
    let mut address = [0u32; 4];
    let (offset, bytes) = if family == 4 { (SOURCE_V4, 4) } else { (SOURCE_V6, 16) };
    // SAFETY: the helper writes at most 16 bytes to `address`.
    let failed = unsafe {
        bpf_skb_load_bytes_relative(
            ctx.md.cast(),
            offset,
            address.as_mut_ptr().cast(),
            bytes,
            BPF_HDR_START_NET,
        )
    };
    if failed != 0 {
        return None;
    }
    Some(if family == 4 { mapped(address[0]) } else { address })
}

/// The packet's source port, host byte order: the first field of the TCP header, where the packet's data
/// begins.
#[inline(always)]
fn source_port(ctx: &SkReuseportContext) -> Option<u32> {
    let (start, end) = (ctx.data(), ctx.data_end());
    if start + 2 > end {
        return None;
    }
    // SAFETY: two bytes within the packet's data, checked above.
    let port = unsafe { (start as *const u16).read_unaligned() };
    Some(u32::from(u16::from_be(port)))
}
