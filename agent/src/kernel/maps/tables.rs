//! The maps themselves: taken out of the loaded object once, then held open for as long as the agent runs.

use std::{
    path::{Path, PathBuf},
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{SystemTime, UNIX_EPOCH},
};

use agent_abi::{
    Datagram, Flow, FlowKey, Image, JobControl, JobUse, Listener, Node, SocketTag, TaskTag, Unidentified,
    capacity, word,
};
use aya::{
    Ebpf, Pod,
    maps::{Array, HashMap, Map, MapData, PerCpuArray, RingBuf, SkStorage},
};

use super::super::{
    addresses::words_of, cgroups::cgroup_of, config::KernelConfig, cover::Cover, error::KernelError,
    events::EventStream, marks::Marks, pins::Pins,
};

/// How far this agent's first id lies beyond the last one that an earlier agent's programs gave out: more
/// than that agent itself can have given out beyond them.
const IDS_MARGIN: u64 = 1 << 20;

pub(super) type Table<K, V> = Mutex<HashMap<MapData, K, V>>;

/// The loaded and attached kernel side. Its programs stay attached when the agent ends.
pub struct Kernel {
    pub(super) tasks: Table<u32, TaskTag>,
    pub(super) processes_max: u32,
    pub(super) namespaces_max: u32,
    pub(super) marks: Marks,
    pub(super) nodes: Table<u64, Node>,
    pub(super) images: Table<u64, Image>,
    pub(super) uses: Table<u64, JobUse>,
    pub(super) jobs: Table<u64, JobControl>,
    pub(super) flows: Table<FlowKey, Flow>,
    pub(super) listeners: Table<u64, Listener>,
    pub(super) sockets: Mutex<SkStorage<MapData, SocketTag>>,
    pub(super) unidentified: Table<u64, Unidentified>,
    pub(super) stats: PerCpuArray<MapData, u64>,
    /// Written once; held because a program that is loaded later must still find its map open.
    _resolvers: HashMap<MapData, Datagram, u8>,
    pub(super) words: Mutex<Array<MapData, u64>>,
    next_id: AtomicU64,
    pub(super) cgroup: PathBuf,
    pub(super) move_jobs: bool,
    attached: Option<(Pins, Cover)>,
}

impl Kernel {
    /// Takes the maps out of a loaded object, before its programs are attached.
    pub(in super::super) fn new(
        ebpf: &mut Ebpf,
        config: &KernelConfig,
    ) -> Result<(Self, EventStream), KernelError> {
        let mut words: Array<MapData, u64> =
            Array::try_from(take(ebpf, "WORDS")?).map_err(KernelError::map("use", "WORDS"))?;
        // Until this agent serves, the programs that an earlier one has left attached refuse.
        words.set(word::LEASE, 0, 0).map_err(KernelError::map("write", "WORDS"))?;
        let first_id = set_first_id(&mut words)?;
        let resolvers = resolvers(ebpf, config)?;
        let events = RingBuf::try_from(take(ebpf, "EVENTS")?).map_err(KernelError::map("use", "EVENTS"))?;
        let processes_max = capacity::processes(room(ebpf, "TASKS")?);
        let sockets = SkStorage::try_from(take(ebpf, "SOCKETS")?);
        let stats = PerCpuArray::try_from(take(ebpf, "STATS")?);
        let kernel = Self {
            tasks: table(ebpf, "TASKS")?,
            processes_max,
            namespaces_max: config.namespaces_max,
            marks: Marks::of(take(ebpf, "MARKS")?).map_err(KernelError::map("map", "MARKS"))?,
            nodes: table(ebpf, "NODES")?,
            images: table(ebpf, "IMAGES")?,
            uses: table(ebpf, "USES")?,
            jobs: table(ebpf, "JOBS")?,
            flows: table(ebpf, "FLOWS")?,
            listeners: table(ebpf, "LISTENERS")?,
            sockets: Mutex::new(sockets.map_err(KernelError::map("use", "SOCKETS"))?),
            unidentified: table(ebpf, "UNIDENTIFIED")?,
            stats: stats.map_err(KernelError::map("use", "STATS"))?,
            _resolvers: resolvers,
            words: Mutex::new(words),
            next_id: (first_id | 1).into(),
            cgroup: PathBuf::new(),
            move_jobs: config.move_jobs,
            attached: None,
        };
        Ok((kernel, EventStream::new(events)))
    }

    /// Holds on to the pins, which keep the programs attached, and notes the cgroups that they are attached
    /// to.
    pub(in super::super) fn keep(mut self, pins: Pins, cgroup: PathBuf, cover: Cover) -> Self {
        self.attached = Some((pins, cover));
        self.cgroup = cgroup;
        self
    }

    /// The cgroup that the programs are attached to.
    pub fn cgroup(&self) -> &Path {
        &self.cgroup
    }

    /// A fresh node or image id.
    pub fn next_id(&self) -> u64 {
        self.next_id.fetch_add(2, Ordering::Relaxed)
    }

    /// Has each packet seen that leaves the cgroup of process `pid`, from sockets that are made from now on.
    /// Nothing is done about a process outside [`Self::cgroup`].
    pub fn cover(&self, pid: u32) -> Result<(), KernelError> {
        let Some((pins, cover)) = &self.attached else { return Ok(()) };
        // A process that has ended needs nothing.
        let Ok(Some(cgroup)) = cgroup_of(pid) else { return Ok(()) };
        if cgroup.starts_with(&self.cgroup) { cover.cover(pins, &cgroup) } else { Ok(()) }
    }

    /// Detaches everything, as if this agent had never started. If an earlier agent had left programs
    /// attached, they stay, and refuse.
    pub fn back_out(&self) {
        if let Some((pins, _)) = self.attached.as_ref().filter(|(pins, _)| !pins.inherited()) {
            pins.remove_own();
        }
    }

    /// Forgets removed cgroups, and removes the programs that agents with other layouts left, once they
    /// follow no process any more. Returns how many processes such programs still follow, and refuse.
    pub fn sweep_pins(&self) -> usize {
        self.attached.as_ref().map_or(0, |(pins, cover)| {
            cover.sweep(pins);
            pins.sweep()
        })
    }
}

/// Locks a map, even if a thread panicked while it held the lock: the lock guards the map's file descriptor
/// alone, and each system call changes at most one entry, so no half-done change can be left.
pub(super) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Sets the first id that the kernel side hands out: an even one. The agent's own ids are odd.
///
/// Ids are unique over the agent's whole trail and exact as JSON numbers: milliseconds since the epoch leave
/// room for 4096 ids each and stay below 2^53 until 2039. The first id lies beyond all earlier ones even if
/// the clock was set back.
fn set_first_id(words: &mut Array<MapData, u64>) -> Result<u64, KernelError> {
    let epoch_ms = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64);
    let given = words.get(&word::NEXT_ID, 0).map_err(KernelError::map("read", "WORDS"))?;
    let first_id = (epoch_ms << 12).max(given + IDS_MARGIN) & !1;
    words.set(word::NEXT_ID, first_id, 0).map_err(KernelError::map("write", "WORDS"))?;
    Ok(first_id)
}

/// The map of datagram destinations, filled from the configuration.
fn resolvers(ebpf: &mut Ebpf, config: &KernelConfig) -> Result<HashMap<MapData, Datagram, u8>, KernelError> {
    let mut resolvers: HashMap<MapData, Datagram, u8> =
        HashMap::try_from(take(ebpf, "RESOLVERS")?).map_err(KernelError::map("use", "RESOLVERS"))?;
    for resolver in &config.resolvers {
        let key = Datagram { address: words_of(resolver.ip()), port: resolver.port().into() };
        resolvers.insert(key, 1, 0).map_err(KernelError::map("add to", "RESOLVERS"))?;
    }
    Ok(resolvers)
}

fn take(ebpf: &mut Ebpf, name: &'static str) -> Result<Map, KernelError> {
    ebpf.take_map(name).ok_or(KernelError::Missing(name))
}

/// How many entries a hash map has room for.
fn room(ebpf: &Ebpf, name: &'static str) -> Result<u32, KernelError> {
    let Some(Map::HashMap(map)) = ebpf.map(name) else { return Err(KernelError::Missing(name)) };
    map.info().map(|info| info.max_entries()).map_err(KernelError::map("use", name))
}

fn table<K: Pod, V: Pod>(ebpf: &mut Ebpf, name: &'static str) -> Result<Table<K, V>, KernelError> {
    HashMap::try_from(take(ebpf, name)?).map(Mutex::new).map_err(KernelError::map("use", name))
}
