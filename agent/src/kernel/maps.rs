//! The kernel side's maps as typed operations.
//!
//! Each map has a lock of its own: operations are single system calls, and nobody waits for another's.

use std::{
    net::{IpAddr, Ipv6Addr, SocketAddr},
    os::fd::AsRawFd,
    path::PathBuf,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use agent_abi::{
    Datagram, EXECS_UNKNOWN, Event, Flow, FlowKey, Image, Listener, NODE_RECORDED, Node, SOCKET_LISTENS,
    SocketTag, TaskTag, Unidentified, capacity, stat, word,
};
use aya::{
    Ebpf, Pod,
    maps::{Array, HashMap, Map, MapData, MapError, PerCpuArray, RingBuf, SkStorage},
};
use rustix::process::Pid;
use tokio::io::unix::AsyncFd;

use super::{
    load::{KernelConfig, KernelError, cgroup_contains},
    marks::Marks,
    pins::Pins,
};

/// Ids between what an earlier agent's programs gave out and the first one of this agent: more than that agent itself
/// can have given out beyond them.
const IDS_MARGIN: u64 = 1 << 20;

type Table<K, V> = Mutex<HashMap<MapData, K, V>>;

/// The loaded and attached kernel side. It stays attached when the agent ends.
pub struct Kernel {
    tasks: Table<u32, TaskTag>,
    processes_max: u32,
    marks: Marks,
    nodes: Table<u64, Node>,
    images: Table<u64, Image>,
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
            marks: Marks::of(take(ebpf, "MARKS")?).map_err(|error| KernelError::Map {
                action: "map",
                map: "MARKS",
                reason: error.to_string(),
            })?,
            nodes: table(ebpf, "NODES")?,
            images: table(ebpf, "IMAGES")?,
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
        Ok((kernel, EventStream { ring: events, log: None }))
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
        let tasks = locked(&self.tasks).keys().filter(Result::is_ok).count() as u64;
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
        locked(&self.listeners).insert(netns, listener, 0).map_err(failed("add to", "LISTENERS"))
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
            cgroups_full: total(stat::CGROUPS_FULL),
            tasks_full: total(stat::TASKS_FULL),
            redirected: total(stat::REDIRECTED),
            own_listener: total(stat::OWN_LISTENER),
            tasks: locked(&self.words).get(&word::TASKS, 0).unwrap_or(0),
        }
    }
}

/// Wake-ups from the kernel side, and what its programs log.
pub struct EventStream {
    ring: RingBuf<MapData>,
    log: Option<aya_log::EbpfLogger<&'static dyn tracing_log::log::Log>>,
}

impl EventStream {
    pub(super) fn with_log(
        mut self,
        log: Option<aya_log::EbpfLogger<&'static dyn tracing_log::log::Log>>,
    ) -> Self {
        self.log = log;
        self
    }

    /// Calls `handle` for every event, and sends the programs' log to `tracing`, until the future is dropped.
    pub async fn run(self, mut handle: impl FnMut(&Event)) -> std::io::Result<()> {
        let mut ring = watched(self.ring)?;
        let mut log = self.log.map(watched).transpose()?;
        loop {
            tokio::select! {
                ready = ring.readable_mut() => {
                    let mut ready = ready?;
                    while let Some(item) = ready.get_inner_mut().next() {
                        if let Some(event) = event_from(&item) {
                            handle(&event);
                        }
                    }
                    ready.clear_ready();
                }
                ready = next_log(&mut log) => {
                    let mut ready = ready?;
                    ready.get_inner_mut().flush();
                    ready.clear_ready();
                }
            }
        }
    }
}

fn watched<T: AsRawFd>(source: T) -> std::io::Result<AsyncFd<T>> {
    #[allow(unsafe_code, reason = "tokio cannot check that a type keeps its descriptor open")]
    // SAFETY: aya's ring buffers own the map's descriptor, never exchange it and close it when dropped.
    let watched = unsafe { AsyncFd::register(source) };
    Ok(watched?)
}

type LogFd = AsyncFd<aya_log::EbpfLogger<&'static dyn tracing_log::log::Log>>;

async fn next_log(
    log: &mut Option<LogFd>,
) -> std::io::Result<
    tokio::io::unix::AsyncFdReadyMutGuard<'_, aya_log::EbpfLogger<&'static dyn tracing_log::log::Log>>,
> {
    match log {
        Some(log) => log.readable_mut().await,
        None => std::future::pending().await,
    }
}

fn event_from(bytes: &[u8]) -> Option<Event> {
    let whole = bytes.get(..size_of::<Event>())?;
    #[allow(unsafe_code, reason = "reads a plain repr(C) value out of the ring")]
    // SAFETY: `whole` has the value's size, and every bit pattern is an `Event`.
    Some(unsafe { whole.as_ptr().cast::<Event>().read_unaligned() })
}

/// An address as the maps keep it: network byte order words, IPv4 as `::ffff:a.b.c.d`.
pub fn words_of(address: IpAddr) -> [u32; 4] {
    let octets = match address {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
        IpAddr::V6(v6) => v6.octets(),
    };
    let mut words = [0; 4];
    for (word, bytes) in words.iter_mut().zip(octets.as_chunks::<4>().0) {
        *word = u32::from_ne_bytes(*bytes);
    }
    words
}

/// The key of a connection that was accepted from `from` on the listener of `family` (4 or 6).
pub fn flow_key(netns: u64, from: SocketAddr, family: u32) -> FlowKey {
    FlowKey { netns, address: words_of(from.ip()), port: from.port().into(), listener: family }
}

/// The reverse of [`words_of`]; v4-mapped addresses come out as IPv4.
pub fn address_of(words: [u32; 4], port: u32) -> SocketAddr {
    let mut octets = [0u8; 16];
    for (bytes, word) in octets.as_chunks_mut::<4>().0.iter_mut().zip(words) {
        *bytes = word.to_ne_bytes();
    }
    SocketAddr::new(Ipv6Addr::from(octets).to_canonical(), port as u16)
}

fn monotonic_ns() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

/// Cookie of the network namespace that a socket lives in (`SO_NETNS_COOKIE`).
pub fn netns_cookie(socket: &impl AsRawFd) -> std::io::Result<u64> {
    let mut cookie: u64 = 0;
    let mut len = size_of::<u64>() as libc::socklen_t;
    #[allow(unsafe_code, reason = "no safe wrapper has this socket option")]
    // SAFETY: the kernel writes at most `len` bytes to `cookie`, which outlives the call.
    let answer = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_NETNS_COOKIE,
            (&raw mut cookie).cast(),
            &raw mut len,
        )
    };
    if answer == 0 { Ok(cookie) } else { Err(std::io::Error::last_os_error()) }
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
