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

/// What a job has a share of.
#[derive(Clone, Copy)]
pub enum Shared {
    Node,
    Image,
}

impl Shared {
    /// How many one job may hold.
    #[inline(always)]
    fn most(self) -> u32 {
        match self {
            Self::Node => NODES_PER_JOB.load(),
            Self::Image => IMAGES_PER_JOB.load(),
        }
    }

    /// Where it is counted what a job was given.
    #[inline(always)]
    fn given(self, uses: *mut JobUse) -> *mut u64 {
        // SAFETY: fields of an entry that lives as long as this program runs.
        unsafe {
            match self {
                Self::Node => &raw mut (*uses).nodes,
                Self::Image => &raw mut (*uses).images,
            }
        }
    }

    /// How many of a job's the agent has let go of.
    #[inline(always)]
    fn freed(self, job: u64) -> u64 {
        // SAFETY: a copy of an entry that the agent replaces whole.
        unsafe { JOBS.get(job) }.map_or(0, |word| match self {
            Self::Node => word.nodes,
            Self::Image => word.images,
        })
    }

    /// Takes room for one; false if the job has its share.
    #[inline(always)]
    pub fn take(self, job: u64) -> bool {
        let Some(uses) = uses(job) else { return full() };
        // SAFETY: only ever added to, atomically.
        let given = unsafe { add(self.given(uses), 1) };
        // Signed: what the agent added itself it lets go of, too.
        if given.wrapping_sub(self.freed(job)) as i64 >= i64::from(self.most()) {
            self.give_back(job);
            return full();
        }
        true
    }

    /// Gives back room for one that was not kept.
    #[inline(always)]
    pub fn give_back(self, job: u64) {
        if let Some(uses) = USES.get_ptr_mut(job) {
            // SAFETY: as above.
            unsafe { add(self.given(uses), u64::MAX) };
        }
    }
}

/// Whether a job may begin nothing any more.
#[inline(always)]
pub fn is_shut_off(job: u64) -> bool {
    // SAFETY: a copy of an entry that the agent replaces whole.
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
