//! The compiled eBPF object: creates its maps, or reuses the pinned ones, and relocates its programs. Nothing
//! is attached here.

use agent_abi::capacity;
use aya::{Ebpf, EbpfLoader};

use super::{
    btf::{BtfError, Structures},
    config::KernelConfig,
    error::{KernelError, with_causes},
    pins::{Pins, TASKS},
};

/// The compiled programs; `agent/build.rs` makes them.
static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/lineal-ebpf"));

/// The maps that outlive the agent. The others hold what ends with it (its listeners, connections on their
/// way to it, its configuration, events that it has not read), and are made anew with the next agent.
const KEPT_MAPS: [&str; 10] =
    [TASKS, "MARKS", "NODES", "IMAGES", "USES", "JOBS", "SOCKETS", "UNIDENTIFIED", "WORDS", "STATS"];

/// Fields of the kernel's structures that the programs read: the name of the offset in
/// `agent-ebpf/src/offsets.rs`, the structure, the field.
const FIELDS: [(&str, &str, &str); 26] = [
    ("OFF_TASK_PID", "task_struct", "pid"),
    ("OFF_TASK_TGID", "task_struct", "tgid"),
    ("OFF_TASK_SIGNAL", "task_struct", "signal"),
    ("OFF_TASK_MM", "task_struct", "mm"),
    ("OFF_TASK_BORN", "task_struct", "start_boottime"),
    ("OFF_TASK_EXECS", "task_struct", "self_exec_id"),
    ("OFF_SIGNAL_LIVE", "signal_struct", "live"),
    ("OFF_MM_ARG_START", "mm_struct", "arg_start"),
    ("OFF_MM_ARG_END", "mm_struct", "arg_end"),
    ("OFF_BPRM_FILE", "linux_binprm", "file"),
    ("OFF_FILE_PATH", "file", "f_path"),
    ("OFF_PATH_MNT", "path", "mnt"),
    ("OFF_PATH_DENTRY", "path", "dentry"),
    ("OFF_DENTRY_PARENT", "dentry", "d_parent"),
    ("OFF_DENTRY_NAME", "dentry", "d_name"),
    ("OFF_QSTR_NAME", "qstr", "name"),
    ("OFF_VFSMOUNT_ROOT", "vfsmount", "mnt_root"),
    ("OFF_MOUNT_MNT", "mount", "mnt"),
    ("OFF_MOUNT_PARENT", "mount", "mnt_parent"),
    ("OFF_MOUNT_MOUNTPOINT", "mount", "mnt_mountpoint"),
    ("OFF_CGROUP_KN", "cgroup", "kn"),
    ("OFF_CGROUP_ROOT", "cgroup", "root"),
    ("OFF_CSS_PARENT", "cgroup_subsys_state", "parent"),
    ("OFF_ROOT_HIERARCHY", "cgroup_root", "hierarchy_id"),
    ("OFF_KN_ID", "kernfs_node", "id"),
    ("OFF_KN_NAME", "kernfs_node", "name"),
];

/// Loads the object. Maps in [`KEPT_MAPS`] are taken from `pins` where they are pinned there and pinned where
/// they are not; without `pins` none is. `rule_kinds` are the bits `RULE_BY_…` of the rules that there are.
pub(super) fn load_object(
    config: &KernelConfig,
    pins: Option<&Pins>,
    rule_kinds: u32,
) -> Result<Ebpf, KernelError> {
    let structures = Structures::of_running_kernel()?;
    let offsets = offsets(&structures)?;
    let mut loader = EbpfLoader::new();
    for name in pins.into_iter().flat_map(|_| KEPT_MAPS) {
        loader.map_pin_path(name, pins.map(|pins| pins.path(name)).unwrap_or_default());
    }
    for (name, value) in &offsets {
        loader.override_global(name, value, true);
    }
    // A pinned map keeps its size, and the others have to fit it.
    let kept = pins.map(|pins| pins.capacity(TASKS)).transpose()?.flatten();
    let processes_max = kept.map_or(config.processes_max, capacity::processes);
    if processes_max != config.processes_max {
        tracing::warn!(
            in_force = processes_max,
            configured = config.processes_max,
            "kernel.processes_max takes effect after `lineal detach`: the maps in use keep their size"
        );
    }
    let (nodes, images) = (capacity::nodes(processes_max), capacity::images(processes_max));
    let syn_doublings = syn_doublings();
    let (nodes_per_job, images_per_job) = (capacity::share(nodes), capacity::share(images));
    loader
        .override_global("RULE_KINDS", &rule_kinds, true)
        .override_global("SYN_DOUBLINGS", &syn_doublings, true)
        .override_global("PROCESSES_MAX", &processes_max, true)
        .override_global("NODES_PER_JOB", &nodes_per_job, true)
        .override_global("IMAGES_PER_JOB", &images_per_job, true)
        .map_max_entries(TASKS, capacity::tasks(processes_max))
        .map_max_entries("NODES", nodes)
        .map_max_entries("IMAGES", images)
        .map_max_entries("USES", capacity::jobs(processes_max))
        .map_max_entries("JOBS", capacity::jobs(processes_max))
        .map_max_entries("UNIDENTIFIED", capacity::unidentified(processes_max))
        .map_max_entries("CGROUPS", capacity::cgroups(processes_max))
        .map_max_entries("FLOWS", config.flows_max)
        .map_max_entries("VERDICTS", config.flows_max)
        .map_max_entries("DOORS", capacity::doors(config.namespaces_max))
        .map_max_entries("ENTRANCES", capacity::doors(config.namespaces_max))
        .map_max_entries("LISTENERS", config.namespaces_max);
    loader.load(OBJECT).map_err(|error| KernelError::Object(with_causes(&error)))
}

/// How often a tick of the kernel's clock has to be doubled to come to a second, as nearly as doubling can.
fn syn_doublings() -> u32 {
    // The coarse clock advances once a tick.
    let tick = rustix::time::clock_getres(rustix::time::ClockId::MonotonicCoarse);
    let ticks_in_a_second = 1e9 / (tick.tv_nsec as f64).max(1.0);
    ticks_in_a_second.log2().round() as u32
}

/// The offsets that the programs ask for, under their names there.
fn offsets(kernel: &Structures) -> Result<Vec<(&'static str, u32)>, BtfError> {
    FIELDS.into_iter().map(|(name, structure, field)| Ok((name, kernel.offset(structure, field)?))).collect()
}
