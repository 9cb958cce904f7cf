//! What a packet that leaves says about itself: its protocol, its ends, and the device that it leaves by.

use agent_abi::mapped;
use aya_ebpf::{
    bindings::{__sk_buff, bpf_sock},
    helpers::generated::bpf_sk_fullsock,
    programs::SkBuffContext,
};

/// The loopback device's index, in every network namespace.
const LOOPBACK_DEVICE: u32 = 1;

const PROTOCOL_TCP: u8 = 6;
const PROTOCOL_UDP: u8 = 17;
/// IPv6 headers that can stand before a routing header, and the routing header itself (RFC 8200).
const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const DESTINATION_OPTIONS: u8 = 60;

/// The two ends of a packet; addresses and ports in network byte order, IPv4 as `::ffff:a.b.c.d`.
pub struct Ends {
    pub source: [u32; 4],
    pub destination: [u32; 4],
    pub source_port: u16,
    pub destination_port: u16,
}

/// What a packet's headers say.
pub enum Packet {
    /// TCP or UDP, straight to its destination.
    Direct(Ends),
    /// Headers that may carry the packet somewhere else first.
    Routed,
    /// Anything else: another protocol, or a packet that IPsec has wrapped.
    Other,
}

/// Reads the headers of a packet that is about to leave.
#[inline(always)]
pub fn packet(ctx: &SkBuffContext) -> Packet {
    match ctx.skb.load::<u8>(0) {
        Ok(first) if first >> 4 == 4 => packet_v4(ctx, first),
        Ok(first) if first >> 4 == 6 => packet_v6(ctx),
        _ => Packet::Other,
    }
}

#[inline(always)]
fn packet_v4(ctx: &SkBuffContext, first: u8) -> Packet {
    if first & 15 != 5 {
        return Packet::Routed; // The header is longer than its fixed part: it has options.
    }
    // The words of the fixed part (RFC 791), and the ports.
    let Ok([_, _, protocol, source, destination, ports]) = ctx.skb.load::<[u32; 6]>(0) else {
        return Packet::Other;
    };
    match protocol.to_ne_bytes()[1] {
        PROTOCOL_TCP | PROTOCOL_UDP => Packet::Direct(ends(mapped(source), mapped(destination), ports)),
        _ => Packet::Other,
    }
}

#[inline(always)]
fn packet_v6(ctx: &SkBuffContext) -> Packet {
    // The words of the fixed header (RFC 8200), and the ports.
    let Ok([_, next, a, b, c, d, e, f, g, h, ports]) = ctx.skb.load::<[u32; 11]>(0) else {
        return Packet::Other;
    };
    match next.to_ne_bytes()[2] {
        PROTOCOL_TCP | PROTOCOL_UDP => Packet::Direct(ends([a, b, c, d], [e, f, g, h], ports)),
        HOP_BY_HOP | ROUTING | DESTINATION_OPTIONS => Packet::Routed,
        _ => Packet::Other,
    }
}

/// Whether a TCP packet carries data behind its headers, which are those of [`Packet::Direct`].
#[inline(always)]
pub fn carries_data(ctx: &SkBuffContext) -> bool {
    let network = if ctx.skb.load::<u8>(0).is_ok_and(|first| first >> 4 == 4) { 20 } else { 40 };
    // The header's length in words, in the upper half of its thirteenth byte (RFC 9293).
    let transport = ctx.skb.load::<u8>(network + 12).map_or(0, |length| u32::from(length >> 4) * 4);
    ctx.skb.len() > network as u32 + transport
}

#[inline(always)]
fn ends(source: [u32; 4], destination: [u32; 4], ports: u32) -> Ends {
    let [a, b, c, d] = ports.to_ne_bytes();
    Ends {
        source,
        destination,
        source_port: u16::from_ne_bytes([a, b]),
        destination_port: u16::from_ne_bytes([c, d]),
    }
}

/// Whether a packet leaves by the loopback device: it stays in its network namespace.
#[inline(always)]
pub fn is_on_loopback(skb: *mut __sk_buff) -> bool {
    // SAFETY: the context's own field.
    unsafe { (&raw const (*skb).ifindex).read_volatile() == LOOPBACK_DEVICE }
}

/// Whether a packet has come from a device, and is only passed on.
#[inline(always)]
pub fn is_forwarded(skb: *mut __sk_buff) -> bool {
    // SAFETY: the context's own field.
    unsafe { (&raw const (*skb).ingress_ifindex).read_volatile() != 0 }
}

/// A packet's socket with all its fields; null if it has none.
#[inline(always)]
pub fn full_socket(skb: *mut __sk_buff) -> *mut bpf_sock {
    // SAFETY: the context's own field; the helper takes a socket that is not null.
    unsafe {
        let sk = (*skb).__bindgen_anon_2.sk;
        if sk.is_null() { sk } else { bpf_sk_fullsock(sk) }
    }
}
