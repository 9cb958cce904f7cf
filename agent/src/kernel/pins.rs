//! Pinned links: what keeps jobs shut off when the agent isn't there.
//!
//! Each start of the agent is a generation with a directory of its own on bpffs, named after its layout and
//! its process. While it runs it renews its lease; once it is gone, whatever way, its programs stay attached
//! and refuse the connects of the jobs it followed. A later agent removes a dead generation when its last
//! process has ended, and not before. Two generations never redirect the same process: a dead one only
//! refuses.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use agent_abi::{LAYOUT, TaskTag};
use aya::{
    maps::{HashMap, Map, MapData},
    programs::links::{FdLink, PinnedLink},
};
use rustix::mount::MountFlags;

use super::load::KernelError;

/// Where bpffs is mounted unless it is already.
pub const BPFFS: &str = "/sys/fs/bpf";
/// Where generations are kept unless the configuration says otherwise.
const DEFAULT_ROOT: &str = "/sys/fs/bpf/lineal";
/// The pin of the map that says whose processes are left.
const TASKS: &str = "TASKS";
/// `BPF_FS_MAGIC`.
const BPF_FS_MAGIC: i64 = 0xcafe_4a11;

/// This agent's own generation.
pub struct Generation {
    root: PathBuf,
    dir: PathBuf,
    links: Vec<PinnedLink>,
}

impl Generation {
    /// Makes the directory of this agent's generation, mounting bpffs if nobody has.
    pub fn create(root: Option<&Path>) -> Result<Self, KernelError> {
        let root = root.unwrap_or(Path::new(DEFAULT_ROOT)).to_owned();
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |source| KernelError::Pin { path, source }
        };
        if !on_bpffs(&root) {
            let parent = Path::new(BPFFS);
            rustix::mount::mount("bpffs", parent, "bpf", MountFlags::empty(), None)
                .map_err(|errno| failed(parent)(errno.into()))?;
        }
        let dir = root.join(own_name().map_err(failed(&root))?);
        fs::create_dir_all(&dir).map_err(failed(&dir))?;
        Ok(Self { root, dir, links: Vec::new() })
    }

    /// Pins the map of followed processes.
    pub fn pin_tasks(&self, tasks: &Map) -> Result<(), KernelError> {
        let path = self.dir.join(TASKS);
        tasks.pin(&path).map_err(|error| refused(path, error))
    }

    /// Pins a program's link: the program stays attached when this process ends.
    pub fn pin(&mut self, program: &str, link: FdLink) -> Result<(), KernelError> {
        let path = self.dir.join(program);
        self.links.push(link.pin(&path).map_err(|error| refused(path, error))?);
        Ok(())
    }

    /// Removes the generations of dead agents that have no process left. Answers how many processes the others
    /// still shut off.
    pub fn sweep(&self) -> usize {
        let Ok(entries) = fs::read_dir(&self.root) else { return 0 };
        let mut left = 0;
        for dir in entries.flatten().map(|entry| entry.path()).filter(|dir| *dir != self.dir) {
            let name = dir.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            // One of another layout is left alone, too: its map can't be read from here.
            if !name.starts_with(&format!("v{LAYOUT}-")) || lives(name) {
                continue;
            }
            match processes(&dir) {
                Ok(0) => remove(&dir),
                Ok(processes) => left += processes,
                // Not all of it was pinned: that agent ended before it followed anything.
                Err(_) => remove(&dir),
            }
        }
        left
    }

    /// Takes this generation down: its programs are detached.
    pub fn remove(self) {
        drop(self.links);
        remove(&self.dir);
    }
}

/// How many processes a generation still holds.
fn processes(dir: &Path) -> Result<usize, aya::maps::MapError> {
    let tasks: HashMap<MapData, u32, TaskTag> =
        HashMap::try_from(Map::HashMap(MapData::from_pin(dir.join(TASKS))?))?;
    Ok(tasks.keys().filter(Result::is_ok).count())
}

fn remove(dir: &Path) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let _ = fs::remove_file(entry.path());
    }
    if let Err(error) = fs::remove_dir(dir) {
        tracing::warn!(%error, dir = %dir.display(), "a generation's pins can't be removed");
    }
}

/// `v1-<pid>-<start time>`: a PID alone may be another process's by now.
fn own_name() -> io::Result<String> {
    let pid = std::process::id();
    let started = start_time(pid).ok_or_else(|| io::Error::other("/proc/self/stat can't be read"))?;
    Ok(format!("v{LAYOUT}-{pid}-{started}"))
}

/// Whether the agent of a generation still runs.
fn lives(name: &str) -> bool {
    let mut parts = name.split('-').skip(1);
    let (pid, started) = (parts.next().and_then(|pid| pid.parse().ok()), parts.next());
    match (pid, started) {
        (Some(pid), Some(started)) => start_time(pid).is_some_and(|now| now == started),
        _ => true,
    }
}

/// When a process started, in ticks since boot (proc(5), field 22 of `stat`).
fn start_time(pid: u32) -> Option<String> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name is in parentheses and may hold anything.
    let (_, fields) = stat.rsplit_once(')')?;
    fields.split_whitespace().nth(19).map(str::to_owned)
}

fn on_bpffs(path: &Path) -> bool {
    let existing = path.ancestors().find(|ancestor| ancestor.exists());
    existing
        .and_then(|existing| rustix::fs::statfs(existing).ok())
        .is_some_and(|stat| stat.f_type == BPF_FS_MAGIC)
}

fn refused(path: PathBuf, error: impl std::error::Error) -> KernelError {
    KernelError::Pin { path, source: io::Error::other(error.to_string()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_generation_lives_while_its_process_does() {
        let name = own_name().unwrap();
        assert!(lives(&name));
        let (rest, _) = name.rsplit_once('-').unwrap();
        assert!(!lives(&format!("{rest}-1")), "another process with the same PID");
        assert!(lives("v1-what"), "what can't be read is left alone");
    }
}
