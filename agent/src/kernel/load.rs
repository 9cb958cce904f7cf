//! Loads the eBPF object, resolves its offsets, attaches its programs.
//!
//! Everything attaches or nothing does: a half-attached agent would follow processes whose connections
//! it doesn't see, or the reverse.

use std::{
    fs::File,
    path::{Path, PathBuf},
};

use aya::{
    Btf, Ebpf, EbpfLoader,
    programs::{BtfTracePoint, CgroupAttachMode, Program, links::FdLink},
};
use serde::Deserialize;
use thiserror::Error;

use super::{
    btf::{BtfError, Structures},
    maps::{EventStream, Kernel},
    pins::Generation,
};

/// The compiled programs.
static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/lineal-ebpf"));

/// The programs that follow processes, with the tracepoint each one attaches to.
const TRACEPOINTS: [(&str, &str); 3] = [
    ("lineal_fork", "sched_process_fork"),
    ("lineal_exec", "sched_process_exec"),
    ("lineal_exit", "sched_process_exit"),
];

/// The programs attached to the cgroup. `lineal_publish` goes first: no connection may be redirected
/// before its publication works.
const CGROUP_PROGRAMS: [&str; 8] = [
    "lineal_publish",
    "lineal_sock_create",
    "lineal_getpeername4",
    "lineal_getpeername6",
    "lineal_sendmsg4",
    "lineal_sendmsg6",
    "lineal_connect4",
    "lineal_connect6",
];

/// `[kernel]` of the configuration.
#[derive(Clone, Debug, Default, Deserialize)]
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
    /// A network namespace can't be entered or served.
    #[error("cannot serve network namespace of process {pid}: {source}")]
    Netns {
        /// The process.
        pid: u32,
        /// What the system said.
        source: std::io::Error,
    },
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

/// Loads and attaches everything; what it answers keeps it attached.
pub fn load(config: &KernelConfig) -> Result<(Kernel, EventStream), KernelError> {
    let cgroup_path = match &config.cgroup {
        Some(path) => path.clone(),
        None => cgroup_root()?,
    };
    let cgroup = File::open(&cgroup_path)
        .map_err(|source| KernelError::Cgroup { path: cgroup_path.clone(), source })?;
    let mut generation = Generation::create(config.bpffs.as_deref())?;
    let attached = attach(config, &mut generation, &cgroup);
    match attached {
        Ok((kernel, events)) => Ok((kernel.keep(generation, cgroup_path), events)),
        // Everything attaches or nothing does.
        Err(error) => {
            generation.remove();
            Err(error)
        }
    }
}

fn attach(
    config: &KernelConfig,
    generation: &mut Generation,
    cgroup: &File,
) -> Result<(Kernel, EventStream), KernelError> {
    let mut ebpf = load_object()?;
    generation.pin_tasks(ebpf.map("TASKS").ok_or(KernelError::Missing("TASKS"))?)?;
    let (kernel, events) = Kernel::new(&mut ebpf, config)?;
    let btf = Btf::from_sys_fs().map_err(|error| KernelError::Object(error.to_string()))?;
    for program in CGROUP_PROGRAMS {
        let link = attach_to_cgroup(&mut ebpf, program, cgroup)?;
        generation.pin(program, link)?;
    }
    for (program, tracepoint) in TRACEPOINTS {
        let link = attach_tracing(&mut ebpf, program, tracepoint, &btf)?;
        generation.pin(program, link)?;
    }
    let log = aya_log::EbpfLogger::init(&mut ebpf).ok();
    Ok((kernel, events.with_log(log)))
}

/// Creates the maps and relocates the programs; nothing runs yet.
pub(super) fn load_object() -> Result<Ebpf, KernelError> {
    let structures = Structures::of_running_kernel()?;
    let offsets = offsets(&structures)?;
    let mut loader = EbpfLoader::new();
    for (name, value) in &offsets {
        loader.override_global(name, value, true);
    }
    loader.load(OBJECT).map_err(|error| KernelError::Object(chain(&error)))
}

/// The offsets that the programs ask for, under their names there.
fn offsets(kernel: &Structures) -> Result<Vec<(&'static str, u32)>, BtfError> {
    [
        ("OFF_TASK_PID", "task_struct", "pid"),
        ("OFF_TASK_TGID", "task_struct", "tgid"),
        ("OFF_TASK_SIGNAL", "task_struct", "signal"),
        ("OFF_TASK_MM", "task_struct", "mm"),
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
    ]
    .into_iter()
    .map(|(name, structure, field)| Ok((name, kernel.offset(structure, field)?)))
    .collect()
}

/// Loads one cgroup program and attaches it.
pub(super) fn attach_to_cgroup(
    ebpf: &mut Ebpf,
    program: &'static str,
    cgroup: &File,
) -> Result<FdLink, KernelError> {
    // `Single` is what aya calls a link without flags; links are always multi-attach.
    let mode = CgroupAttachMode::Single;
    match ebpf.program_mut(program).ok_or(KernelError::Missing(program))? {
        Program::CgroupSock(sock) => {
            sock.load().map_err(refused(program, "loading"))?;
            let id = sock.attach(cgroup, mode).map_err(refused(program, "attaching"))?;
            let link = sock.take_link(id).map_err(refused(program, "attaching"))?;
            link.try_into().map_err(refused(program, "attaching"))
        }
        Program::CgroupSockAddr(addr) => {
            addr.load().map_err(refused(program, "loading"))?;
            let id = addr.attach(cgroup, mode).map_err(refused(program, "attaching"))?;
            let link = addr.take_link(id).map_err(refused(program, "attaching"))?;
            link.try_into().map_err(refused(program, "attaching"))
        }
        Program::SockOps(ops) => {
            ops.load().map_err(refused(program, "loading"))?;
            let id = ops.attach(cgroup, mode).map_err(refused(program, "attaching"))?;
            let link = ops.take_link(id).map_err(refused(program, "attaching"))?;
            link.try_into().map_err(refused(program, "attaching"))
        }
        _ => Err(KernelError::Missing(program)),
    }
}

/// Loads one tracing program and attaches it.
pub(super) fn attach_tracing(
    ebpf: &mut Ebpf,
    program: &'static str,
    tracepoint: &str,
    btf: &Btf,
) -> Result<FdLink, KernelError> {
    let tracing: &mut BtfTracePoint = typed(ebpf, program)?;
    tracing.load(tracepoint, btf).map_err(refused(program, "loading"))?;
    let id = tracing.attach().map_err(refused(program, "attaching"))?;
    Ok(tracing.take_link(id).map_err(refused(program, "attaching"))?.into())
}

/// Every program with its hook, in attach order.
pub(super) fn programs() -> impl Iterator<Item = (&'static str, Option<&'static str>)> {
    CGROUP_PROGRAMS
        .into_iter()
        .map(|program| (program, None))
        .chain(TRACEPOINTS.into_iter().map(|(program, tracepoint)| (program, Some(tracepoint))))
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
