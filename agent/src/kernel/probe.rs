//! What this host's kernel can enforce, found by loading and attaching, never by reading a list of features.
//!
//! Nothing on the host is touched: cgroup programs are attached to a fresh, empty cgroup; tracing programs
//! find no tagged process; pins are made in a mount namespace of their own.

use std::{
    fs::{self, File},
    io,
    path::Path,
};

use aya::{Btf, Ebpf};
use rustix::{
    mount::{MountPropagationFlags, mount_change},
    thread::UnshareFlags,
};
use serde::Serialize;

use super::{
    cgroups::cgroup_root,
    config::KernelConfig,
    error::KernelError,
    netns::{Netns, own_namespace},
    object::load_object,
    pins::{BPFFS, Pins, TASKS},
    programs::{self, DOOR, attach_to_cgroup, attach_tracing, load_program},
};

const OBJECT_REMEDY: &str = "lineal needs Linux 6.1 or later, built with CONFIG_DEBUG_INFO_BTF, and CAP_BPF";
const BTF_REMEDY: &str = "lineal needs a kernel built with CONFIG_DEBUG_INFO_BTF";
const CGROUP_REMEDY: &str = "lineal needs a writable cgroup2 file system: run it as root, outside containers";
const CGROUP_PROGRAM_REMEDY: &str =
    "lineal needs Linux 6.1 or later, built with CONFIG_CGROUP_BPF, and CAP_BPF and CAP_NET_ADMIN";
const DOOR_REMEDY: &str = "lineal needs Linux 6.1 or later, and CAP_BPF and CAP_NET_ADMIN";
const TRACING_PROGRAM_REMEDY: &str =
    "lineal needs Linux 6.1 or later, built with CONFIG_BPF_EVENTS, and CAP_BPF and CAP_PERFMON";
const PINS_REMEDY: &str = "mount bpffs (`mount -t bpf bpffs /sys/fs/bpf`) and grant CAP_SYS_ADMIN";
const NETNS_REMEDY: &str = "lineal needs a kernel built with CONFIG_NET_NS, and CAP_SYS_ADMIN";

/// One thing that was tried.
#[derive(Clone, Debug, Serialize)]
pub struct Finding {
    /// What was tried.
    pub check: String,
    /// Whether it works.
    pub ok: bool,
    /// Whether the agent can't run without it.
    pub required: bool,
    /// What was seen; for a failure the reason and the remedy.
    pub detail: String,
}

impl Finding {
    /// A check that the agent can't run without. A failure is stated as `reason; remedy`.
    fn required(check: &str, tried: Result<String, (String, &str)>) -> Self {
        let ok = tried.is_ok();
        let detail = tried.unwrap_or_else(|(reason, remedy)| format!("{reason}; {remedy}"));
        Self { check: check.to_owned(), ok, required: true, detail }
    }
}

/// Tries everything that the agent needs of the kernel. What can't be tried after a failure is left out.
pub fn probe() -> Vec<Finding> {
    let mut findings = Vec::new();
    if let Some(ebpf) = probe_programs(&mut findings) {
        findings.push(pins(&ebpf));
        drop(ebpf);
        findings.push(network_namespaces());
    }
    findings
}

/// Creates the maps, then loads and attaches every program. `None` if it came to no program.
fn probe_programs(findings: &mut Vec<Finding>) -> Option<Ebpf> {
    let check = "cgroup v2";
    let root = cgroup_root();
    let mounted = root.as_ref().map(|root| format!("mounted at {}", root.display()));
    let again = "then run `lineal doctor` again";
    findings.push(Finding::required(check, mounted.map_err(|error| (error.to_string(), again))));
    let root = root.ok()?;

    let check = "kernel type information and maps";
    let loaded = load_object(&KernelConfig::default(), None, u32::MAX);
    let made = loaded.as_ref().map(|_| "offsets found, maps created".to_owned());
    findings
        .push(Finding::required(check, made.map_err(|error| (error.without_doctor_hint(), OBJECT_REMEDY))));
    let mut ebpf = loaded.ok()?;

    let btf = match Btf::from_sys_fs() {
        Ok(btf) => btf,
        Err(error) => {
            findings.push(Finding::required("kernel type information", Err((error.to_string(), BTF_REMEDY))));
            return None;
        }
    };
    let scratch = root.join(format!("lineal-doctor-{}", std::process::id()));
    let cgroup = fs::create_dir(&scratch)
        .and_then(|()| File::open(&scratch))
        .map_err(|error| format!("cannot make cgroup {}: {error}", scratch.display()));
    for (program, tracepoint) in programs::all() {
        let tried = match (tracepoint, &cgroup) {
            (Some(tracepoint), _) => attach_tracing(&mut ebpf, program, tracepoint, &btf)
                .map_err(|error| (error.without_doctor_hint(), TRACING_PROGRAM_REMEDY)),
            (None, Ok(cgroup)) => load_program(&mut ebpf, program)
                .and_then(|()| attach_to_cgroup(&mut ebpf, program, cgroup))
                .map_err(|error| (error.without_doctor_hint(), CGROUP_PROGRAM_REMEDY)),
            (None, Err(reason)) => Err((reason.clone(), CGROUP_REMEDY)),
        };
        let tried = tried.map(|_link| "loads and attaches".to_owned());
        findings.push(Finding::required(&format!("program {program}"), tried));
    }
    let _ = fs::remove_dir(&scratch);
    let door = load_program(&mut ebpf, DOOR).map(|()| "loads".to_owned());
    let door = door.map_err(|error| (error.without_doctor_hint(), DOOR_REMEDY));
    findings.push(Finding::required(&format!("program {DOOR}"), door));
    Some(ebpf)
}

/// Pins a map, in a mount namespace of its own: if bpffs has to be mounted for that, nobody else sees it.
fn pins(ebpf: &Ebpf) -> Finding {
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
    let tried = match std::thread::scope(|scope| scope.spawn(pin).join()) {
        Ok(pinned) => {
            pinned.map(|()| "maps and links can be pinned".into()).map_err(|error| error.to_string())
        }
        Err(_) => Err("the probe panicked".to_owned()),
    };
    Finding::required("pins on bpffs", tried.map_err(|reason| (reason, PINS_REMEDY)))
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
    let tried = tried.map(|_| "can be entered".into()).map_err(|error| (error.to_string(), NETNS_REMEDY));
    Finding::required("network namespaces", tried)
}
