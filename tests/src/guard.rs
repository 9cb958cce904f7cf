//! Makes sure that a lab leaves nothing behind. A guard process outlives the lab's owner just long enough to
//! clean up after it. If the guard was killed too, the next lab's sweep cleans up at its start.

use std::{
    env, fs,
    io::{BufRead, BufReader, ErrorKind},
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{self, Child, Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use anyhow::{Context, ensure};

use crate::{cgroup, paths, server::wait};

/// Where bpffs is mounted.
pub const BPFFS: &str = "/sys/fs/bpf";
/// What the names of a lab's cgroup, directory and pins begin with; its owner's process id and start time
/// follow.
const PREFIX: &str = "lineal-lab-";
/// How long the guard may take to clean up.
const CLEANING: Duration = Duration::from_secs(60);

/// A guard at work. Dropping it cleans up.
pub struct Guard {
    child: Child,
}

impl Guard {
    /// Starts a guard that kills what is in the cgroup and removes the cgroup, the directory and the agent's
    /// pins when this process ends or drops the guard.
    pub fn set(cgroup: &Path, directory: &Path, pins: &Path) -> anyhow::Result<Self> {
        let mut child = Command::new("/usr/bin/python3")
            .arg(paths::lab_sources().join("guard.py"))
            .args([cgroup, directory, pins])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            // Ctrl-C signals the owner's whole process group, and must not reach the guard.
            .process_group(0)
            .spawn()
            .context("cannot start the lab's guard (/usr/bin/python3)")?;
        let mut said = String::new();
        if let Some(stdout) = child.stdout.take() {
            BufReader::new(stdout).read_line(&mut said)?;
        }
        ensure!(said == "guarding\n", "the lab's guard did not start");
        Ok(Self { child })
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        let _ = wait(&mut self.child, CLEANING);
    }
}

/// A new name for a lab's cgroup, directory and pins, from which a sweep can tell whether their owner still
/// runs.
pub fn owned_name() -> anyhow::Result<String> {
    static LABS: AtomicU32 = AtomicU32::new(0);
    let pid = process::id();
    let started = start_time(pid).context("cannot read the start time of this process")?;
    Ok(format!("{PREFIX}{pid}-{started}-{}", LABS.fetch_add(1, Ordering::Relaxed)))
}

/// Removes what a lab left behind whose owner and guard were both killed.
pub fn sweep() -> anyhow::Result<()> {
    let cgroups = abandoned(&cgroup::root()?)?;
    for path in cgroups {
        let nothing = Path::new("/nonexistent");
        drop(Guard::set(&path, nothing, nothing)?);
    }
    let pins = if Path::new(BPFFS).exists() { abandoned(Path::new(BPFFS))? } else { Vec::new() };
    for path in abandoned(&env::temp_dir())?.into_iter().chain(pins) {
        match fs::remove_dir_all(&path) {
            // Its guard, or another lab's sweep, may be removing it too.
            Err(error) if error.kind() != ErrorKind::NotFound => {
                return Err(error).with_context(|| format!("cannot remove {}", path.display()));
            }
            _ => {}
        }
    }
    Ok(())
}

/// The entries of a directory that belong to labs whose owner has ended.
fn abandoned(directory: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let entries = fs::read_dir(directory).with_context(|| format!("cannot list {}", directory.display()))?;
    let is_abandoned = |name: &str| {
        let mut parts = name.strip_prefix(PREFIX)?.split('-').map(str::parse);
        let (pid, started): (u64, u64) = (parts.next()?.ok()?, parts.next()?.ok()?);
        Some(start_time(u32::try_from(pid).ok()?) != Some(started))
    };
    Ok(entries
        .flatten()
        .filter(|entry| entry.file_name().to_str().and_then(is_abandoned) == Some(true))
        .map(|entry| entry.path())
        .collect())
}

/// When a process started, in clock ticks since boot. With its id this identifies it: ids are used again,
/// pairs not.
fn start_time(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // proc_pid_stat(5): the second field may hold spaces and parentheses; starttime is the 22nd.
    stat.rsplit_once(") ")?.1.split(' ').nth(19)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_dead_processes_owned_counts_as_abandoned() {
        let directory = tempfile::tempdir().unwrap();
        let mine = owned_name().unwrap();
        let pid = process::id();
        for name in
            [mine.as_str(), &format!("{PREFIX}{pid}-1-0"), &format!("{PREFIX}4294967295-1-0"), "else", PREFIX]
        {
            fs::create_dir(directory.path().join(name)).unwrap();
        }
        let mut found = abandoned(directory.path()).unwrap();
        found.sort();
        let expect = [format!("{PREFIX}4294967295-1-0"), format!("{PREFIX}{pid}-1-0")];
        let mut expect = expect.map(|name| directory.path().join(name));
        expect.sort();
        assert_eq!(found, expect);
    }
}
