//! Who descends from a job's root: fork, exec and exit, keyed by thread group.
//!
//! A tid is never a key: a threaded exec takes over the leader's tid, and io_uring workers share the
//! tgid. The child's tag is written before it first runs, from the task that created it, so neither
//! reparenting nor `CLONE_PARENT` leaves the job.
//!
//! While one set of these programs takes over from another both run: what the first has done the second leaves alone.

use agent_abi::{EventKind, Node, TaskTag, stat, word};
use aya_ebpf::{
    Global,
    bindings::BPF_ANY,
    helpers::{bpf_get_current_uid_gid, generated::bpf_send_signal},
    macros::btf_tracepoint,
    programs::BtfTracePointContext,
};
use aya_log_ebpf::warn;

use crate::{
    image,
    maps::{IMAGES, NODES, count, current_tgid, fetch_add, insert_tag, next_id, remove_tag, tag_of, tell},
    offsets::{
        OFF_SIGNAL_LIVE, OFF_TASK_BORN, OFF_TASK_EXECS, OFF_TASK_PID, OFF_TASK_SIGNAL, OFF_TASK_TGID, field,
    },
    rules,
    shares::Shared,
};

const SIGKILL: u32 = 9;
/// In place of a parent's node: the edge to it is not known.
const LOST: u64 = u64::MAX;

/// Processes followed at once.
#[unsafe(no_mangle)]
pub static PROCESSES_MAX: Global<u32> = Global::new(agent_abi::PROCESSES_MAX);

/// `sched_process_fork(parent, child)`: the parent is the creating task, whatever becomes the child's parent.
#[btf_tracepoint(function = "sched_process_fork")]
pub fn lineal_fork(ctx: BtfTracePointContext) -> i32 {
    let child: *const u8 = ctx.arg(1);
    // SAFETY: the tracepoint's own task_struct; offsets from this kernel's BTF.
    let (pid, tgid) = unsafe { (field::<u32>(child, &OFF_TASK_PID), field::<u32>(child, &OFF_TASK_TGID)) };
    if pid != tgid {
        return 0; // A thread shares its group's tag.
    }
    let Some(creator) = tag_of(current_tgid()) else {
        // A reused PID must not inherit the tag of the process that had it before.
        remove_tag(tgid);
        return 0;
    };
    // SAFETY: as above.
    let born_ns = unsafe { field::<u64>(child, &OFF_TASK_BORN) };
    if tag_of(tgid).is_some_and(|tag| tag.born_ns == born_ns) {
        return 0;
    }
    if too_many() {
        // The child is still tagged below; its creator makes no second one.
        count(stat::TASKS_FULL);
        kill_current();
    }
    let TaskTag { job, image, execs, .. } = creator;
    let node = if creator.node == 0 { 0 } else { add_node(job, creator.node, image, tgid) };
    let tag = TaskTag { job, node, image, born_ns, execs, reserved: 0 };
    if insert_tag(tgid, &tag).is_err() {
        count(stat::TASKS_FULL);
        warn!(&ctx, "task map full: killing the creator of {}", tgid);
        kill_current();
    }
    tell(EventKind::Fork, tgid, job, node, 0);
    0
}

/// `sched_process_exec(task, old_pid, bprm)`: the same process, another image.
#[btf_tracepoint(function = "sched_process_exec")]
pub fn lineal_exec(ctx: BtfTracePointContext) -> i32 {
    let tgid = current_tgid();
    let Some(before) = tag_of(tgid) else {
        // An untagged process is of interest to a rule or to nobody.
        rules::on_exec(ctx.arg(0), ctx.arg(2), tgid, uid());
        return 0;
    };
    let execs = execs_of(ctx.arg(0));
    if before.execs == execs {
        return 0;
    }
    let parent = match before.node {
        0 => LOST,
        // SAFETY: a copy of an entry that only this process replaces.
        node => match unsafe { NODES.get(node) } {
            Some(node) => node.parent,
            None => LOST,
        },
    };
    // An unattributable process stays one: a lost edge must not turn it into a root.
    let (mut image, mut node) = (0, 0);
    if parent != LOST {
        image = image::record(ctx.arg(0), ctx.arg(2), before.job);
        node = add_node(before.job, parent, image, tgid);
        if node == 0 {
            image::forget(image, before.job);
            image = 0;
        }
    }
    if insert_tag(tgid, &TaskTag { node, image, execs, ..before }).is_err() {
        kill_current();
    }
    tell(EventKind::Exec, tgid, before.job, node, before.node);
    0
}

/// Counts one process more; answers whether that is too many.
#[inline(always)]
fn too_many() -> bool {
    // Signed: the agent's own additions may undo one of these, so that the count is below 0 for a moment.
    fetch_add(word::TASKS, 1).is_none_or(|tasks| tasks as i64 >= i64::from(PROCESSES_MAX.load()))
}

/// A task's count of execs.
#[inline(always)]
pub fn execs_of(task: *const u8) -> u32 {
    // SAFETY: the tracepoint's own task_struct; offsets from this kernel's BTF.
    unsafe { field(task, &OFF_TASK_EXECS) }
}

/// Tags the current process as a job's root; answers its node.
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

/// `sched_process_exit(task)`: forget the group when its last thread goes.
#[btf_tracepoint(function = "sched_process_exit")]
pub fn lineal_exit(ctx: BtfTracePointContext) -> i32 {
    let tgid = current_tgid();
    let Some(tag) = tag_of(tgid) else { return 0 };
    let task: *const u8 = ctx.arg(0);
    // SAFETY: typed loads along the tracepoint's own task.
    let live = unsafe { field::<i32>(field::<*const u8>(task, &OFF_TASK_SIGNAL), &OFF_SIGNAL_LIVE) };
    if live != 0 {
        return 0; // A zombie leader's threads run on.
    }
    remove_tag(tgid);
    let _ = fetch_add(word::TASKS, u64::MAX);
    tell(EventKind::Exit, tgid, tag.job, tag.node, 0);
    0
}

#[inline(always)]
fn add_node(job: u64, parent: u64, image: u64, tgid: u32) -> u64 {
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

#[inline(always)]
fn uid() -> u32 {
    bpf_get_current_uid_gid() as u32
}

#[inline(always)]
fn kill_current() {
    // SAFETY: plain helper; it signals the current task's group.
    let _ = unsafe { bpf_send_signal(SIGKILL) };
}
