//! What this host's kernel can enforce, found by loading and attaching, never by reading a list.

use std::{fs::File, io, path::Path};

use rustix::{
    mount::{MountPropagationFlags, mount_change},
    thread::UnshareFlags,
};
use serde::Serialize;

use super::{
    load::{
        KernelConfig, KernelError, attach_to_cgroup, attach_tracing, cgroup_root, load_object, load_program,
        programs,
    },
    netns::{Netns, own_namespace},
    pins::{BPFFS, Pins, TASKS},
};

/// One thing that was tried.
#[derive(Clone, Debug, Serialize)]
pub struct Finding {
    /// What it is for.
    pub check: String,
    /// Whether it works.
    pub ok: bool,
    /// Whether the agent can't run without it.
    pub required: bool,
    /// What was seen; for a failure the reason and the remedy.
    pub detail: String,
}

impl Finding {
    fn of(check: &str, required: bool, tried: Result<String, (String, &str)>) -> Self {
        match tried {
            Ok(detail) => Self { check: check.to_owned(), ok: true, required, detail },
            Err((reason, remedy)) => {
                Self { check: check.to_owned(), ok: false, required, detail: format!("{reason}; {remedy}") }
            }
        }
    }
}

/// Loads every program and attaches it: cgroup programs to a fresh, empty cgroup below the root, so that
/// no process on the host is touched; tracepoints find no tagged task.
pub fn probe() -> Vec<Finding> {
    let root = match cgroup_root() {
        Ok(root) => root,
        Err(error) => {
            return vec![Finding::of("cgroup v2", true, Err((error.to_string(), "then run this again")))];
        }
    };
    let mut findings = vec![Finding::of("cgroup v2", true, Ok(format!("mounted at {}", root.display())))];
    let mut ebpf = match load_object(&KernelConfig::default(), None, u32::MAX) {
        Ok(ebpf) => {
            findings.push(Finding::of(
                "kernel type information and maps",
                true,
                Ok("offsets found, maps created".into()),
            ));
            ebpf
        }
        Err(error) => {
            let remedy = "lineal needs Linux 6.1 or later with BTF, and CAP_BPF";
            findings.push(Finding::of(
                "kernel type information and maps",
                true,
                Err((error.to_string(), remedy)),
            ));
            return findings;
        }
    };
    let btf = match aya::Btf::from_sys_fs() {
        Ok(btf) => btf,
        Err(error) => {
            let remedy = "lineal needs a kernel built with CONFIG_DEBUG_INFO_BTF";
            findings.push(Finding::of("kernel type information", true, Err((error.to_string(), remedy))));
            return findings;
        }
    };
    let scratch = root.join(format!("lineal-doctor-{}", std::process::id()));
    let cgroup = std::fs::create_dir(&scratch).and_then(|()| File::open(&scratch));
    for (program, tracepoint) in programs() {
        let tried = match (tracepoint, &cgroup) {
            (Some(tracepoint), _) => attach_tracing(&mut ebpf, program, tracepoint, &btf),
            (None, Ok(cgroup)) => {
                load_program(&mut ebpf, program).and_then(|()| attach_to_cgroup(&mut ebpf, program, cgroup))
            }
            (None, Err(error)) => Err(KernelError::Cgroup {
                path: scratch.clone(),
                source: std::io::Error::new(error.kind(), error.to_string()),
            }),
        };
        let remedy =
            "the kernel must be 6.1 or later and the caller hold CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON";
        let name = format!("program {program}");
        findings.push(Finding::of(
            &name,
            true,
            tried.map(|_link| "loads and attaches".into()).map_err(|error| (error.to_string(), remedy)),
        ));
    }
    findings.push(pins(&ebpf));
    drop(ebpf);
    let _ = std::fs::remove_dir(&scratch);
    findings.push(network_namespaces());
    findings
}

/// Pins a map, in a mount namespace of its own: if bpffs has to be mounted for that, nobody else sees it.
fn pins(ebpf: &aya::Ebpf) -> Finding {
    let root = Path::new(BPFFS).join(format!("lineal-doctor-{}", std::process::id()));
    let pin = || {
        private_mounts().map_err(|source| KernelError::Pin { path: BPFFS.into(), source })?;
        let pins = Pins::hold(Some(&root))?;
        let path = pins.path(TASKS);
        let tasks = ebpf.map(TASKS).ok_or(KernelError::Missing(TASKS))?;
        let pinned =
            tasks.pin(&path).map_err(|error| KernelError::Pin { path, source: io::Error::other(error) });
        pins.remove();
        pinned
    };
    let tried = std::thread::scope(|scope| scope.spawn(pin).join());
    let tried = match tried {
        Ok(pinned) => {
            pinned.map(|()| "maps and links can be pinned".into()).map_err(|error| error.to_string())
        }
        Err(_) => Err("the probe panicked".to_owned()),
    };
    let remedy = "mount bpffs (`mount -t bpf bpffs /sys/fs/bpf`) and grant CAP_SYS_ADMIN";
    Finding::of("pins on bpffs", true, tried.map_err(|reason| (reason, remedy)))
}

/// Gives this thread mounts of its own.
fn private_mounts() -> io::Result<()> {
    own_namespace(UnshareFlags::NEWNS)?;
    mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)?;
    Ok(())
}

/// Makes a network namespace, and a socket in it from outside.
fn network_namespaces() -> Finding {
    let tried = Netns::fresh().and_then(|netns| netns.socket_for(([127, 0, 0, 1], 1).into()));
    let remedy = "the kernel must have CONFIG_NET_NS, and the caller hold CAP_SYS_ADMIN";
    let tried = tried.map(|_| "can be entered".into()).map_err(|error| (error.to_string(), remedy));
    Finding::of("network namespaces", true, tried)
}
