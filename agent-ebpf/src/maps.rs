//! Every map. `agent_abi` documents their keys and values, and who writes them.
//!
//! No map here is LRU: an evicted tag would let a process escape. Each map has a named bound in `agent_abi`,
//! and reaching it is counted. The agent may create a map with another bound than the one given here.

use agent_abi::{
    Datagram, Destination, Door, EVENTS_BYTES, FILE_NAME_BYTES, FLOWS_MAX, Flow, FlowKey, HOLDS_BYTES, Held,
    HeldFlow, Image, JobControl, JobUse, Listener, MARKS_WORDS, NAMESPACES_MAX, Node, PROCESSES_MAX,
    REACHABLE_MAX, RESOLVERS_MAX, RULE_NAME_BYTES, RULE_PATH_BYTES, RULES_MAX, RuleKeys, SocketTag, TaskTag,
    Unidentified, capacity, stat, word,
};
use aya_ebpf::{
    bindings::{BPF_F_MMAPABLE, BPF_F_NO_PREALLOC},
    btf_maps::SkStorage,
    macros::{btf_map, map},
    maps::{Array, HashMap, PerCpuArray, ReusePortSockArray, RingBuf},
};

/// tgid → job and node of a followed process.
#[map]
pub static TASKS: HashMap<u32, TaskTag> = HashMap::with_max_entries(capacity::tasks(PROCESSES_MAX), 0);

/// One bit for each tgid: whether `TASKS` has to be asked at all. Nearly every process is in no job, and is
/// spared the look-up by one word, which its neighbours keep in the cache. The agent maps this array into its
/// memory and sets bits, too, by the same atomic operations.
#[map]
pub static MARKS: Array<u64> = Array::with_max_entries(MARKS_WORDS, BPF_F_MMAPABLE);

/// Node id → lineage node. The agent removes nodes that nothing descends from any more.
#[map]
pub static NODES: HashMap<u64, Node> =
    HashMap::with_max_entries(capacity::nodes(PROCESSES_MAX), BPF_F_NO_PREALLOC);

/// Image id → what was executed.
#[map]
pub static IMAGES: HashMap<u64, Image> =
    HashMap::with_max_entries(capacity::images(PROCESSES_MAX), BPF_F_NO_PREALLOC);

/// Job → how many nodes and images were made for it.
#[map]
pub static USES: HashMap<u64, JobUse> =
    HashMap::with_max_entries(capacity::jobs(PROCESSES_MAX), BPF_F_NO_PREALLOC);

/// Job → what the agent tells about it.
#[map]
pub static JOBS: HashMap<u64, JobControl> =
    HashMap::with_max_entries(capacity::jobs(PROCESSES_MAX), BPF_F_NO_PREALLOC);

/// Connections on their way to the agent. The agent removes the ones that it has accepted, and old ones.
#[map]
pub static FLOWS: HashMap<FlowKey, Flow> = HashMap::with_max_entries(FLOWS_MAX, 0);

/// Network namespace cookie → the agent's listener in it.
#[map]
pub static LISTENERS: HashMap<u64, Listener> = HashMap::with_max_entries(NAMESPACES_MAX, 0);

/// Held connection → the agent's verdict.
#[map]
pub static VERDICTS: HashMap<HeldFlow, u32> = HashMap::with_max_entries(FLOWS_MAX, 0);

/// Tells the agent which connections are held.
#[map]
pub static HOLDS: RingBuf = RingBuf::with_byte_size(HOLDS_BYTES, 0);

/// Destinations that the agent has reached a moment ago.
#[map]
pub static REACHABLE: HashMap<Destination, u64> = HashMap::with_max_entries(REACHABLE_MAX, 0);

/// Cookie of a listening socket of the agent's → what it is.
#[map]
pub static DOORS: HashMap<u64, Door> = HashMap::with_max_entries(capacity::doors(NAMESPACES_MAX), 0);

/// The agent's listening sockets.
#[map]
pub static ENTRANCES: ReusePortSockArray =
    ReusePortSockArray::with_max_entries(capacity::doors(NAMESPACES_MAX), 0);

/// Datagram destinations that jobs may send to.
#[map]
pub static RESOLVERS: HashMap<Datagram, u8> = HashMap::with_max_entries(RESOLVERS_MAX, 0);

/// Job → the rule that began it, until the job has shown a token or ended.
#[map]
pub static UNIDENTIFIED: HashMap<u64, Unidentified> =
    HashMap::with_max_entries(capacity::unidentified(PROCESSES_MAX), BPF_F_NO_PREALLOC);

/// Names of the enrolment rules. The maps below find a rule's index in this array.
#[map]
pub static RULES: Array<[u8; RULE_NAME_BYTES]> = Array::with_max_entries(RULES_MAX, 0);

/// User id → rule.
#[map]
pub static UIDS: HashMap<u32, u32> = HashMap::with_max_entries(RULES_MAX, 0);

/// Cgroup id → rule: every cgroup that a rule covers, those below the one it names included.
#[map]
pub static CGROUPS: HashMap<u64, u32> =
    HashMap::with_max_entries(capacity::cgroups(PROCESSES_MAX), BPF_F_NO_PREALLOC);

/// File name of a cgroup, as systemd names the one of a unit → rule.
#[map]
pub static UNITS: HashMap<[u8; FILE_NAME_BYTES], u32> = HashMap::with_max_entries(RULES_MAX, 0);

/// Path of a cgroup → rule.
#[map]
pub static PATHS: HashMap<[u8; RULE_PATH_BYTES], u32> = HashMap::with_max_entries(RULES_MAX, 0);

/// File names of the executables in `EXES`: a cheap look-up that spares most executions the expensive one.
#[map]
pub static FILE_NAMES: HashMap<[u8; FILE_NAME_BYTES], u32> = HashMap::with_max_entries(RULES_MAX, 0);

/// Path of an executable, as in an image → rule.
#[map]
pub static EXES: HashMap<[u8; RULE_PATH_BYTES], u32> = HashMap::with_max_entries(RULES_MAX, 0);

/// Scratch space for the keys of the maps above, which are larger than a program's stack.
#[map]
pub static RULE_KEYS: PerCpuArray<RuleKeys> = PerCpuArray::with_max_entries(1, 0);

/// Wakes the agent.
#[map]
pub static EVENTS: RingBuf = RingBuf::with_byte_size(EVENTS_BYTES, 0);

/// Counters; `agent_abi::stat` has their indices.
#[map]
pub static STATS: PerCpuArray<u64> = PerCpuArray::with_max_entries(stat::COUNT, 0);

/// Words shared with the agent; `agent_abi::word` has their indices.
#[map]
pub static WORDS: Array<u64> = Array::with_max_entries(word::COUNT, 0);

/// Scratch space for an image, which is larger than a program's stack.
#[map]
pub static IMAGE_SCRATCH: PerCpuArray<Image> = PerCpuArray::with_max_entries(1, 0);

/// Socket → who made it, and where it was meant to go; of the agent's own listeners, that they listen.
#[btf_map]
pub static SOCKETS: SkStorage<SocketTag> = SkStorage::new();

/// Socket whose SYN is held → which connection it is.
#[btf_map]
pub static HELD: SkStorage<Held> = SkStorage::new();
