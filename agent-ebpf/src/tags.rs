//! Tags of followed processes, their lineage nodes, and the bound on how many are followed.

use core::arch::asm;

use agent_abi::{Node, TaskTag, stat, word};
use aya_ebpf::{
    Global,
    bindings::BPF_ANY,
    helpers::{
        bpf_get_current_pid_tgid, bpf_get_current_uid_gid,
        generated::{bpf_get_current_task_btf, bpf_send_signal},
    },
};

use crate::{
    maps::{IMAGES, MARKS, NODES, TASKS},
    offsets::{OFF_TASK_EXECS, OFF_TASK_TGID, field},
    shares::Shared,
    words::{count, fetch_add, next_id},
};

const SIGKILL: u32 = 9;

/// Processes followed at once; the loader sets it.
#[unsafe(no_mangle)]
pub static PROCESSES_MAX: Global<u32> = Global::new(agent_abi::PROCESSES_MAX);

/// The current task's thread group.
#[inline(always)]
pub fn current_tgid() -> u32 {
    (bpf_get_current_pid_tgid() >> 32) as u32
}

/// The current task's thread group, for the programs on packets: not every supported kernel gives them the
/// helper.
#[inline(always)]
pub fn task_tgid() -> u32 {
    // SAFETY: the kernel's own task_struct; the offset from this kernel's BTF.
    unsafe { field(bpf_get_current_task_btf().cast::<u8>().cast_const(), &OFF_TASK_TGID) }
}

/// The current task's user.
#[inline(always)]
pub fn uid() -> u32 {
    bpf_get_current_uid_gid() as u32
}

/// A task's count of execs.
#[inline(always)]
pub fn execs_of(task: *const u8) -> u32 {
    // SAFETY: the tracepoint's own task_struct; offsets from this kernel's BTF.
    unsafe { field(task, &OFF_TASK_EXECS) }
}

/// The tag of a process; `None` for a process outside every job.
#[inline(always)]
pub fn tag_of(tgid: u32) -> Option<TaskTag> {
    if !is_marked(tgid) {
        return None;
    }
    // SAFETY: a copy; entries are replaced whole, and a tag is only ever changed by its own process.
    unsafe { TASKS.get(tgid) }.copied()
}

/// Tags a process.
#[inline(always)]
pub fn insert_tag(tgid: u32, tag: &TaskTag) -> Result<(), i32> {
    if let Some(word) = MARKS.get_ptr_mut(tgid / u64::BITS) {
        // SAFETY: an aligned slot that lives as long as the map.
        unsafe {
            asm!(
                "lock *(u64 *)({word} + 0) |= {bit}",
                word = in(reg) word,
                bit = in(reg) 1u64 << (tgid % u64::BITS),
            );
        }
    }
    TASKS.insert(tgid, tag, BPF_ANY.into())
}

/// Removes a process's tag, if it has one.
///
/// The mark goes first. The agent may be tagging this tgid at the same moment. If the entry went first, the
/// agent could insert its tag and set the mark in between, and the mark would then be cleared here: a tag
/// without a mark is never found and never removed.
#[inline(always)]
pub fn remove_tag(tgid: u32) {
    if !is_marked(tgid) {
        return;
    }
    if let Some(word) = MARKS.get_ptr_mut(tgid / u64::BITS) {
        // SAFETY: an aligned slot that lives as long as the map.
        unsafe {
            asm!(
                "lock *(u64 *)({word} + 0) &= {rest}",
                word = in(reg) word,
                rest = in(reg) !(1u64 << (tgid % u64::BITS)),
            );
        }
    }
    let _ = TASKS.remove(tgid);
}

/// Whether a process may have a tag.
#[inline(always)]
fn is_marked(tgid: u32) -> bool {
    // SAFETY: an aligned slot that lives as long as the map; others change it atomically.
    MARKS
        .get_ptr(tgid / u64::BITS)
        .is_none_or(|word| unsafe { word.read_volatile() } >> (tgid % u64::BITS) & 1 != 0)
}

/// Tags the current process as the root of a job that a rule begins; returns its node, 0 if no node could be
/// kept.
#[inline(always)]
pub fn begin(tgid: u32, execs: u32, job: u64, image: u64) -> u64 {
    if too_many() {
        count(stat::TASKS_FULL);
        kill_current();
    }
    let mut image = image;
    let node = add_node(job, 0, image, tgid);
    if node == 0 {
        let _ = IMAGES.remove(image);
        image = 0;
    }
    let tag = TaskTag { job, node, image, born_ns: 0, execs, reserved: 0 };
    if insert_tag(tgid, &tag).is_err() {
        count(stat::TASKS_FULL);
        kill_current();
    }
    node
}

/// Counts one more followed process; true if that is one too many.
#[inline(always)]
pub fn too_many() -> bool {
    // Signed: the agent's own additions may undo one of these, so the count may be below 0 for a moment.
    fetch_add(word::TASKS, 1).is_none_or(|tasks| tasks as i64 >= i64::from(PROCESSES_MAX.load()))
}

/// Makes a lineage node as part of its job's share; returns its id. It is 0, and the process unattributable,
/// if there is no image, no share left or no room.
#[inline(always)]
pub fn add_node(job: u64, parent: u64, image: u64, tgid: u32) -> u64 {
    let id = next_id();
    let node = Node { job, parent, image, tgid, uid: uid(), flags: 0, reserved: 0 };
    if image == 0 || !Shared::Node.take(job) {
        return 0;
    }
    if NODES.insert(id, node, BPF_ANY.into()).is_err() {
        Shared::Node.give_back(job);
        count(stat::NODES_FULL);
        return 0;
    }
    id
}

/// Kills the current process: it could not be followed otherwise.
#[inline(always)]
pub fn kill_current() {
    // SAFETY: the helper has no precondition; it signals the current task's group.
    let _ = unsafe { bpf_send_signal(SIGKILL) };
}
