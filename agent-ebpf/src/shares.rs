//! Bounds what one job can take of the maps that all jobs share: a job over its share gets no new entries,
//! and others are unaffected.
//!
//! The kernel side counts the entries that it makes for a job, the agent counts those that it has removed.
//! Each writes a map of its own; the difference is what the job holds. Entries that the agent itself makes
//! are not counted as made, but are counted when removed, so a job may hold as many more.

use agent_abi::{JOB_SHUT_OFF, JobUse, stat};
use aya_ebpf::{Global, bindings::BPF_NOEXIST};

use crate::{
    maps::{JOBS, USES},
    words::{add, count},
};

/// Nodes that one job may hold; the loader sets it.
#[unsafe(no_mangle)]
pub static NODES_PER_JOB: Global<u32> =
    Global::new(agent_abi::capacity::share(agent_abi::capacity::nodes(agent_abi::PROCESSES_MAX)));
/// Images that one job may hold; the loader sets it.
#[unsafe(no_mangle)]
pub static IMAGES_PER_JOB: Global<u32> =
    Global::new(agent_abi::capacity::share(agent_abi::capacity::images(agent_abi::PROCESSES_MAX)));

/// What each job has a share of.
#[derive(Clone, Copy)]
pub enum Shared {
    /// Lineage nodes.
    Node,
    /// Executed images.
    Image,
}

impl Shared {
    /// How many of these one job may hold.
    #[inline(always)]
    fn most(self) -> u32 {
        match self {
            Self::Node => NODES_PER_JOB.load(),
            Self::Image => IMAGES_PER_JOB.load(),
        }
    }

    /// The counter of those made for a job.
    #[inline(always)]
    fn made(self, uses: *mut JobUse) -> *mut u64 {
        // SAFETY: fields of an entry that lives as long as this program runs.
        unsafe {
            match self {
                Self::Node => &raw mut (*uses).nodes,
                Self::Image => &raw mut (*uses).images,
            }
        }
    }

    /// How many of a job's the agent has removed.
    #[inline(always)]
    fn removed(self, job: u64) -> u64 {
        // SAFETY: a copy of an entry that the agent replaces whole.
        unsafe { JOBS.get(job) }.map_or(0, |control| match self {
            Self::Node => control.nodes,
            Self::Image => control.images,
        })
    }

    /// Reserves one for a job; false, and counted, if the job has its share already.
    #[inline(always)]
    pub fn take(self, job: u64) -> bool {
        let Some(uses) = uses(job) else { return full() };
        // SAFETY: only ever added to, atomically.
        let made = unsafe { add(self.made(uses), 1) };
        // Signed: the agent also removes entries that it made itself, so more may be removed than were made
        // here.
        if made.wrapping_sub(self.removed(job)) as i64 >= i64::from(self.most()) {
            self.give_back(job);
            return full();
        }
        true
    }

    /// Gives back a reservation for an entry that was not made.
    #[inline(always)]
    pub fn give_back(self, job: u64) {
        if let Some(uses) = USES.get_ptr_mut(job) {
            // SAFETY: only ever added to, atomically.
            unsafe { add(self.made(uses), u64::MAX) };
        }
    }
}

/// Whether the agent has shut a job off: it may begin nothing any more.
#[inline(always)]
pub fn is_shut_off(job: u64) -> bool {
    // SAFETY: a copy of an entry that the agent replaces whole.
    unsafe { JOBS.get(job) }.is_some_and(|control| control.flags & JOB_SHUT_OFF != 0)
}

/// A job's counters, made on first use.
#[inline(always)]
fn uses(job: u64) -> Option<*mut JobUse> {
    if let Some(uses) = USES.get_ptr_mut(job) {
        return Some(uses);
    }
    // Another process of the job may insert it first: then that entry counts.
    let _ = USES.insert(job, JobUse { nodes: 0, images: 0 }, BPF_NOEXIST.into());
    USES.get_ptr_mut(job)
}

/// Counts a reservation that was refused.
#[inline(always)]
fn full() -> bool {
    count(stat::SHARE_FULL);
    false
}
