//! The programs that see each packet of jobs: attached to the cgroups that jobs are in, and to no other.
//!
//! A process may move to another cgroup, or make a socket before its cgroup is covered. The kernel side knows
//! which sockets it sees (`agent-ebpf/src/egress.rs`), and lets the others do less. So it does no harm if a
//! cgroup can't be covered, or is covered late. What is attached stays until the cgroup is removed.

use std::{
    collections::HashSet,
    fs::{self, File},
    io,
    os::{
        fd::{AsFd, OwnedFd},
        unix::fs::MetadataExt,
    },
    path::Path,
    sync::{Mutex, PoisonError},
};

use aya::Ebpf;

use super::{
    error::KernelError,
    pins::{Link, Pins},
    programs::{COVER_PROGRAMS, loaded},
    sys::{self, AttachType},
};

/// How the pins of these links begin; the cgroup's id and the program's name follow.
const PREFIX: &str = "cover_";

/// Cgroups to which the programs are attached at once. Those below one that is covered need no place.
const COVERED_MAX: usize = 4_096;

/// The programs, and the cgroups that they are attached to.
pub struct Cover {
    programs: Vec<(&'static str, OwnedFd, AttachType)>,
    /// Ids of the cgroups.
    covered: Mutex<HashSet<u64>>,
}

impl Cover {
    /// Takes the loaded programs, and puts them in place of those that an earlier agent has left attached.
    pub(super) fn take_over(ebpf: &Ebpf, pins: &Pins) -> Result<Self, KernelError> {
        let mut programs = Vec::new();
        for (name, attach_type) in COVER_PROGRAMS {
            let program = loaded(ebpf, name)?.try_clone_to_owned();
            let program = program.map_err(KernelError::program(name, "loading"))?;
            programs.push((name, program, attach_type));
        }
        let mut left = HashSet::new();
        for (id, name) in covers(pins) {
            let path = pins.path(&pin_name(id, &name));
            let failed = |source| KernelError::Pin { path: path.clone(), source };
            let link = sys::pinned(&path).map_err(failed)?;
            let program = programs.iter().find(|(program, ..)| *program == name);
            if let (Some(link), Some((_, program, _))) = (link, program)
                && sys::cgroup_of(&link).map_err(failed)? != 0
            {
                sys::update_link(&link, program.as_fd()).map_err(failed)?;
                left.insert((id, name));
            } else {
                fs::remove_file(&path).map_err(failed)?;
            }
        }
        let whole = |id: &u64| programs.iter().all(|(name, ..)| left.contains(&(*id, (*name).to_owned())));
        let covered = left.iter().map(|(id, _)| *id).filter(whole).collect();
        Ok(Self { programs, covered: Mutex::new(covered) })
    }

    /// Attaches the programs to a cgroup, unless they are attached to it, or to one above it, already.
    pub(super) fn cover(&self, pins: &Pins, cgroup: &Path) -> Result<(), KernelError> {
        let mut covered = self.covered.lock().unwrap_or_else(PoisonError::into_inner);
        let unreadable = |source| KernelError::Cgroup { path: cgroup.to_owned(), source };
        let directory = File::open(cgroup).map_err(unreadable)?;
        let id = directory.metadata().map_err(unreadable)?.ino();
        let above = cgroup.ancestors().filter_map(|path| fs::metadata(path).ok());
        if above.into_iter().any(|above| covered.contains(&above.ino())) {
            return Ok(());
        }
        if covered.len() >= COVERED_MAX {
            return Err(KernelError::TooManyCgroups { most: COVERED_MAX });
        }
        for (name, program, attach_type) in &self.programs {
            let name = pin_name(id, name);
            // An earlier agent may have attached the first one only.
            if pins.path(&name).exists() {
                continue;
            }
            let link = sys::link(program.as_fd(), directory.as_fd(), *attach_type).map_err(unreadable)?;
            pins.pin(&name, Link::Raw(link))?;
        }
        covered.insert(id);
        Ok(())
    }

    /// Forgets cgroups that have been removed.
    pub(super) fn sweep(&self, pins: &Pins) {
        let mut covered = self.covered.lock().unwrap_or_else(PoisonError::into_inner);
        covered.retain(|id| {
            let paths = self.programs.iter().map(|(name, ..)| pins.path(&pin_name(*id, name)));
            let removed = |path: &Path| matches!(live(path), Ok(false));
            let (gone, kept): (Vec<_>, Vec<_>) = paths.partition(|path| removed(path));
            gone.iter().for_each(|path| drop(fs::remove_file(path)));
            !kept.is_empty()
        });
    }
}

/// Whether the cgroup behind a pinned link still exists.
fn live(path: &Path) -> io::Result<bool> {
    sys::pinned(path)?.map_or(Ok(false), |link| Ok(sys::cgroup_of(&link)? != 0))
}

/// The cgroups and programs of the links that are pinned.
fn covers(pins: &Pins) -> Vec<(u64, String)> {
    let names = fs::read_dir(pins.path("")).into_iter().flatten().flatten();
    names
        .filter_map(|entry| {
            let name = entry.file_name().into_string().ok()?;
            let (id, program) = name.strip_prefix(PREFIX)?.split_once('_')?;
            Some((id.parse().ok()?, program.to_owned()))
        })
        .collect()
}

fn pin_name(cgroup: u64, program: &str) -> String {
    format!("{PREFIX}{cgroup}_{program}")
}
