//! Counters, and the words that the kernel side shares with the agent.

use core::arch::asm;

use agent_abi::word;
use aya_ebpf::helpers::bpf_ktime_get_ns;

use crate::maps::{STATS, WORDS};

/// Adds one to a counter of `agent_abi::stat`.
#[inline(always)]
pub fn count(index: u32) {
    if let Some(counter) = STATS.get_ptr_mut(index) {
        // SAFETY: a slot of this CPU; a preempted increment may lose a count, but corrupts no memory.
        unsafe { *counter += 1 };
    }
}

/// Adds to a word of `agent_abi::word` atomically; returns its value before, or `None` if `WORDS` lacks it.
#[inline(always)]
pub fn fetch_add(index: u32, delta: u64) -> Option<u64> {
    // SAFETY: an aligned slot that lives as long as the map.
    WORDS.get_ptr_mut(index).map(|word| unsafe { add(word, delta) })
}

/// Adds to a word of a map atomically; returns its value before. `core` has no read-modify-write for this
/// target, but the instruction set (v3) has one.
///
/// # Safety
///
/// `word` must be an aligned word of an entry that lives as long as the program runs.
#[inline(always)]
pub unsafe fn add(word: *mut u64, delta: u64) -> u64 {
    let mut value = delta;
    // SAFETY: the caller's promise.
    unsafe {
        asm!(
            "{value} = atomic_fetch_add((u64 *)({word} + 0), {value})",
            word = in(reg) word,
            value = inout(reg) value,
        );
    }
    value
}

/// A fresh node or image id. The kernel side's ids are even, the agent's own are odd.
#[inline(always)]
pub fn next_id() -> u64 {
    fetch_add(word::NEXT_ID, 2).unwrap_or(0)
}

/// Whether the agent has renewed its lease in time.
#[inline(always)]
pub fn lease_holds() -> bool {
    // SAFETY: the helper has no precondition.
    let now = unsafe { bpf_ktime_get_ns() };
    WORDS.get(word::LEASE).is_some_and(|until| now < *until)
}
