//! What /proc says about a process.
//!
//! When a process's first thread has ended while others run on, `/proc/PID` no longer shows its program or
//! its namespaces; the directories of the other threads do.

use std::{fs, io, path::PathBuf};

use rustix::process::Pid;

/// The /proc directory of a live thread of a process: `/proc/PID` itself if its first thread lives, or if
/// none does.
pub fn proc_dir(pid: u32) -> PathBuf {
    let first = PathBuf::from(format!("/proc/{pid}"));
    let lives = |dir: &PathBuf| fs::read_link(dir.join("exe")).is_ok();
    if lives(&first) {
        return first;
    }
    let threads = fs::read_dir(first.join("task")).into_iter().flatten().flatten();
    threads.map(|thread| thread.path()).find(lives).unwrap_or(first)
}

/// Path of the file that a process runs; if the file was deleted or replaced, its original path.
pub fn executable(pid: u32) -> io::Result<PathBuf> {
    let exe = fs::read_link(proc_dir(pid).join("exe"))?;
    let replaced = exe.to_str().and_then(|path| path.strip_suffix(" (deleted)")).map(PathBuf::from);
    Ok(replaced.unwrap_or(exe))
}

/// Whether a process has this PID, zombies included.
pub fn exists(pid: u32) -> bool {
    let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) else { return false };
    rustix::process::test_kill_process(pid) != Err(rustix::io::Errno::SRCH)
}
