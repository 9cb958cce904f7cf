//! Every map, and the few operations on them that several programs share.
//!
//! No map here is LRU: an evicted tag would be an escape. Each has a named bound in `agent_abi`, and what
//! happens there is counted. The agent may create them with other bounds.

use core::arch::asm;

use agent_abi::{
    Datagram, EVENTS_BYTES, Event, EventKind, FILE_NAME_BYTES, FLOWS_MAX, Flow, FlowKey, Image, JobUse,
    JobWord, Listener, MARKS_WORDS, NAMESPACES_MAX, Node, PROCESSES_MAX, RESOLVERS_MAX, RULE_NAME_BYTES,
    RULE_PATH_BYTES, RULES_MAX, Refusal, RuleKeys, SocketTag, TaskTag, Unidentified, capacity, stat, word,
};
use aya_ebpf::{
    bindings::{BPF_ANY, BPF_F_MMAPABLE, BPF_F_NO_PREALLOC, BPF_SK_STORAGE_GET_F_CREATE, bpf_sock},
    btf_maps::SkStorage,
    helpers::{bpf_get_current_pid_tgid, bpf_ktime_get_ns, generated::bpf_sk_storage_get},
    macros::{btf_map, map},
    maps::{Array, HashMap, PerCpuArray, RingBuf},
};

/// tgid → the job and node of a followed process.
#[map]
pub static TASKS: HashMap<u32, TaskTag> = HashMap::with_max_entries(capacity::tasks(PROCESSES_MAX), 0);

/// A bit for each tgid: whether to look it up in the map above at all. Nearly every process is in no job, and learns that
/// from a word that its neighbours keep in the cache. The agent sets bits, too, by the same atomic operations.
#[map]
pub static MARKS: Array<u64> = Array::with_max_entries(MARKS_WORDS, BPF_F_MMAPABLE);

/// Node id → the node. The agent removes nodes that nothing descends from any more.
#[map]
pub static NODES: HashMap<u64, Node> =
    HashMap::with_max_entries(capacity::nodes(PROCESSES_MAX), BPF_F_NO_PREALLOC);

/// Image id → what was executed.
#[map]
pub static IMAGES: HashMap<u64, Image> =
    HashMap::with_max_entries(capacity::images(PROCESSES_MAX), BPF_F_NO_PREALLOC);

/// Job → what it was given of the two maps above.
#[map]
pub static USES: HashMap<u64, JobUse> =
    HashMap::with_max_entries(capacity::jobs(PROCESSES_MAX), BPF_F_NO_PREALLOC);

/// Job → what the agent says of it.
#[map]
pub static JOBS: HashMap<u64, JobWord> =
    HashMap::with_max_entries(capacity::jobs(PROCESSES_MAX), BPF_F_NO_PREALLOC);

/// Connections on their way to the agent. The agent removes what it has accepted, and what is old.
#[map]
pub static FLOWS: HashMap<FlowKey, Flow> = HashMap::with_max_entries(FLOWS_MAX, 0);

/// Network namespace cookie → the agent's listener in it.
#[map]
pub static LISTENERS: HashMap<u64, Listener> = HashMap::with_max_entries(NAMESPACES_MAX, 0);

/// Datagram destinations that jobs may use.
#[map]
pub static RESOLVERS: HashMap<Datagram, u8> = HashMap::with_max_entries(RESOLVERS_MAX, 0);

/// Job → the rule that began it, until it has shown a token or ended.
#[map]
pub static UNIDENTIFIED: HashMap<u64, Unidentified> =
    HashMap::with_max_entries(capacity::unidentified(PROCESSES_MAX), BPF_F_NO_PREALLOC);

/// Names of the rules of enrolment. The maps below find a rule's place in it.
#[map]
pub static RULES: Array<[u8; RULE_NAME_BYTES]> = Array::with_max_entries(RULES_MAX, 0);

/// User → rule.
#[map]
pub static UIDS: HashMap<u32, u32> = HashMap::with_max_entries(RULES_MAX, 0);

/// Cgroup id → rule: every one that falls under one.
#[map]
pub static CGROUPS: HashMap<u64, u32> =
    HashMap::with_max_entries(capacity::cgroups(PROCESSES_MAX), BPF_F_NO_PREALLOC);

/// Name of a cgroup, as systemd names a unit's → rule.
#[map]
pub static UNITS: HashMap<[u8; FILE_NAME_BYTES], u32> = HashMap::with_max_entries(RULES_MAX, 0);

/// Path of a cgroup → rule.
#[map]
pub static PATHS: HashMap<[u8; RULE_PATH_BYTES], u32> = HashMap::with_max_entries(RULES_MAX, 0);

/// Names of the executables below.
#[map]
pub static FILE_NAMES: HashMap<[u8; FILE_NAME_BYTES], u32> = HashMap::with_max_entries(RULES_MAX, 0);

/// Path of an executable, as in an image → rule.
#[map]
pub static EXES: HashMap<[u8; RULE_PATH_BYTES], u32> = HashMap::with_max_entries(RULES_MAX, 0);

/// Where keys of the maps above are put together.
#[map]
pub static RULE_KEYS: PerCpuArray<RuleKeys> = PerCpuArray::with_max_entries(1, 0);

/// Wakes the agent.
#[map]
pub static EVENTS: RingBuf = RingBuf::with_byte_size(EVENTS_BYTES, 0);

/// Counters, see `agent_abi::stat`.
#[map]
pub static STATS: PerCpuArray<u64> = PerCpuArray::with_max_entries(stat::COUNT, 0);

/// Words shared with the agent, see `agent_abi::word`.
#[map]
pub static WORDS: Array<u64> = Array::with_max_entries(word::COUNT, 0);

/// Where an image is put together: larger than a program's stack.
#[map]
pub static IMAGE_SCRATCH: PerCpuArray<Image> = PerCpuArray::with_max_entries(1, 0);

/// Socket → who made it and where it was meant to go.
#[btf_map]
pub static SOCKETS: SkStorage<SocketTag> = SkStorage::new();

/// The current task's thread group.
#[inline(always)]
pub fn current_tgid() -> u32 {
    (bpf_get_current_pid_tgid() >> 32) as u32
}

/// The tag of a process.
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
            asm!("lock *(u64 *)({word} + 0) |= {bit}", word = in(reg) word, bit = in(reg) 1u64 << (tgid % u64::BITS));
        }
    }
    TASKS.insert(tgid, tag, BPF_ANY.into())
}

/// Takes a process's tag away, if it has one. The mark goes first: the agent may be tagging a number that is another's by
/// now, and what it tags last must not stay without a mark, which nothing would ever clear.
#[inline(always)]
pub fn remove_tag(tgid: u32) {
    if !is_marked(tgid) {
        return;
    }
    if let Some(word) = MARKS.get_ptr_mut(tgid / u64::BITS) {
        // SAFETY: as above.
        unsafe {
            asm!("lock *(u64 *)({word} + 0) &= {rest}", word = in(reg) word, rest = in(reg) !(1u64 << (tgid % u64::BITS)));
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

/// The storage of a socket, or null.
#[inline(always)]
pub fn socket_tag(sk: *mut bpf_sock) -> *mut SocketTag {
    storage(sk, core::ptr::null_mut(), 0)
}

/// The tag that a socket's stamp stands for: of the followed process that made it, if one did.
#[inline(always)]
pub fn stamped(sk: *mut bpf_sock) -> Option<TaskTag> {
    if sk.is_null() {
        return None;
    }
    // SAFETY: null or this socket's storage.
    let SocketTag { job, node, .. } = *unsafe { socket_tag(sk).as_ref() }?;
    (job != 0).then_some(TaskTag { job, node, image: 0, born_ns: 0, execs: 0, reserved: 0 })
}

/// The storage of a socket, made with `value` if there was none; null when it can't be made.
#[inline(always)]
pub fn socket_tag_or_insert(sk: *mut bpf_sock, value: &mut SocketTag) -> *mut SocketTag {
    storage(sk, value, BPF_SK_STORAGE_GET_F_CREATE.into())
}

#[inline(always)]
fn storage(sk: *mut bpf_sock, value: *mut SocketTag, flags: u64) -> *mut SocketTag {
    // SAFETY: the verifier checks the socket pointer's type and that it isn't null.
    unsafe { bpf_sk_storage_get((&raw const SOCKETS).cast_mut().cast(), sk.cast(), value.cast(), flags) }
        .cast()
}

/// Counts one.
#[inline(always)]
pub fn count(index: u32) {
    if let Some(counter) = STATS.get_ptr_mut(index) {
        // SAFETY: a slot of this CPU; a preempted increment may lose a count, never memory.
        unsafe { *counter += 1 };
    }
}

/// Adds to a shared word, atomically; answers what it was before.
#[inline(always)]
pub fn fetch_add(index: u32, delta: u64) -> Option<u64> {
    // SAFETY: an aligned slot that lives as long as the map.
    WORDS.get_ptr_mut(index).map(|word| unsafe { add(word, delta) })
}

/// Adds to a word of a map, atomically; answers what it was before. `core` has no read-modify-write for this target, the
/// instruction set (v3) has.
///
/// # Safety
///
/// `word` must be an aligned word of an entry that lives as long as the program runs.
#[inline(always)]
pub unsafe fn add(word: *mut u64, delta: u64) -> u64 {
    let mut value = delta;
    // SAFETY: the caller's.
    unsafe {
        asm!("{value} = atomic_fetch_add((u64 *)({word} + 0), {value})", word = in(reg) word, value = inout(reg) value);
    }
    value
}

/// A fresh node or image id.
#[inline(always)]
pub fn next_id() -> u64 {
    fetch_add(word::NEXT_ID, 2).unwrap_or(0)
}

/// Whether the agent has renewed its lease in time.
#[inline(always)]
pub fn lease_holds() -> bool {
    // SAFETY: plain helper.
    let now = unsafe { bpf_ktime_get_ns() };
    WORDS.get(word::LEASE).is_some_and(|until| now < *until)
}

/// Tells the agent; a full ring is counted and loses only the wake-up.
#[inline(always)]
pub fn tell(kind: EventKind, tgid: u32, job: u64, node: u64, detail: u64) {
    send(&Event { kind: kind as u32, tgid, job, node, detail, address: [0; 4], port: 0, reserved: 0 });
}

/// Counts a refusal and tells the agent of it.
#[inline(always)]
pub fn refused(why: Refusal, tag: &TaskTag, tgid: u32, address: [u32; 4], port: u32) {
    count(why as u32);
    send(&Event {
        kind: EventKind::Refused as u32,
        tgid,
        job: tag.job,
        node: tag.node,
        detail: why as u64,
        address,
        port,
        reserved: 0,
    });
}

#[inline(always)]
fn send(event: &Event) {
    if EVENTS.output::<Event>(event, 0).is_err() {
        count(stat::EVENTS_LOST);
    }
}
