//! Holds a connection back until the agent knows whether its destination can be reached.
//!
//! The agent's listener accepts at once, so a client would learn that its `connect` has succeeded before
//! anybody has tried the destination. Therefore the SYN of a connection to a destination that the agent has
//! not reached lately is dropped at the listener (`door`) until the agent's verdict is there; the connecting
//! kernel sends it again. So that this costs the client little, a held SYN is sent again a tick of the
//! kernel's clock later, and then at doubled intervals. It is sent more often than otherwise, so that the
//! client waits as long in all as it would by the kernel's own intervals.

use agent_abi::{Destination, Flow, HOLD_BEGINS, HOLD_ENDS, Held, HeldFlow, Hold, SocketTag};
use aya_ebpf::{
    Global,
    bindings::{BPF_SK_STORAGE_GET_F_CREATE, BPF_SOCK_OPS_STATE_CB_FLAG, bpf_sock, bpf_sock_ops},
    helpers::{
        bpf_ktime_get_ns,
        generated::{
            bpf_getsockopt, bpf_setsockopt, bpf_sk_storage_delete, bpf_sk_storage_get,
            bpf_sock_ops_cb_flags_set,
        },
    },
};

use crate::maps::{FLOWS, HELD, HOLDS, REACHABLE, VERDICTS};

/// The interval, in ticks of the kernel's clock, after which a held SYN is sent again at first.
const FIRST_INTERVAL: u32 = 1;
/// The kernel's own bound on TCP_SYNCNT (`MAX_TCP_SYNCNT`).
const SYN_COUNT_MAX: u32 = 127;
/// How often a SYN is sent again unless anybody says otherwise (`TCP_SYN_RETRIES`).
const SYN_COUNT_USUAL: u32 = 6;

const SOL_TCP: i32 = 6;
const TCP_SYNCNT: i32 = 7;

/// How often [`FIRST_INTERVAL`] has to be doubled to come to the kernel's usual first interval, one second.
/// The loader sets it: it depends on the ticks in a second.
#[unsafe(no_mangle)]
pub static SYN_DOUBLINGS: Global<u32> = Global::new(0);

/// Whether the agent has lately reached the original destination of a socket with this tag.
#[inline(always)]
pub fn is_reachable(netns: u64, tag: &SocketTag) -> bool {
    let to = Destination { netns, address: tag.address, port: tag.port, reserved: 0 };
    // SAFETY: the agent replaces values whole; the helper has no precondition.
    unsafe { REACHABLE.get(&to).is_some_and(|until| bpf_ktime_get_ns() < *until) }
}

/// Holds a connection that is about to send its SYN. False if it can't be held.
#[inline(always)]
pub fn hold(ops: *mut bpf_sock_ops, sk: *mut bpf_sock, flow: HeldFlow, about: &Flow) -> bool {
    let syn_count = syn_count(ops);
    let mut held = Held { flow, syn_count, reserved: 0 };
    if storage(sk, &mut held, BPF_SK_STORAGE_GET_F_CREATE.into()).is_null() {
        return false;
    }
    let Flow { job, address, port, .. } = *about;
    if HOLDS.output::<Hold>(&Hold { flow, job, address, port, kind: HOLD_BEGINS }, 0).is_err() {
        forget(sk);
        return false;
    }
    set_syn_count(ops, syn_count.saturating_add(SYN_DOUBLINGS.load()).min(SYN_COUNT_MAX));
    // SAFETY: the context's own field; the helper takes this program's own context.
    unsafe {
        let flags = (&raw const (*ops).bpf_sock_ops_cb_flags).read_volatile();
        bpf_sock_ops_cb_flags_set(ops, (flags | BPF_SOCK_OPS_STATE_CB_FLAG) as i32);
    }
    true
}

/// The interval after which a socket's SYN is sent again at first; `None` leaves it to the kernel.
#[inline(always)]
pub fn first_interval(sk: *mut bpf_sock) -> Option<u32> {
    (!storage(sk, core::ptr::null_mut(), 0).is_null()).then_some(FIRST_INTERVAL)
}

/// A held connection was let through and is established: its socket is as any other from now on.
#[inline(always)]
pub fn established(ops: *mut bpf_sock_ops, sk: *mut bpf_sock) {
    // SAFETY: null or this socket's storage.
    if let Some(held) = unsafe { storage(sk, core::ptr::null_mut(), 0).as_ref() } {
        set_syn_count(ops, held.syn_count);
        forget(sk);
    }
}

/// A socket is closed. If its connection was held until now, the agent is told, and no entry of it is left.
#[inline(always)]
pub fn closed(sk: *mut bpf_sock) {
    // SAFETY: null or this socket's storage.
    let Some(held) = (unsafe { storage(sk, core::ptr::null_mut(), 0).as_ref() }) else { return };
    let flow = held.flow;
    // SAFETY: a copy of one field; the kernel side replaces flows whole.
    if unsafe { FLOWS.get(&flow.key).is_some_and(|found| found.time_ns == flow.time_ns) } {
        let _ = FLOWS.remove(&flow.key);
    }
    let _ = VERDICTS.remove(&flow);
    let _ = HOLDS.output::<Hold>(&Hold { flow, job: 0, address: [0; 4], port: 0, kind: HOLD_ENDS }, 0);
    forget(sk);
}

#[inline(always)]
fn storage(sk: *mut bpf_sock, value: *mut Held, flags: u64) -> *mut Held {
    // SAFETY: the verifier checks the socket pointer's type and that it isn't null.
    unsafe { bpf_sk_storage_get((&raw const HELD).cast_mut().cast(), sk.cast(), value.cast(), flags) }.cast()
}

#[inline(always)]
fn forget(sk: *mut bpf_sock) {
    // SAFETY: as in `storage`.
    unsafe { bpf_sk_storage_delete((&raw const HELD).cast_mut().cast(), sk.cast()) };
}

/// How often the socket's SYN is sent again.
#[inline(always)]
fn syn_count(ops: *mut bpf_sock_ops) -> u32 {
    let mut count: u32 = 0;
    // SAFETY: the helper writes four bytes to `count`.
    let failed = unsafe { bpf_getsockopt(ops.cast(), SOL_TCP, TCP_SYNCNT, (&raw mut count).cast(), 4) };
    if failed == 0 { count } else { SYN_COUNT_USUAL }
}

#[inline(always)]
fn set_syn_count(ops: *mut bpf_sock_ops, count: u32) {
    let mut count = count;
    // SAFETY: the helper reads four bytes from `count`.
    unsafe { bpf_setsockopt(ops.cast(), SOL_TCP, TCP_SYNCNT, (&raw mut count).cast(), 4) };
}
