//! What leaves the sockets of jobs, packet by packet, once its route is known.
//!
//! A datagram that a connected socket sends without naming an address passes no hook on calls: it is judged
//! here, by its own headers. So is every datagram of a socket for which the hooks have let something through.
//! A connection to a listener of its own job is followed until that listener, and no other, has answered it.
//!
//! The kernel takes longer to call a program on packets than the program runs. So that nobody else pays for
//! it, this one is attached only to the cgroups that jobs are in; `lineal_cover` tells the hooks on calls
//! which sockets it sees.
//!
//! A packet belongs to a job by its socket's stamp, or by the current process. Only for datagrams can the
//! current process be trusted to be the sender: TCP sends much of what it sends from interrupts, in the
//! context of any process.

use agent_abi::{Refusal, SOCKET_OWN, SOCKET_OWN_ANSWERED, SOCKET_SEEN, SOCKET_STAMPED, SocketTag, TaskTag};
use aya_ebpf::{
    bindings::bpf_sock,
    macros::{cgroup_skb, cgroup_sock},
    programs::{SkBuffContext, SockContext},
};

use crate::{
    calls::{ALLOW, REFUSE, SOCK_DGRAM, is_loopback, is_mapped},
    datagrams::is_resolver,
    events::refused,
    packets::{Ends, Packet, carries_data, full_socket, is_forwarded, is_on_loopback, packet},
    receivers::{listener, receiver},
    shares::is_shut_off,
    stamps::{socket_tag, socket_tag_or_insert, stamp_of, tag_behind},
    tags::{current_tgid, tag_of, task_tgid},
    words::{count, lease_holds},
};

/// State of a socket that waits for the answer to its SYN (`TCP_SYN_SENT` of the kernel).
const SYN_SENT: u32 = 2;

/// Runs when a socket is created in a cgroup that [`lineal_egress`] is attached to, and stamps it as one that
/// `lineal_egress` sees. `sockets` judges its kind.
#[cgroup_sock(sock_create)]
pub fn lineal_cover(ctx: SockContext) -> i32 {
    let tgid = current_tgid();
    if let Some(tag) = tag_of(tgid) {
        // SAFETY: null or this socket's storage.
        if let Some(storage) = unsafe { socket_tag_or_insert(ctx.sock, &mut stamp_of(&tag, tgid)).as_mut() } {
            storage.flags |= SOCKET_SEEN;
        }
    }
    ALLOW
}

/// Runs as a packet of a socket leaves, before it is cut into fragments.
#[cgroup_skb(egress)]
pub fn lineal_egress(ctx: SkBuffContext) -> i32 {
    let skb = ctx.skb.skb;
    // SAFETY: the context's own field.
    let sk = unsafe { (*skb).__bindgen_anon_2.sk };
    if sk.is_null() {
        return ALLOW;
    }
    // SAFETY: null or this socket's storage.
    let storage = unsafe { socket_tag(sk).as_mut() };
    let tgid = task_tgid();
    let current = tag_of(tgid);
    if storage.is_none() && current.is_none() {
        return ALLOW;
    }
    let sk = full_socket(skb);
    if sk.is_null() {
        return ALLOW;
    }
    // SAFETY: the socket's own field.
    if unsafe { (*sk).type_ } != SOCK_DGRAM {
        return match storage {
            Some(storage) if storage.state == SOCKET_OWN => connection(&ctx, sk, storage),
            _ => ALLOW,
        };
    }
    if storage.is_none() && is_forwarded(skb) {
        return ALLOW; // A tunnel of the kernel's sends it, in the context of any process.
    }
    let storage = storage.map(|storage| &*storage);
    match current.or_else(|| tag_behind(storage?)) {
        Some(tag) => datagram(&ctx, storage, &tag, tgid),
        None => ALLOW,
    }
}

/// Judges a packet of a connection to a listener of its own job, until the listener has answered.
///
/// What was looked up at connect may be wrong by now: the listener may have ended, and its port may have
/// another owner or several, one of whom the kernel chooses for each connection. Now the ends are known, and
/// with them who is asked; after the answer, who has been.
#[inline(always)]
fn connection(ctx: &SkBuffContext, sk: *mut bpf_sock, storage: &mut SocketTag) -> i32 {
    let skb = ctx.skb.skb;
    let Packet::Direct(ends) = packet(ctx) else { return elsewhere() };
    if !is_on_loopback(skb) {
        return elsewhere(); // The host's NAT rules send it to another host.
    }
    // SAFETY: the socket's own field.
    let asking = unsafe { (*sk).state } == SYN_SENT;
    if asking && carries_data(ctx) {
        // Fast Open: the answer would come from a socket without a stamp. The kernel asks again without data.
        return REFUSE;
    }
    match listener(skb.cast(), &ends) {
        Some(job) if job == storage.job => {
            if !asking {
                storage.state = SOCKET_OWN_ANSWERED;
            }
            ALLOW
        }
        // Nobody is there any more: the kernel answers that the connection is refused or reset.
        None => ALLOW,
        Some(_) => elsewhere(),
    }
}

/// Drops a packet of a connection to a listener of its own job that would reach another socket.
#[inline(always)]
fn elsewhere() -> i32 {
    count(Refusal::Receiver as u32);
    REFUSE
}

/// Judges a datagram of a job.
#[inline(always)]
fn datagram(ctx: &SkBuffContext, storage: Option<&SocketTag>, tag: &TaskTag, tgid: u32) -> i32 {
    let packet = packet(ctx);
    let (mut address, mut port) = ([0; 4], 0);
    if let Packet::Direct(ends) = &packet {
        address = ends.destination;
        port = u32::from(u16::from_be(ends.destination_port));
    }
    if !lease_holds() {
        return refuse(Refusal::NoLease, tag, tgid, address, port);
    }
    // Such a socket has only ever been connected to resolvers, and the hooks on calls have judged every other
    // address that it was given. By now the host's NAT rules may have changed what its packets say.
    let judged = storage.is_some_and(|storage| storage.state == SOCKET_STAMPED);
    let may_go = match packet {
        Packet::Routed => return refuse(Refusal::SocketKind, tag, tgid, address, port),
        _ if judged => !is_shut_off(tag.job),
        Packet::Other => false,
        Packet::Direct(ends) => is_resolver(tag, address, port) || stays(ctx, tag, &ends),
    };
    if may_go { ALLOW } else { refuse(Refusal::Datagram, tag, tgid, address, port) }
}

/// Refuses a packet: the sender is told EPERM.
#[inline(always)]
fn refuse(why: Refusal, tag: &TaskTag, tgid: u32, address: [u32; 4], port: u32) -> i32 {
    refused(why, tag, tgid, address, port);
    REFUSE
}

/// Whether a datagram goes to a socket of its own job, or to an address of this host where no socket is: then
/// the kernel tells the sender so.
#[inline(always)]
fn stays(ctx: &SkBuffContext, tag: &TaskTag, ends: &Ends) -> bool {
    let skb = ctx.skb.skb;
    is_on_loopback(skb) && goes_to_one(ends) && receiver(skb.cast(), ends).is_none_or(|job| job == tag.job)
}

/// Whether an address on the loopback device stands for one socket: broadcasts and multicasts reach several.
/// The kernel gives a packet to another of the host's own addresses the same address as its source, and takes
/// no broadcast or multicast address for a source.
#[inline(always)]
fn goes_to_one(ends: &Ends) -> bool {
    if is_loopback(&ends.destination) {
        let last = ends.destination[3] | u32::from_be_bytes([255, 0, 0, 0]).to_be();
        let broadcast = last == u32::MAX || last == u32::from_be_bytes([255, 0, 0, 0]).to_be();
        return !(is_mapped(&ends.destination) && broadcast);
    }
    ends.source == ends.destination
}
