//! Follows who descends from a job's root: fork, exec and exit, keyed by thread group.
//!
//! A thread id is never a key: a threaded exec takes over the leader's, and io_uring workers share the thread
//! group's. The child's tag is written before the child first runs, from the task that created it, so neither
//! reparenting nor `CLONE_PARENT` leads out of the job.
//!
//! While one agent's programs replace another's, both sets run: each event is handled by the first set that
//! sees it, and left alone by the second.

use agent_abi::{EventKind, TaskTag, stat, word};
use aya_ebpf::{macros::btf_tracepoint, programs::BtfTracePointContext};
use aya_log_ebpf::warn;

use crate::{
    events::tell,
    image,
    maps::NODES,
    offsets::{OFF_SIGNAL_LIVE, OFF_TASK_BORN, OFF_TASK_PID, OFF_TASK_SIGNAL, OFF_TASK_TGID, field},
    rules,
    tags::{add_node, current_tgid, execs_of, insert_tag, kill_current, remove_tag, tag_of, too_many, uid},
    words::{count, fetch_add},
};

/// Stands for a parent node that is not known.
const PARENT_UNKNOWN: u64 = u64::MAX;

/// `sched_process_fork(parent, child)`: tags the child. The tracepoint's parent is the creating task, even
/// where `CLONE_PARENT` gives the child another parent.
#[btf_tracepoint(function = "sched_process_fork")]
pub fn lineal_fork(ctx: BtfTracePointContext) -> i32 {
    let child: *const u8 = ctx.arg(1);
    // SAFETY: the tracepoint's own task_struct; offsets from this kernel's BTF.
    let (pid, tgid) = unsafe { (field::<u32>(child, &OFF_TASK_PID), field::<u32>(child, &OFF_TASK_TGID)) };
    if pid != tgid {
        return 0; // A thread shares its group's tag.
    }
    let Some(creator) = tag_of(current_tgid()) else {
        // A process that reuses a PID must not inherit the tag of the process that had it before.
        remove_tag(tgid);
        rules::on_fork(uid());
        return 0;
    };
    // SAFETY: the tracepoint's own task_struct; offsets from this kernel's BTF.
    let born_ns = unsafe { field::<u64>(child, &OFF_TASK_BORN) };
    if tag_of(tgid).is_some_and(|tag| tag.born_ns == born_ns) {
        return 0; // Another agent's programs have handled this fork.
    }
    if too_many() {
        // The child is still tagged below; its killed creator makes no second one.
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

/// `sched_process_exec(task, old_pid, bprm)`: gives a followed process a new node with the image that it runs
/// now, and asks the rules about any other process.
#[btf_tracepoint(function = "sched_process_exec")]
pub fn lineal_exec(ctx: BtfTracePointContext) -> i32 {
    let tgid = current_tgid();
    let Some(before) = tag_of(tgid) else {
        // Only a rule can care about an untagged process.
        rules::on_exec(ctx.arg(0), ctx.arg(2), tgid, uid());
        return 0;
    };
    let execs = execs_of(ctx.arg(0));
    if before.execs == execs {
        return 0; // Another agent's programs have handled this exec.
    }
    let parent = match before.node {
        0 => PARENT_UNKNOWN,
        // SAFETY: a copy of an entry that only this process replaces.
        node => match unsafe { NODES.get(node) } {
            Some(node) => node.parent,
            None => PARENT_UNKNOWN,
        },
    };
    // A process without a known parent node stays unattributable: a node without a parent would make it a
    // root.
    let (mut image, mut node) = (0, 0);
    if parent != PARENT_UNKNOWN {
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

/// `sched_process_exit(task)`: removes the tag when the process's last thread ends.
#[btf_tracepoint(function = "sched_process_exit")]
pub fn lineal_exit(ctx: BtfTracePointContext) -> i32 {
    let tgid = current_tgid();
    let Some(tag) = tag_of(tgid) else { return 0 };
    let task: *const u8 = ctx.arg(0);
    // SAFETY: typed loads along the tracepoint's own task.
    let live = unsafe { field::<i32>(field::<*const u8>(task, &OFF_TASK_SIGNAL), &OFF_SIGNAL_LIVE) };
    if live != 0 {
        return 0; // Other threads run on, perhaps without their leader.
    }
    remove_tag(tgid);
    let _ = fetch_add(word::TASKS, u64::MAX);
    tell(EventKind::Exit, tgid, tag.job, tag.node, 0);
    0
}
