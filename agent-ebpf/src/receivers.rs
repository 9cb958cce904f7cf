//! Looks up which socket of this host would receive a packet.

use aya_ebpf::{
    bindings::bpf_sock_tuple,
    cty::c_void,
    helpers::generated::{bpf_sk_lookup_tcp, bpf_sk_lookup_udp, bpf_sk_release},
};

use crate::{
    calls::{CURRENT_NETNS, is_mapped},
    packets::Ends,
    stamps::stamped,
};

/// The job whose socket would receive a datagram: 0 if the socket is no job's, `None` if there is none. `ctx`
/// is the program's own context.
#[inline(always)]
pub fn receiver(ctx: *mut c_void, ends: &Ends) -> Option<u64> {
    let (mut tuple, size) = tuple(ends);
    // SAFETY: the verifier demands the null check and the release.
    unsafe {
        let found = bpf_sk_lookup_udp(ctx, &mut tuple, size, CURRENT_NETNS, 0);
        if found.is_null() {
            return None;
        }
        let job = stamped(found).map_or(0, |tag| tag.job);
        bpf_sk_release(found.cast());
        Some(job)
    }
}

/// The job whose socket would receive a packet of a connection that nobody has accepted yet: the one that
/// listens, or, once the connection is asked for, the one that was asked. 0 and `None` as above.
#[inline(always)]
pub fn listener(ctx: *mut c_void, ends: &Ends) -> Option<u64> {
    let (mut tuple, size) = tuple(ends);
    // SAFETY: the verifier demands the null check and the release.
    unsafe {
        let found = bpf_sk_lookup_tcp(ctx, &mut tuple, size, CURRENT_NETNS, 0);
        if found.is_null() {
            return None;
        }
        let job = stamped(found).map_or(0, |tag| tag.job);
        bpf_sk_release(found.cast());
        Some(job)
    }
}

/// The ends of a packet as the look-ups take them, and their size, which tells the address family
/// (bpf-helpers(7), bpf_sk_lookup_tcp).
#[inline(always)]
fn tuple(ends: &Ends) -> (bpf_sock_tuple, u32) {
    // SAFETY: an all-zero tuple is a valid one.
    let mut tuple: bpf_sock_tuple = unsafe { core::mem::zeroed() };
    if is_mapped(&ends.destination) {
        // SAFETY: both members of the union are plain integers.
        let v4 = unsafe { &mut tuple.__bindgen_anon_1.ipv4 };
        v4.saddr = ends.source[3];
        v4.daddr = ends.destination[3];
        v4.sport = ends.source_port;
        v4.dport = ends.destination_port;
        (tuple, 12)
    } else {
        // SAFETY: both members of the union are plain integers.
        let v6 = unsafe { &mut tuple.__bindgen_anon_1.ipv6 };
        v6.saddr = ends.source;
        v6.daddr = ends.destination;
        v6.sport = ends.source_port;
        v6.dport = ends.destination_port;
        (tuple, 36)
    }
}
