//! Loads the eBPF object, resolves its offsets, attaches its programs.
//!
//! Everything attaches or nothing does: a half-attached agent would follow processes whose connections
//! it doesn't see, or the reverse.

use std::{
    fs::File,
    os::fd::{AsFd, BorrowedFd},
    path::{Path, PathBuf},
};

use agent_abi::{FLOWS_MAX, NAMESPACES_MAX, PROCESSES_MAX, capacity};
use aya::{
    Btf, Ebpf, EbpfLoader,
    programs::{
        BtfTracePoint, CgroupAttachMode, Program, ProgramError,
        links::{FdLink, LinkError},
    },
};
use serde::Deserialize;
use thiserror::Error;

use super::{
    btf::{BtfError, Structures},
    events::EventStream,
    maps::Kernel,
    pins::{Link, Pins, TASKS},
    rules::Rules,
    sys,
};
use crate::bounds::{Bound, Bounded};

/// The compiled programs.
static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/lineal-ebpf"));

/// The programs that tell cgroups apart, with the tracepoint each one attaches to. They go first.
const CGROUP_TRACEPOINTS: [(&str, &str); 2] =
    [("lineal_cgroup_mkdir", "cgroup_mkdir"), ("lineal_cgroup_rmdir", "cgroup_rmdir")];

/// The programs that follow processes.
const PROCESS_TRACEPOINTS: [(&str, &str); 3] = [
    ("lineal_fork", "sched_process_fork"),
    ("lineal_exec", "sched_process_exec"),
    ("lineal_exit", "sched_process_exit"),
];

/// The programs attached to the cgroup. `lineal_publish` goes first: no connection may be redirected
/// before its publication works.
const CGROUP_PROGRAMS: [&str; 11] = [
    "lineal_publish",
    "lineal_bind4",
    "lineal_bind6",
    "lineal_sock_create",
    "lineal_setsockopt",
    "lineal_getpeername4",
    "lineal_getpeername6",
    "lineal_sendmsg4",
    "lineal_sendmsg6",
    "lineal_connect4",
    "lineal_connect6",
];

/// The maps that survive the agent. The others hold what dies with it (its listeners, connections on their way to it, its
/// configuration, what it has not read), and begin anew with it.
const KEPT_MAPS: [&str; 10] =
    [TASKS, "MARKS", "NODES", "IMAGES", "USES", "JOBS", "SOCKETS", "UNIDENTIFIED", "WORDS", "STATS"];

/// `[kernel]` of the configuration.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct KernelConfig {
    /// The cgroup-v2 directory to attach to; the root of the hierarchy unless given. Processes outside it
    /// can't be enrolled.
    pub cgroup: Option<PathBuf>,
    /// Directory on bpffs for pinned links; `/sys/fs/bpf/lineal` unless given.
    pub bpffs: Option<PathBuf>,
    /// Moves an enrolled process into `cgroup` when it stands outside. For labs and tests.
    pub move_jobs: bool,
    /// UDP destinations that jobs may use, `address:port`; none unless given.
    pub resolvers: Vec<std::net::SocketAddr>,
    /// Processes followed at once, over all jobs: beyond it a forking process is killed.
    pub processes_max: u32,
    /// Redirected connections that the agent has not accepted yet: beyond it they are closed.
    pub flows_max: u32,
    /// Network namespaces with jobs in them: beyond it enrolment is refused.
    pub namespaces_max: u32,
}

impl Default for KernelConfig {
    fn default() -> Self {
        Self {
            cgroup: None,
            bpffs: None,
            move_jobs: false,
            resolvers: Vec::new(),
            processes_max: PROCESSES_MAX,
            flows_max: FLOWS_MAX,
            namespaces_max: NAMESPACES_MAX,
        }
    }
}

/// Why the kernel side isn't there.
#[derive(Debug, Error)]
pub enum KernelError {
    /// See [`BtfError`].
    #[error(transparent)]
    Btf(#[from] BtfError),
    /// No cgroup v2 hierarchy is mounted.
    #[error("no cgroup2 file system is mounted: mount one, e.g. `mount -t cgroup2 none /sys/fs/cgroup`")]
    NoCgroup2,
    /// The configured cgroup can't be opened.
    #[error("cannot open cgroup {path}: {source}")]
    Cgroup {
        /// The directory.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The kernel refused the object or one of its maps.
    #[error("the kernel refused the eBPF object: {0}{hint}", hint = capability_hint())]
    Object(String),
    /// The kernel refused a program.
    #[error("the kernel refused {step} of program {program}: {reason}{hint}", hint = capability_hint())]
    Program {
        /// The program.
        program: &'static str,
        /// `loading` or `attaching`.
        step: &'static str,
        /// What the kernel said, the verifier's last words included.
        reason: String,
    },
    /// The object lacks a map or program that this agent expects.
    #[error("the eBPF object lacks {0}: the agent and its programs were not built together")]
    Missing(&'static str),
    /// A map operation failed.
    #[error("cannot {action} the {map} map: {reason}")]
    Map {
        /// What was tried.
        action: &'static str,
        /// The map.
        map: &'static str,
        /// What the kernel said.
        reason: String,
    },
    /// A link or map can't be pinned.
    #[error("cannot pin to {path}: {source}")]
    Pin {
        /// The file or directory.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// Another agent runs.
    #[error("another agent holds {path}: one follows a host's processes")]
    Held {
        /// The directory of pins.
        path: PathBuf,
    },
    /// An earlier agent's programs are attached elsewhere, and follow processes.
    #[error(
        "{path} is attached to another cgroup than kernel.cgroup and processes are followed there: wait until they have ended, or run `lineal detach`"
    )]
    OtherCgroup {
        /// The link's pin.
        path: PathBuf,
    },
    /// As many processes are followed as may be.
    #[error("{most} processes are followed on this host already (kernel.processes_max)")]
    TooManyProcesses {
        /// The bound.
        most: u32,
    },
    /// Jobs are in as many network namespaces as may be.
    #[error("jobs in {most} network namespaces are followed on this host already (kernel.namespaces_max)")]
    TooManyNamespaces {
        /// The bound.
        most: u32,
    },
    /// A network namespace can't be entered or served.
    #[error("cannot serve network namespace of process {pid}: {source}")]
    Netns {
        /// The process.
        pid: u32,
        /// What the system said.
        source: std::io::Error,
    },
}

impl Bounded for KernelError {
    fn bound(&self) -> Option<Bound> {
        match self {
            Self::TooManyProcesses { .. } => Some(Bound::Processes),
            Self::TooManyNamespaces { .. } => Some(Bound::Namespaces),
            _ => None,
        }
    }
}

fn capability_hint() -> &'static str {
    const CAP_BPF: u64 = 39;
    const CAP_SYS_ADMIN: u64 = 21;
    let effective = std::fs::read_to_string("/proc/self/status").ok().and_then(|status| {
        let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"))?.trim().to_owned();
        u64::from_str_radix(&line, 16).ok()
    });
    match effective {
        Some(caps) if caps & (1 << CAP_BPF | 1 << CAP_SYS_ADMIN) == 0 => {
            "; this process lacks CAP_BPF: run it as root or grant CAP_BPF, CAP_NET_ADMIN, CAP_PERFMON and CAP_SYS_PTRACE"
        }
        _ => "; `lineal doctor` tells what this kernel can do",
    }
}

/// The root of the cgroup-v2 hierarchy: `/sys/fs/cgroup`, or `/sys/fs/cgroup/unified` on hybrid hosts.
pub fn cgroup_root() -> Result<PathBuf, KernelError> {
    std::fs::read_to_string("/proc/mounts")
        .unwrap_or_default()
        .lines()
        .find_map(|line| {
            let mut fields = line.split(' ');
            let path = fields.nth(1)?;
            (fields.next()? == "cgroup2").then(|| PathBuf::from(path))
        })
        .ok_or(KernelError::NoCgroup2)
}

/// Loads and attaches everything, in the place of what an earlier agent has left attached. No connection is let through
/// until the lease is renewed.
pub fn load(config: &KernelConfig, rules: &Rules) -> Result<(Kernel, EventStream), KernelError> {
    let cgroup_path = match &config.cgroup {
        Some(path) => path.clone(),
        None => cgroup_root()?,
    };
    let cgroup = File::open(&cgroup_path)
        .map_err(|source| KernelError::Cgroup { path: cgroup_path.clone(), source })?;
    let pins = Pins::hold(config.bpffs.as_deref())?;
    match attach(config, rules, &pins, &cgroup) {
        Ok((kernel, events)) => Ok((kernel.keep(pins, cgroup_path), events)),
        Err(error) => {
            // Everything attaches or nothing does; what was attached before stays, and refuses.
            if !pins.inherited() {
                pins.remove_own();
            }
            Err(error)
        }
    }
}

fn attach(
    config: &KernelConfig,
    rules: &Rules,
    pins: &Pins,
    cgroup: &File,
) -> Result<(Kernel, EventStream), KernelError> {
    let mut ebpf = load_object(config, Some(pins), rules.kinds())?;
    rules.fill(&mut ebpf)?;
    let (kernel, events) = Kernel::new(&mut ebpf, config)?;
    let btf = Btf::from_sys_fs().map_err(|error| KernelError::Object(error.to_string()))?;
    for program in CGROUP_PROGRAMS {
        load_program(&mut ebpf, program)?;
        if !pins.update(program, loaded(&ebpf, program)?, cgroup)? {
            pins.pin(program, attach_to_cgroup(&mut ebpf, program, cgroup)?)?;
        }
    }
    for (program, tracepoint) in CGROUP_TRACEPOINTS {
        pins.pin(program, attach_tracing(&mut ebpf, program, tracepoint, &btf)?)?;
    }
    // What is made from here on is told apart as it is made, and nothing executes that is not.
    rules.fill_cgroups(&mut ebpf)?;
    for (program, tracepoint) in PROCESS_TRACEPOINTS {
        pins.pin(program, attach_tracing(&mut ebpf, program, tracepoint, &btf)?)?;
    }
    pins.silence_others();
    let log = aya_log::EbpfLogger::init(&mut ebpf).ok();
    Ok((kernel, events.with_log(log)))
}

/// Creates the maps, but for those that are pinned already, and relocates the programs, for these kinds of rules; nothing
/// runs yet.
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
    // Maps that are there already are as large as they are.
    let kept = pins.map(|pins| pins.capacity(TASKS)).transpose()?.flatten();
    let processes_max = kept.map_or(config.processes_max, capacity::processes);
    if processes_max != config.processes_max {
        tracing::warn!(processes_max, "kernel.processes_max stays as it is until `lineal detach`");
    }
    let (nodes, images) = (capacity::nodes(processes_max), capacity::images(processes_max));
    let (nodes_per_job, images_per_job) = (capacity::share(nodes), capacity::share(images));
    loader
        .override_global("RULE_KINDS", &rule_kinds, true)
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
        .map_max_entries("LISTENERS", config.namespaces_max);
    loader.load(OBJECT).map_err(|error| KernelError::Object(chain(&error)))
}

/// The offsets that the programs ask for, under their names there.
fn offsets(kernel: &Structures) -> Result<Vec<(&'static str, u32)>, BtfError> {
    [
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
    ]
    .into_iter()
    .map(|(name, structure, field)| Ok((name, kernel.offset(structure, field)?)))
    .collect()
}

/// Has the kernel check a cgroup program.
pub(super) fn load_program(ebpf: &mut Ebpf, program: &'static str) -> Result<(), KernelError> {
    let loaded = match ebpf.program_mut(program) {
        Some(Program::CgroupSock(sock)) => sock.load(),
        Some(Program::CgroupSockAddr(addr)) => addr.load(),
        Some(Program::CgroupSockopt(option)) => option.load(),
        Some(Program::SockOps(ops)) => ops.load(),
        _ => return Err(KernelError::Missing(program)),
    };
    loaded.map_err(refused(program, "loading"))
}

fn loaded<'a>(ebpf: &'a Ebpf, program: &'static str) -> Result<BorrowedFd<'a>, KernelError> {
    let program_fd = ebpf.program(program).ok_or(KernelError::Missing(program))?.fd();
    Ok(program_fd.map_err(refused(program, "loading"))?.as_fd())
}

/// Attaches a loaded cgroup program.
pub(super) fn attach_to_cgroup(
    ebpf: &mut Ebpf,
    program: &'static str,
    cgroup: &File,
) -> Result<Link, KernelError> {
    // `Single` is what aya calls a link without flags; links are always multi-attach.
    let mode = CgroupAttachMode::Single;
    let attached: Result<Result<FdLink, LinkError>, ProgramError> = match ebpf.program_mut(program) {
        Some(Program::CgroupSock(sock)) => {
            sock.attach(cgroup, mode).and_then(|id| sock.take_link(id)).map(FdLink::try_from)
        }
        Some(Program::CgroupSockAddr(addr)) => {
            addr.attach(cgroup, mode).and_then(|id| addr.take_link(id)).map(FdLink::try_from)
        }
        Some(Program::SockOps(ops)) => {
            ops.attach(cgroup, mode).and_then(|id| ops.take_link(id)).map(FdLink::try_from)
        }
        Some(Program::CgroupSockopt(option)) => {
            let option = option.fd().map_err(refused(program, "loading"))?.as_fd();
            let link = sys::link_setsockopt(option, cgroup.as_fd());
            return link.map(Link::Own).map_err(refused(program, "attaching"));
        }
        _ => return Err(KernelError::Missing(program)),
    };
    let attached = attached.map_err(refused(program, "attaching"))?;
    attached.map(Link::Aya).map_err(refused(program, "attaching"))
}

/// Loads one tracing program and attaches it.
pub(super) fn attach_tracing(
    ebpf: &mut Ebpf,
    program: &'static str,
    tracepoint: &str,
    btf: &Btf,
) -> Result<Link, KernelError> {
    let tracing: &mut BtfTracePoint = typed(ebpf, program)?;
    tracing.load(tracepoint, btf).map_err(refused(program, "loading"))?;
    let id = tracing.attach().map_err(refused(program, "attaching"))?;
    Ok(Link::Aya(tracing.take_link(id).map_err(refused(program, "attaching"))?.into()))
}

/// Every program with its hook, in attach order.
pub(super) fn programs() -> impl Iterator<Item = (&'static str, Option<&'static str>)> {
    CGROUP_PROGRAMS.into_iter().map(|program| (program, None)).chain(
        CGROUP_TRACEPOINTS
            .into_iter()
            .chain(PROCESS_TRACEPOINTS)
            .map(|(program, tracepoint)| (program, Some(tracepoint))),
    )
}

fn typed<'a, T>(ebpf: &'a mut Ebpf, program: &'static str) -> Result<&'a mut T, KernelError>
where
    &'a mut T: TryFrom<&'a mut Program>,
{
    ebpf.program_mut(program).and_then(|program| program.try_into().ok()).ok_or(KernelError::Missing(program))
}

fn refused<E: std::error::Error>(program: &'static str, step: &'static str) -> impl FnOnce(E) -> KernelError {
    move |error| KernelError::Program { program, step, reason: chain(&error) }
}

/// An error with its causes, the verifier's log cut to its last lines.
fn chain(error: &dyn std::error::Error) -> String {
    const LAST_LINES: usize = 4;
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    match lines.len().checked_sub(LAST_LINES + 1) {
        Some(skipped) if std::env::var_os("LINEAL_VERIFIER_LOG").is_none() => {
            let first = lines.first().copied().unwrap_or_default();
            format!("{first} … {}", lines.get(skipped + 1..).unwrap_or_default().join(" | "))
        }
        _ => lines.join("\n"),
    }
}

/// Whether `path` is the cgroup of process `pid`, or above it.
pub(super) fn cgroup_contains(path: &Path, pid: u32) -> std::io::Result<bool> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/cgroup"))?;
    let Some(inside) = text.lines().find_map(|line| line.strip_prefix("0::")) else { return Ok(false) };
    let Ok(root) = cgroup_root() else { return Ok(false) };
    let whole = root.join(inside.trim_start_matches('/'));
    Ok(whole.starts_with(path))
}
