//! Why the kernel side can't be used, in words for whoever has to mend it.

use std::{fmt, path::PathBuf};

use thiserror::Error;

use super::btf::BtfError;
use crate::bounds::{Bound, Bounded};

const DOCTOR_HINT: &str = "; run `lineal doctor` to see what this kernel can do";

/// Why the kernel side can't be used.
#[derive(Debug, Error)]
pub enum KernelError {
    /// The kernel's type information can't be used.
    #[error(transparent)]
    Btf(#[from] BtfError),
    /// No cgroup v2 hierarchy is mounted.
    #[error("no cgroup2 file system is mounted: mount one, e.g. `mount -t cgroup2 none /sys/fs/cgroup`")]
    NoCgroup2,
    /// The cgroup to attach to can't be opened.
    #[error(
        "cannot open cgroup {path}: {source}; kernel.cgroup must be a directory of the cgroup2 file system"
    )]
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
        /// What the kernel said, with the last lines of the verifier's log.
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
    /// Pins can't be made, read or replaced.
    #[error("cannot use {path} for pinned maps and links: {source}")]
    Pin {
        /// The file or directory.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// Another agent runs.
    #[error("another agent holds {path}: only one agent can follow a host's processes")]
    Held {
        /// The directory of pins.
        path: PathBuf,
    },
    /// An earlier agent's programs are attached to another cgroup, and follow processes there.
    #[error(
        "{path} is attached to another cgroup than kernel.cgroup, and processes are followed there: \
         wait until they have ended, or run `lineal detach`"
    )]
    OtherCgroup {
        /// The link's pin.
        path: PathBuf,
    },
    /// As many processes are followed as may be.
    #[error(
        "{most} processes are followed on this host already, and kernel.processes_max allows no more: \
         wait until some have ended"
    )]
    TooManyProcesses {
        /// The bound.
        most: u32,
    },
    /// Packets are seen in as many cgroups as may be.
    #[error("packets are seen in {most} cgroups already: remove some in which no job is any more")]
    TooManyCgroups {
        /// The bound.
        most: usize,
    },
    /// Jobs are in as many network namespaces as may be.
    #[error(
        "jobs in {most} network namespaces are followed on this host already, \
         and kernel.namespaces_max allows no more: wait until some have ended, or raise it"
    )]
    TooManyNamespaces {
        /// The bound.
        most: u32,
    },
    /// A network namespace can't be entered, or the agent can't listen in it.
    #[error(
        "cannot listen in the network namespace of process {pid}: {source} \
         (its loopback interface must be up)"
    )]
    Netns {
        /// The process.
        pid: u32,
        /// What the system said.
        source: std::io::Error,
    },
}

impl KernelError {
    /// The error in words, without the advice to run `lineal doctor`: for `lineal doctor` itself.
    pub(super) fn without_doctor_hint(&self) -> String {
        let text = self.to_string();
        text.strip_suffix(DOCTOR_HINT).map(str::to_owned).unwrap_or(text)
    }

    /// For `map_err`: an operation on a map failed.
    pub(super) fn map<E: fmt::Display>(action: &'static str, map: &'static str) -> impl FnOnce(E) -> Self {
        move |error| Self::Map { action, map, reason: error.to_string() }
    }

    /// For `map_err`: the kernel refused a program.
    pub(super) fn program<E: std::error::Error>(
        program: &'static str,
        step: &'static str,
    ) -> impl FnOnce(E) -> Self {
        move |error| Self::Program { program, step, reason: with_causes(&error) }
    }
}

impl Bounded for KernelError {
    fn bound(&self) -> Option<Bound> {
        match self {
            Self::TooManyProcesses { .. } => Some(Bound::Processes),
            Self::TooManyCgroups { .. } => Some(Bound::CoveredCgroups),
            Self::TooManyNamespaces { .. } => Some(Bound::Namespaces),
            _ => None,
        }
    }
}

/// The likely remedy after the kernel has refused something: capabilities if they are missing, `lineal
/// doctor` otherwise.
fn capability_hint() -> &'static str {
    const CAP_BPF: u64 = 39;
    const CAP_SYS_ADMIN: u64 = 21;
    let effective = std::fs::read_to_string("/proc/self/status").ok().and_then(|status| {
        let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"))?.trim().to_owned();
        u64::from_str_radix(&line, 16).ok()
    });
    match effective {
        Some(caps) if caps & (1 << CAP_BPF | 1 << CAP_SYS_ADMIN) == 0 => {
            "; this process lacks CAP_BPF: run it as root, \
             or grant it CAP_BPF, CAP_NET_ADMIN, CAP_PERFMON and CAP_SYS_PTRACE"
        }
        _ => DOCTOR_HINT,
    }
}

/// An error with its causes. The verifier's log is cut to its last lines, unless `LINEAL_VERIFIER_LOG` is
/// set.
pub(super) fn with_causes(error: &dyn std::error::Error) -> String {
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
