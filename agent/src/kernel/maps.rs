//! The kernel side's maps as typed operations.
//!
//! Each map has a lock of its own: operations are single system calls, and nobody waits for another's.

use std::{
    collections::HashSet,
    os::fd::AsRawFd,
    path::PathBuf,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use agent_abi::{
    Datagram, EXECS_UNKNOWN, Flow, FlowKey, Image, JOB_SHUT_OFF, JobUse, JobControl, Listener, NODE_RECORDED,
    Node, SOCKET_LISTENS, SocketTag, TaskTag, Unidentified, capacity, stat, word,
};
use aya::{
    Ebpf, Pod,
    maps::{Array, HashMap, Map, MapData, MapError, PerCpuArray, RingBuf, SkStorage},
};
use rustix::process::Pid;

use super::{
    addresses::words_of,
    events::EventStream,
    load::{KernelConfig, KernelError, cgroup_contains},
    marks::Marks,
    pins::Pins,
};
use crate::ids::Id;

/// Ids between what an earlier agent's programs gave out and the first one of this agent: more than that agent itself
/// can have given out beyond them.
const IDS_MARGIN: u64 = 1 << 20;

type Table<K, V> = Mutex<HashMap<MapData, K, V>>;

/// The loaded and attached kernel side. It stays attached when the agent ends.
pub struct Kernel {
    tasks: Table<u32, TaskTag>,
    processes_max: u32,
    namespaces_max: u32,
    marks: Marks,
    nodes: Table<u64, Node>,
    images: Table<u64, Image>,
    uses: Table<u64, JobUse>,
    jobs: Table<u64, JobControl>,
    flows: Table<FlowKey, Flow>,
    listeners: Table<u64, Listener>,
    sockets: Mutex<SkStorage<MapData, SocketTag>>,
    unidentified: Table<u64, Unidentified>,
    stats: PerCpuArray<MapData, u64>,
    /// Written once; held because a program that is loaded later must still find its map open.
    _resolvers: HashMap<MapData, Datagram, u8>,
    words: Mutex<Array<MapData, u64>>,
    next_id: std::sync::atomic::AtomicU64,
    cgroup: PathBuf,
    move_jobs: bool,
    pins: Option<Pins>,
}

/// The counters of the kernel side, as totals over all CPUs.
#[derive(Clone, Copy, Debug, Default)]
pub struct Statistics {
    /// Refusals by [`agent_abi::Refusal`].
    pub refused: [u64; 5],
    /// Events that found the ring full.
    pub events_lost: u64,
    /// Connections that found the flow map full.
    pub flows_full: u64,
    /// Processes that found the node or image map full.
    pub nodes_full: u64,
    /// Jobs of rules that found their map full.
    pub unidentified_full: u64,
    /// Processes that found their job's share of nodes or images taken.
    pub share_full: u64,
    /// Cgroups that found their map full.
    pub cgroups_full: u64,
    /// Processes killed at the bound of followed processes.
    pub tasks_full: u64,
    /// Connections redirected.
    pub redirected: u64,
    /// Connections to a listener of the same job.
    pub own_listener: u64,
    /// Followed processes alive.
    pub tasks: u64,
}

impl Kernel {
    /// Takes the maps out of a loaded object.
    pub(super) fn new(ebpf: &mut Ebpf, config: &KernelConfig) -> Result<(Self, EventStream), KernelError> {
        // Ids are unique over the agent's whole trail and exact as JSON numbers: milliseconds since the
        // epoch leave room for 4096 ids each and stay below 2^53 until 2039. The kernel side hands out
        // even ids, this side odd ones.
        let epoch_ms = std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .map_or(0, |since| since.as_millis() as u64);
        let mut words: Array<MapData, u64> =
            Array::try_from(take(ebpf, "WORDS")?).map_err(unusable("WORDS"))?;
        // Until this agent serves, what an earlier one has left attached refuses.
        words.set(word::LEASE, 0, 0).map_err(failed("write", "WORDS"))?;
        // Past what an earlier one gave out, wherever the clock has gone meanwhile.
        let given = words.get(&word::NEXT_ID, 0).map_err(failed("read", "WORDS"))?;
        let first_id = (epoch_ms << 12).max(given + IDS_MARGIN) & !1;
        words.set(word::NEXT_ID, first_id, 0).map_err(failed("write", "WORDS"))?;
        let mut resolvers: HashMap<MapData, Datagram, u8> =
            HashMap::try_from(take(ebpf, "RESOLVERS")?).map_err(unusable("RESOLVERS"))?;
        for resolver in &config.resolvers {
            let key = Datagram { address: words_of(resolver.ip()), port: resolver.port().into() };
            resolvers.insert(key, 1, 0).map_err(failed("add to", "RESOLVERS"))?;
        }
        let events = RingBuf::try_from(take(ebpf, "EVENTS")?).map_err(unusable("EVENTS"))?;
        let processes_max = capacity::processes(room(ebpf, "TASKS")?);
        let kernel = Self {
            tasks: table(ebpf, "TASKS")?,
            processes_max,
            namespaces_max: config.namespaces_max,
            marks: Marks::of(take(ebpf, "MARKS")?).map_err(|error| KernelError::Map {
                action: "map",
                map: "MARKS",
                reason: error.to_string(),
            })?,
            nodes: table(ebpf, "NODES")?,
            images: table(ebpf, "IMAGES")?,
            uses: table(ebpf, "USES")?,
            jobs: table(ebpf, "JOBS")?,
            flows: table(ebpf, "FLOWS")?,
            listeners: table(ebpf, "LISTENERS")?,
            sockets: Mutex::new(SkStorage::try_from(take(ebpf, "SOCKETS")?).map_err(unusable("SOCKETS"))?),
            unidentified: table(ebpf, "UNIDENTIFIED")?,
            stats: PerCpuArray::try_from(take(ebpf, "STATS")?).map_err(unusable("STATS"))?,
            _resolvers: resolvers,
            words: Mutex::new(words),
            next_id: (first_id | 1).into(),
            cgroup: PathBuf::new(),
            move_jobs: config.move_jobs,
            pins: None,
        };
        Ok((kernel, EventStream::new(events)))
    }

    /// Notes what keeps the programs attached.
    pub(super) fn keep(mut self, pins: Pins, cgroup: PathBuf) -> Self {
        self.pins = Some(pins);
        self.cgroup = cgroup;
        self
    }

    /// The cgroup that everything is attached to.
    pub fn cgroup(&self) -> &std::path::Path {
        &self.cgroup
    }

    /// A fresh node or image id.
    pub fn next_id(&self) -> u64 {
        self.next_id.fetch_add(2, std::sync::atomic::Ordering::Relaxed)
    }

    /// Whether connections of `pid` pass the attached programs; moves it there if the configuration says so.
    pub fn covers(&self, pid: u32) -> std::io::Result<bool> {
        if cgroup_contains(&self.cgroup, pid)? {
            return Ok(true);
        }
        if !self.move_jobs {
            return Ok(false);
        }
        std::fs::write(self.cgroup.join("cgroup.procs"), pid.to_string())?;
        cgroup_contains(&self.cgroup, pid)
    }

    /// How many processes may be followed, of all jobs.
    pub fn processes_max(&self) -> usize {
        self.processes_max as usize
    }

    /// Puts a process into a job, at a node that runs an image. One process too many is refused.
    pub fn tag(&self, tgid: u32, job: u64, node: u64, image: u64) -> Result<(), KernelError> {
        let tag = TaskTag { job, node, image, born_ns: 0, execs: EXECS_UNKNOWN, reserved: 0 };
        if self.tag_of(tgid).is_none() {
            // It races with the kernel side's atomic additions, and may undo one: `recount` makes up for that, and for one
            // that is not tagged after all.
            let mut words = locked(&self.words);
            let tasks = words.get(&word::TASKS, 0).map_err(failed("read", "WORDS"))?;
            if tasks as i64 >= i64::from(self.processes_max) {
                return Err(KernelError::TooManyProcesses { most: self.processes_max });
            }
            words.set(word::TASKS, tasks.wrapping_add(1), 0).map_err(failed("write", "WORDS"))?;
        }
        self.marks.set(tgid);
        let tagged = locked(&self.tasks).insert(tgid, tag, 0).map_err(failed("add to", "TASKS"));
        // Again: a process that ended in between took its mark with it, and an entry without one is never cleared.
        self.marks.set(tgid);
        tagged
    }

    /// Takes a process out of its job: for an enrolment that did not complete, before its program ran.
    pub fn untag(&self, tgid: u32) {
        let _ = locked(&self.tasks).remove(&tgid);
        let _ = self.recount();
    }

    /// Sets the count of followed processes from the map itself. What the kernel side adds meanwhile may be lost, which
    /// shifts the bound by as much until the next time.
    pub fn recount(&self) -> Result<(), KernelError> {
        // Each once: a walk begins anew when what it stands at goes away.
        let tasks: HashSet<u32> = locked(&self.tasks).keys().filter_map(Result::ok).collect();
        let tasks = tasks.len() as u64;
        locked(&self.words).set(word::TASKS, tasks, 0).map_err(failed("write", "WORDS"))
    }

    /// The tag of a process.
    pub fn tag_of(&self, tgid: u32) -> Option<TaskTag> {
        locked(&self.tasks).get(&tgid, 0).ok()
    }

    /// Every followed process. One that ended just before the agent tagged it is none: its tag stays until its number is
    /// given to another, which gets that one's own or none.
    pub fn tasks(&self) -> Vec<(u32, TaskTag)> {
        let tasks: Vec<(u32, TaskTag)> = locked(&self.tasks).iter().filter_map(Result::ok).collect();
        tasks.into_iter().filter(|(tgid, tag)| tag.born_ns != 0 || exists(*tgid)).collect()
    }

    /// Calls `visit` with each process of these jobs as soon as the walk comes to it, and with what tells whether the number
    /// still is one's.
    pub fn visit(&self, jobs: &HashSet<Id>, mut visit: impl FnMut(u32, &dyn Fn() -> bool)) {
        let tasks = locked(&self.tasks);
        let is_of_them = |tag: TaskTag| jobs.contains(&Id(tag.job));
        for (tgid, tag) in tasks.iter().filter_map(Result::ok) {
            if is_of_them(tag) {
                visit(tgid, &|| tasks.get(&tgid, 0).is_ok_and(is_of_them));
            }
        }
    }

    /// A lineage node.
    pub fn node(&self, id: u64) -> Option<Node> {
        locked(&self.nodes).get(&id, 0).ok()
    }

    /// Every lineage node that the kernel side still holds.
    pub fn node_ids(&self) -> Vec<u64> {
        locked(&self.nodes).keys().filter_map(Result::ok).collect()
    }

    /// Adds a lineage node.
    pub fn add_node(&self, id: u64, node: Node) -> Result<(), KernelError> {
        locked(&self.nodes).insert(id, node, 0).map_err(failed("add to", "NODES"))
    }

    /// Notes in a node that the trail holds it: a later agent must know.
    pub fn mark_recorded(&self, id: u64) {
        let mut nodes = locked(&self.nodes);
        if let Ok(node) = nodes.get(&id, 0) {
            let _ = nodes.insert(id, Node { flags: node.flags | NODE_RECORDED, ..node }, 0);
        }
    }

    /// Lets go of a lineage node.
    pub fn remove_node(&self, id: u64) {
        let _ = locked(&self.nodes).remove(&id);
    }

    /// What was executed.
    pub fn image(&self, id: u64) -> Option<Box<Image>> {
        locked(&self.images).get(&id, 0).ok().map(Box::new)
    }

    /// Adds an image that a process ran before it was followed.
    pub fn add_image(&self, id: u64, image: &Image) -> Result<(), KernelError> {
        locked(&self.images).insert(id, image, 0).map_err(failed("add to", "IMAGES"))
    }

    /// Lets go of an image.
    pub fn remove_image(&self, id: u64) {
        let _ = locked(&self.images).remove(&id);
    }

    /// Notes that a job has so many nodes and images less: it may have as many more.
    pub fn give_back(&self, job: u64, nodes: u64, images: u64) {
        let _ = self.say_of(job, |word| {
            word.nodes += nodes;
            word.images += images;
        });
    }

    /// Shuts a job off where the kernel side decides by itself; whether that could be said.
    pub fn shut_off(&self, job: u64) -> bool {
        self.say_of(job, |word| word.flags |= JOB_SHUT_OFF)
    }

    fn say_of(&self, job: u64, change: impl FnOnce(&mut JobControl)) -> bool {
        let mut jobs = locked(&self.jobs);
        let mut word = jobs.get(&job, 0).unwrap_or_default();
        change(&mut word);
        if let Err(error) = jobs.insert(job, word, 0) {
            tracing::error!(%error, job = %Id(job), "the kernel side can't be told of a job");
            return false;
        }
        true
    }

    /// Every job that the kernel side has given something, or was told of.
    pub fn jobs(&self) -> HashSet<u64> {
        let uses: HashSet<u64> = locked(&self.uses).keys().filter_map(Result::ok).collect();
        locked(&self.jobs).keys().filter_map(Result::ok).chain(uses).collect()
    }

    /// Lets go of a job that holds nothing any more.
    pub fn forget_job(&self, job: u64) {
        let _ = locked(&self.uses).remove(&job);
        let _ = locked(&self.jobs).remove(&job);
    }

    /// The redirected connection behind an accepted one, once.
    pub fn take_flow(&self, key: &FlowKey) -> Option<Flow> {
        let mut flows = locked(&self.flows);
        let flow = flows.get(key, 0).ok()?;
        flows.remove(key).ok()?;
        Some(flow)
    }

    /// Drops flows whose connection never reached the agent; answers how many.
    pub fn sweep_flows(&self, older_than: Duration) -> usize {
        let deadline = monotonic_ns().saturating_sub(older_than.as_nanos() as u64);
        let mut flows = locked(&self.flows);
        let old: Vec<FlowKey> = flows
            .iter()
            .filter_map(Result::ok)
            .filter(|(_, flow)| flow.time_ns < deadline)
            .map(|(key, _)| key)
            .collect();
        old.iter().filter(|key| flows.remove(key).is_ok()).count()
    }

    /// What a rule began: a job that has shown no token.
    pub fn unidentified(&self, job: u64) -> Option<Unidentified> {
        locked(&self.unidentified).get(&job, 0).ok()
    }

    /// Every one of them.
    pub fn all_unidentified(&self) -> Vec<(u64, Unidentified)> {
        locked(&self.unidentified).iter().filter_map(Result::ok).collect()
    }

    /// Notes that a rule began a job.
    pub fn set_unidentified(&self, job: u64, begun: Unidentified) -> Result<(), KernelError> {
        locked(&self.unidentified).insert(job, begun, 0).map_err(failed("add to", "UNIDENTIFIED"))
    }

    /// Lets go of such a job.
    pub fn forget_unidentified(&self, job: u64) {
        let _ = locked(&self.unidentified).remove(&job);
    }

    /// Marks a socket as the agent's listener: connections are redirected to no other.
    pub fn mark_listener(&self, socket: &impl AsRawFd) -> Result<(), KernelError> {
        let tag =
            SocketTag { job: 0, node: 0, tgid: 0, uid: 0, state: SOCKET_LISTENS, port: 0, address: [0; 4] };
        locked(&self.sockets).insert(socket, tag, 0).map_err(failed("add to", "SOCKETS"))
    }

    /// Announces the agent's listener in a network namespace.
    pub fn set_listener(&self, netns: u64, listener: Listener) -> Result<(), KernelError> {
        locked(&self.listeners).insert(netns, listener, 0).map_err(|error| match error {
            MapError::SyscallError(error) if error.io_error.raw_os_error() == Some(libc::E2BIG) => {
                KernelError::TooManyNamespaces { most: self.namespaces_max }
            }
            error => failed("add to", "LISTENERS")(error),
        })
    }

    /// Withdraws it: connects there are refused from now on.
    pub fn remove_listener(&self, netns: u64) {
        let _ = locked(&self.listeners).remove(&netns);
    }

    /// Says that the agent is alive, for `duration` from now.
    pub fn renew_lease(&self, duration: Duration) -> Result<(), KernelError> {
        let until = monotonic_ns() + duration.as_nanos() as u64;
        locked(&self.words).set(word::LEASE, until, 0).map_err(failed("write", "WORDS"))
    }

    /// Gives up the lease: connects of followed processes are refused from here on, and stay refused until another agent
    /// takes over.
    pub fn end(&self) {
        let _ = locked(&self.words).set(word::LEASE, 0, 0);
        let followed = locked(&self.tasks).keys().filter(Result::is_ok).count();
        if followed > 0 {
            tracing::warn!(
                followed,
                "processes are still followed: their connects are refused until an agent runs"
            );
        }
    }

    /// Detaches everything, as if this agent had never started; what an earlier one left stays, and refuses.
    pub fn back_out(&self) {
        if let Some(pins) = self.pins.as_ref().filter(|pins| !pins.inherited()) {
            pins.remove_own();
        }
    }

    /// Takes down what agents with other layouts left, once nothing depends on it. Answers how many processes are still
    /// shut off by what can't be taken down yet.
    pub fn sweep_pins(&self) -> usize {
        self.pins.as_ref().map_or(0, Pins::sweep)
    }

    /// The counters.
    pub fn statistics(&self) -> Statistics {
        let total = |index: u32| -> u64 { self.stats.get(&index, 0).map_or(0, |values| values.iter().sum()) };
        Statistics {
            refused: [total(0), total(1), total(2), total(3), total(4)],
            events_lost: total(stat::EVENTS_LOST),
            flows_full: total(stat::FLOWS_FULL),
            nodes_full: total(stat::NODES_FULL),
            unidentified_full: total(stat::UNIDENTIFIED_FULL),
            share_full: total(stat::SHARE_FULL),
            cgroups_full: total(stat::CGROUPS_FULL),
            tasks_full: total(stat::TASKS_FULL),
            redirected: total(stat::REDIRECTED),
            own_listener: total(stat::OWN_LISTENER),
            tasks: locked(&self.words).get(&word::TASKS, 0).unwrap_or(0),
        }
    }
}

fn monotonic_ns() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

fn take(ebpf: &mut Ebpf, name: &'static str) -> Result<Map, KernelError> {
    ebpf.take_map(name).ok_or(KernelError::Missing(name))
}

/// How many entries a map has room for.
fn room(ebpf: &Ebpf, name: &'static str) -> Result<u32, KernelError> {
    let Some(Map::HashMap(map)) = ebpf.map(name) else { return Err(KernelError::Missing(name)) };
    map.info().map(|info| info.max_entries()).map_err(unusable(name))
}

fn table<K: Pod, V: Pod>(ebpf: &mut Ebpf, name: &'static str) -> Result<Table<K, V>, KernelError> {
    Ok(Mutex::new(HashMap::try_from(take(ebpf, name)?).map_err(unusable(name))?))
}

fn unusable(map: &'static str) -> impl FnOnce(MapError) -> KernelError {
    move |error| KernelError::Map { action: "use", map, reason: error.to_string() }
}

fn failed(action: &'static str, map: &'static str) -> impl FnOnce(MapError) -> KernelError {
    move |error| KernelError::Map { action, map, reason: error.to_string() }
}

/// Whether a number is a process's, be it one that has ended and not been waited for.
pub fn exists(tgid: u32) -> bool {
    let Some(pid) = i32::try_from(tgid).ok().and_then(Pid::from_raw) else { return false };
    rustix::process::test_kill_process(pid) != Err(rustix::io::Errno::SRCH)
}

/// A poisoned lock guards a single system call's handle: there is no half-done state in it.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
