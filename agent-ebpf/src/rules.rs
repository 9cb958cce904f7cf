//! Enrolment by rule: an execution that a rule matches begins a job that has shown no token.
//!
//! A rule matches a user, a cgroup with everything below it, or an executable. Which of these kinds are in
//! use is known when the programs are loaded, and the verifier drops the look-ups of the others. A cgroup is
//! matched when it is created, so that an execution costs one look-up by cgroup id.

use agent_abi::{
    EventKind, FILE_NAME_BYTES, RULE_BY_CGROUP, RULE_BY_EXE, RULE_BY_UID, RULE_NAME_BYTES, RULE_PATH_BYTES,
    RuleKeys, Unidentified, stat, word,
};
use aya_ebpf::{
    Global,
    bindings::BPF_ANY,
    helpers::{
        bpf_get_prandom_u32, bpf_probe_read_kernel_buf, bpf_probe_read_kernel_str_bytes,
        generated::bpf_get_current_cgroup_id,
    },
    macros::btf_tracepoint,
    programs::BtfTracePointContext,
};

use crate::{
    events::tell,
    image,
    maps::{
        CGROUPS, EXES, FILE_NAMES, IMAGE_SCRATCH, IMAGES, PATHS, RULE_KEYS, RULES, UIDS, UNIDENTIFIED, UNITS,
    },
    offsets::{
        OFF_BPRM_FILE, OFF_CGROUP_KN, OFF_CGROUP_ROOT, OFF_CSS_PARENT, OFF_DENTRY_NAME, OFF_FILE_PATH,
        OFF_KN_ID, OFF_KN_NAME, OFF_PATH_DENTRY, OFF_QSTR_NAME, OFF_ROOT_HIERARCHY, read,
    },
    tags,
    words::{count, fetch_add},
};

/// Which kinds of rules there are; the loader sets it: [`RULE_BY_UID`] | [`RULE_BY_CGROUP`] |
/// [`RULE_BY_EXE`].
#[unsafe(no_mangle)]
pub static RULE_KINDS: Global<u32> = Global::new(0);

/// Stands for a rule that may match: it names an executable with the executed file's name. The path decides,
/// once it is recorded.
const BY_NAME: u32 = u32::MAX;

/// Begins a job if a rule matches what the untagged process `tgid` has just executed.
#[inline(always)]
pub fn on_exec(task: *const u8, bprm: *const u8, tgid: u32, uid: u32) {
    let Some(mut rule) = matching(bprm, uid) else { return };
    let image = image::record_first(task, bprm);
    if rule == BY_NAME {
        rule = match executable() {
            Some(rule) => rule,
            None => {
                let _ = IMAGES.remove(image);
                return;
            }
        };
    }
    begin(tgid, tags::execs_of(task), rule, image);
}

/// Counts the fork of an untagged process that a rule by user or cgroup matches: the agent, which searches
/// for such processes as it starts, learns that there was one, even if it finds neither parent nor child.
#[inline(always)]
pub fn on_fork(uid: u32) {
    let kinds = RULE_KINDS.load();
    // SAFETY: only presence is asked.
    let matched = unsafe {
        kinds & RULE_BY_UID != 0 && UIDS.get(uid).is_some()
            || kinds & RULE_BY_CGROUP != 0 && CGROUPS.get(bpf_get_current_cgroup_id()).is_some()
    };
    if matched {
        let _ = fetch_add(word::MATCHED_FORKS, 1);
    }
}

/// The rule that matches an execution, or [`BY_NAME`].
#[inline(always)]
fn matching(bprm: *const u8, uid: u32) -> Option<u32> {
    let kinds = RULE_KINDS.load();
    // SAFETY (here and below): copies; rules are written before the programs are attached and never changed
    // after.
    if kinds & RULE_BY_UID != 0
        && let Some(rule) = unsafe { UIDS.get(uid) }
    {
        return Some(*rule);
    }
    if kinds & RULE_BY_CGROUP != 0
        && let Some(rule) = unsafe { CGROUPS.get(bpf_get_current_cgroup_id()) }
    {
        return Some(*rule);
    }
    (kinds & RULE_BY_EXE != 0 && is_named(bprm).is_some()).then_some(BY_NAME)
}

/// Begins a job of a rule, with the process as its root.
#[inline(always)]
fn begin(tgid: u32, execs: u32, rule: u32, image: u64) {
    // SAFETY: the helpers have no precondition.
    let (high, low) = unsafe { (bpf_get_prandom_u32(), bpf_get_prandom_u32()) };
    let job = u64::from(high) << 32 | u64::from(low | 1);
    let mut begun = Unidentified { rule: [0; RULE_NAME_BYTES], tgid, flags: 0 };
    if let Some(name) = RULES.get(rule) {
        begun.rule = *name;
    }
    if UNIDENTIFIED.insert(job, begun, BPF_ANY.into()).is_err() {
        // The process is tagged all the same: in a job that the agent does not know it is granted nothing.
        count(stat::UNIDENTIFIED_FULL);
    }
    let node = tags::begin(tgid, execs, job, image);
    tell(EventKind::Enrol, tgid, job, node, 0);
}

/// Whether a rule names an executable with the executed file's name. For most files none does, and the
/// costlier look-up by path is spared.
#[inline(always)]
fn is_named(bprm: *const u8) -> Option<()> {
    let keys = keys()?;
    // SAFETY: fields of the kernel's own structures at their BTF offsets, by checked reads.
    unsafe {
        let file: *const u8 = read(bprm, &OFF_BPRM_FILE)?;
        let path = file.wrapping_add(OFF_FILE_PATH.load() as usize);
        let dentry: *const u8 = read(path, &OFF_PATH_DENTRY)?;
        let text: *const u8 = read(dentry.wrapping_add(OFF_DENTRY_NAME.load() as usize), &OFF_QSTR_NAME)?;
        bpf_probe_read_kernel_str_bytes(text, &mut keys.name).ok()?;
        FILE_NAMES.get(&keys.name).map(|_| ())
    }
}

/// The rule that names the executable whose path was recorded last on this CPU.
#[inline(always)]
fn executable() -> Option<u32> {
    let image = IMAGE_SCRATCH.get(0)?;
    let keys = keys()?;
    let len = image.exe_len as usize;
    if len == 0 || len >= keys.path.len() {
        return None;
    }
    let part = keys.path.get_mut(..len)?;
    // SAFETY: reads within the image, writes within the key.
    unsafe {
        bpf_probe_read_kernel_buf(image.exe.as_ptr(), part).ok()?;
        EXES.get(&keys.path).copied()
    }
}

/// This CPU's scratch space for keys, zeroed.
#[inline(always)]
fn keys() -> Option<&'static mut RuleKeys> {
    // SAFETY: a slot of this CPU, which no other program uses meanwhile.
    let keys = unsafe { &mut *RULE_KEYS.get_ptr_mut(0)? };
    keys.name = [0; FILE_NAME_BYTES];
    keys.path = [0; RULE_PATH_BYTES];
    Some(keys)
}

/// `cgroup_mkdir(cgroup, path)`: finds the rule that covers a new cgroup, before any process can be in it.
#[btf_tracepoint(function = "cgroup_mkdir")]
pub fn lineal_cgroup_mkdir(ctx: BtfTracePointContext) -> i32 {
    if RULE_KINDS.load() & RULE_BY_CGROUP != 0 {
        let _ = classify(ctx.arg(0), ctx.arg(1));
    }
    0
}

/// `cgroup_rmdir(cgroup, path)`: forgets a removed cgroup.
#[btf_tracepoint(function = "cgroup_rmdir")]
pub fn lineal_cgroup_rmdir(ctx: BtfTracePointContext) -> i32 {
    if RULE_KINDS.load() & RULE_BY_CGROUP != 0
        && let Some(id) = id_of(ctx.arg(0))
    {
        let _ = CGROUPS.remove(id);
    }
    0
}

/// Notes the rule that covers a cgroup, if one does.
#[inline(always)]
fn classify(cgroup: *const u8, path: *const u8) -> Option<()> {
    let id = id_of(cgroup)?;
    let rule = rule_of(cgroup, path)?;
    if CGROUPS.insert(id, rule, BPF_ANY.into()).is_err() {
        count(stat::CGROUPS_FULL);
    }
    Some(())
}

/// The rule that covers a cgroup: its parent's, or one that names the cgroup or its path.
#[inline(always)]
fn rule_of(cgroup: *const u8, path: *const u8) -> Option<u32> {
    // SAFETY: fields of the kernel's own structures at their BTF offsets, by checked reads; copies of entries
    // that are never changed.
    unsafe {
        // `struct cgroup` begins with its own `cgroup_subsys_state`, whose parent is that of the parent
        // cgroup, so the same pointer serves for both.
        let parent: *const u8 = read(cgroup, &OFF_CSS_PARENT)?;
        if let Some(rule) = id_of(parent).and_then(|parent| CGROUPS.get(parent)) {
            return Some(*rule);
        }
        let keys = keys()?;
        let node: *const u8 = read(cgroup, &OFF_CGROUP_KN)?;
        let name: *const u8 = read(node, &OFF_KN_NAME)?;
        bpf_probe_read_kernel_str_bytes(name, &mut keys.name).ok()?;
        if let Some(rule) = UNITS.get(&keys.name) {
            return Some(*rule);
        }
        bpf_probe_read_kernel_str_bytes(path, &mut keys.path).ok()?;
        PATHS.get(&keys.path).copied()
    }
}

/// A cgroup's id; `None` outside the unified hierarchy, where the same id can stand for another cgroup.
#[inline(always)]
fn id_of(cgroup: *const u8) -> Option<u64> {
    // SAFETY: fields of the kernel's own structures at their BTF offsets, by checked reads.
    unsafe {
        let root: *const u8 = read(cgroup, &OFF_CGROUP_ROOT)?;
        if read::<i32>(root, &OFF_ROOT_HIERARCHY)? != 0 {
            return None;
        }
        let node: *const u8 = read(cgroup, &OFF_CGROUP_KN)?;
        read(node, &OFF_KN_ID)
    }
}
