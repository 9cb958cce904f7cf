//! Where /proc tells what a process is. Of one whose first thread has ended while others run on, `/proc/PID` tells nothing
//! of its program or its namespaces; those others do.

use std::{fs, io, path::PathBuf};

/// The directory of a thread that lives: `/proc/PID` itself wherever that will do.
pub fn living(pid: u32) -> PathBuf {
    let first = PathBuf::from(format!("/proc/{pid}"));
    let lives = |dir: &PathBuf| fs::read_link(dir.join("exe")).is_ok();
    if lives(&first) {
        return first;
    }
    let threads = fs::read_dir(first.join("task")).into_iter().flatten().flatten();
    threads.map(|thread| thread.path()).find(lives).unwrap_or(first)
}

/// The program that a process runs. One that has been replaced since has the path that it was executed by.
pub fn executable(pid: u32) -> io::Result<PathBuf> {
    let exe = fs::read_link(living(pid).join("exe"))?;
    let replaced = exe.to_str().and_then(|path| path.strip_suffix(" (deleted)")).map(PathBuf::from);
    Ok(replaced.unwrap_or(exe))
}
