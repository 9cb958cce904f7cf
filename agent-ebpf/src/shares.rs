//! What each job takes of the maps that all jobs share: one that takes too much is denied more, and nobody else is.
//!
//! The kernel side counts what it gives, the agent what it has let go of: each writes a map of its own, and the difference
//! is what a job holds. What the agent itself adds is not counted, which leaves a job as much more.

use agent_abi::{JOB_SHUT_OFF, JobUse, stat};
use aya_ebpf::{Global, bindings::BPF_NOEXIST};

use crate::maps::{JOBS, USES, add, count};

/// Nodes that one job may hold.
#[unsafe(no_mangle)]
pub static NODES_PER_JOB: Global<u32> =
    Global::new(agent_abi::capacity::share(agent_abi::capacity::nodes(agent_abi::PROCESSES_MAX)));
/// Images, likewise.
#[unsafe(no_mangle)]
pub static IMAGES_PER_JOB: Global<u32> =
    Global::new(agent_abi::capacity::share(agent_abi::capacity::images(agent_abi::PROCESSES_MAX)));

/// Takes room for a node; false if the job has its share.
#[inline(always)]
pub fn take_node(job: u64) -> bool {
    let Some(uses) = uses(job) else { return full() };
    // SAFETY: a copy of an entry that the agent replaces whole.
    let freed = unsafe { JOBS.get(job) }.map_or(0, |word| word.nodes);
    // SAFETY: a field of an entry that lives as long as this program runs; it is only ever added to, atomically.
    let given = unsafe { add(&raw mut (*uses).nodes, 1) };
    // Signed: what the agent added itself it lets go of, too.
    if given.wrapping_sub(freed) as i64 >= i64::from(NODES_PER_JOB.load()) {
        give_node_back(job);
        return full();
    }
    true
}

/// Takes room for an image, likewise.
#[inline(always)]
pub fn take_image(job: u64) -> bool {
    let Some(uses) = uses(job) else { return full() };
    // SAFETY: as above.
    let freed = unsafe { JOBS.get(job) }.map_or(0, |word| word.images);
    // SAFETY: as above.
    let given = unsafe { add(&raw mut (*uses).images, 1) };
    if given.wrapping_sub(freed) as i64 >= i64::from(IMAGES_PER_JOB.load()) {
        give_image_back(job);
        return full();
    }
    true
}

/// Gives back room for a node that was not made.
#[inline(always)]
pub fn give_node_back(job: u64) {
    if let Some(uses) = USES.get_ptr_mut(job) {
        // SAFETY: as above.
        unsafe { add(&raw mut (*uses).nodes, u64::MAX) };
    }
}

/// Gives back room for an image that was not kept.
#[inline(always)]
pub fn give_image_back(job: u64) {
    if let Some(uses) = USES.get_ptr_mut(job) {
        // SAFETY: as above.
        unsafe { add(&raw mut (*uses).images, u64::MAX) };
    }
}

/// Whether a job may begin nothing any more.
#[inline(always)]
pub fn is_shut_off(job: u64) -> bool {
    // SAFETY: as above.
    unsafe { JOBS.get(job) }.is_some_and(|word| word.flags & JOB_SHUT_OFF != 0)
}

#[inline(always)]
fn uses(job: u64) -> Option<*mut JobUse> {
    if let Some(uses) = USES.get_ptr_mut(job) {
        return Some(uses);
    }
    // Another of the job's processes may be first.
    let _ = USES.insert(job, JobUse { nodes: 0, images: 0 }, BPF_NOEXIST.into());
    USES.get_ptr_mut(job)
}

#[inline(always)]
fn full() -> bool {
    count(stat::SHARE_FULL);
    false
}
