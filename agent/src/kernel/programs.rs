//! The eBPF programs: which there are, in which order they are attached, and how each kind is loaded and
//! attached.

use std::{
    fs::File,
    os::fd::{AsFd, BorrowedFd},
};

use aya::{
    Btf, Ebpf,
    programs::{
        BtfTracePoint, CgroupAttachMode, Program, ProgramError,
        links::{FdLink, LinkError},
    },
};

use super::{
    error::KernelError,
    pins::Link,
    sys::{self, AttachType},
};

/// The programs that match new cgroups with rules and forget removed cgroups, each with its tracepoint.
pub(super) const CGROUP_TRACEPOINTS: [(&str, &str); 2] =
    [("lineal_cgroup_mkdir", "cgroup_mkdir"), ("lineal_cgroup_rmdir", "cgroup_rmdir")];

/// The programs that follow processes, each with its tracepoint.
pub(super) const PROCESS_TRACEPOINTS: [(&str, &str); 3] = [
    ("lineal_fork", "sched_process_fork"),
    ("lineal_exec", "sched_process_exec"),
    ("lineal_exit", "sched_process_exit"),
];

/// The programs attached to the configured cgroup (`KernelConfig::cgroup`), in this order. `lineal_publish`
/// goes first: no connection may be redirected before its original destination can be published.
pub(super) const CGROUP_PROGRAMS: [&str; 11] = [
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

/// The programs attached to the cgroups of jobs, in this order: `lineal_cover` says that `lineal_egress` is
/// there.
pub(super) const COVER_PROGRAMS: [(&str, AttachType); 2] =
    [("lineal_egress", AttachType::Egress), ("lineal_cover", AttachType::SockCreate)];

/// Every program, with its tracepoint if it has one.
pub(super) fn all() -> impl Iterator<Item = (&'static str, Option<&'static str>)> {
    let covers = COVER_PROGRAMS.into_iter().map(|(program, _)| program);
    CGROUP_PROGRAMS.into_iter().chain(covers).map(|program| (program, None)).chain(
        CGROUP_TRACEPOINTS
            .into_iter()
            .chain(PROCESS_TRACEPOINTS)
            .map(|(program, tracepoint)| (program, Some(tracepoint))),
    )
}

/// Loads a cgroup program: the kernel's verifier checks it.
pub(super) fn load_program(ebpf: &mut Ebpf, program: &'static str) -> Result<(), KernelError> {
    let loaded = match ebpf.program_mut(program) {
        Some(Program::CgroupSock(sock)) => sock.load(),
        Some(Program::CgroupSockAddr(addr)) => addr.load(),
        Some(Program::CgroupSockopt(option)) => option.load(),
        Some(Program::CgroupSkb(packets)) => packets.load(),
        Some(Program::SockOps(ops)) => ops.load(),
        _ => return Err(KernelError::Missing(program)),
    };
    loaded.map_err(KernelError::program(program, "loading"))
}

/// The descriptor of a loaded program.
pub(super) fn loaded<'a>(ebpf: &'a Ebpf, program: &'static str) -> Result<BorrowedFd<'a>, KernelError> {
    let program_fd = ebpf.program(program).ok_or(KernelError::Missing(program))?.fd();
    Ok(program_fd.map_err(KernelError::program(program, "loading"))?.as_fd())
}

/// Attaches a loaded cgroup program.
pub(super) fn attach_to_cgroup(
    ebpf: &mut Ebpf,
    program: &'static str,
    cgroup: &File,
) -> Result<Link, KernelError> {
    // aya's name for a link without flags. Links are always multi-attach.
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
        Some(Program::CgroupSkb(packets)) => match *packets.expected_attach_type() {
            Some(side) => {
                packets.attach(cgroup, side, mode).and_then(|id| packets.take_link(id)).map(FdLink::try_from)
            }
            None => return Err(KernelError::Missing(program)),
        },
        Some(Program::CgroupSockopt(option)) => {
            let option = option.fd().map_err(KernelError::program(program, "loading"))?.as_fd();
            // aya can attach such a program, too, but hands out no link that could be pinned.
            let link = sys::link(option, cgroup.as_fd(), AttachType::Setsockopt);
            return link.map(Link::Raw).map_err(KernelError::program(program, "attaching"));
        }
        _ => return Err(KernelError::Missing(program)),
    };
    let attached = attached.map_err(KernelError::program(program, "attaching"))?;
    attached.map(Link::Aya).map_err(KernelError::program(program, "attaching"))
}

/// Loads a tracing program and attaches it.
pub(super) fn attach_tracing(
    ebpf: &mut Ebpf,
    program: &'static str,
    tracepoint: &str,
    btf: &Btf,
) -> Result<Link, KernelError> {
    let found = ebpf.program_mut(program).and_then(|program| program.try_into().ok());
    let tracing: &mut BtfTracePoint = found.ok_or(KernelError::Missing(program))?;
    tracing.load(tracepoint, btf).map_err(KernelError::program(program, "loading"))?;
    let id = tracing.attach().map_err(KernelError::program(program, "attaching"))?;
    let link = tracing.take_link(id).map_err(KernelError::program(program, "attaching"))?;
    Ok(Link::Aya(link.into()))
}
