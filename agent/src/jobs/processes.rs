//! The host's processes as /proc lists them: who is whose parent, which have stopped or ended, which user
//! runs them.

use std::{
    collections::{HashMap, HashSet},
    fs, io,
    path::Path,
};

/// What `/proc/PID/stat` says (proc_pid_stat(5)).
pub(super) struct Stat {
    /// Host PID.
    pub(super) pid: u32,
    /// PID of its parent.
    pub(super) parent: u32,
    /// State, as a letter.
    state: u8,
    /// When the process began, in clock ticks since boot. With the PID, this time identifies the process.
    pub(super) began: u64,
}

/// Whether an error of a system call or of /proc says that the process has ended.
pub fn is_gone(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound || error.raw_os_error() == Some(libc::ESRCH)
}

/// Whether every thread of a process has stopped, is traced, or has ended.
pub(super) fn is_still(pid: u32) -> bool {
    all_threads(pid, |state| matches!(state, b'T' | b't' | b'Z' | b'X'))
}

/// Whether every thread of a process has ended.
pub fn has_ended(pid: u32) -> bool {
    all_threads(pid, |state| matches!(state, b'Z' | b'X'))
}

/// Whether the state of every thread of a process passes a test. A process or thread that has ended passes;
/// one that can't be read for another reason does not.
fn all_threads(pid: u32, passes: impl Fn(u8) -> bool) -> bool {
    let state_of = |thread: io::Result<fs::DirEntry>| stat_at(&thread?.path().join("stat"));
    match fs::read_dir(format!("/proc/{pid}/task")) {
        Ok(mut threads) => threads.all(|thread| match state_of(thread) {
            Ok(stat) => passes(stat.state),
            Err(error) => is_gone(&error),
        }),
        Err(error) => is_gone(&error),
    }
}

/// A process's user ids: real, effective, saved, of the file system.
pub fn user_of(pid: u32) -> io::Result<[u32; 4]> {
    // The process chooses its name, which stands here too and need not be UTF-8.
    let status = fs::read(format!("/proc/{pid}/status"))?;
    let status = String::from_utf8_lossy(&status);
    let line = status.lines().find_map(|line| line.strip_prefix("Uid:"));
    let ids: Option<Vec<u32>> =
        line.map(|ids| ids.split_whitespace().filter_map(|id| id.parse().ok()).collect());
    ids.and_then(|ids| ids.try_into().ok()).ok_or_else(|| io::Error::other("its status names no user"))
}

/// PIDs of a process and all its ancestors.
pub(super) fn with_ancestors(pid: u32) -> io::Result<HashSet<u32>> {
    let parents: HashMap<u32, u32> =
        stats()?.into_iter().map(|process| (process.pid, process.parent)).collect();
    let mut all = HashSet::new();
    let mut at = Some(pid);
    while let Some(pid) = at.filter(|pid| all.insert(*pid)) {
        at = parents.get(&pid).copied();
    }
    Ok(all)
}

/// PIDs of every process, ancestors first.
pub fn processes() -> io::Result<Vec<u32>> {
    let mut rest = stats()?;
    let mut ordered: Vec<u32> = Vec::with_capacity(rest.len());
    let mut placed = HashSet::from([0]);
    while !rest.is_empty() {
        let before = rest.len();
        rest.retain(|process| {
            let next = placed.contains(&process.parent);
            if next {
                placed.insert(process.pid);
                ordered.push(process.pid);
            }
            !next
        });
        if rest.len() == before {
            // Their parents ended while the list was read.
            ordered.extend(rest.drain(..).map(|process| process.pid));
        }
    }
    Ok(ordered)
}

/// Every process, in the order of their PIDs, without those that end while this reads.
///
/// # Errors
/// Some process can't be read, as when descriptors run out: a list without it would let it run free.
pub(super) fn stats() -> io::Result<Vec<Stat>> {
    let mut numbers: Vec<u32> = Vec::new();
    for entry in fs::read_dir("/proc")? {
        numbers.extend(entry?.file_name().to_str().and_then(|name| name.parse::<u32>().ok()));
    }
    numbers.sort_unstable();
    let gone = |stat: &io::Result<Stat>| stat.as_ref().is_err_and(is_gone);
    numbers.into_iter().map(stat).filter(|stat| !gone(stat)).collect()
}

/// One process.
pub(super) fn stat(pid: u32) -> io::Result<Stat> {
    let stat = stat_at(Path::new(&format!("/proc/{pid}/stat")))?;
    Ok(Stat { pid, ..stat })
}

/// Parses a `stat` file; the PID is left 0.
fn stat_at(path: &Path) -> io::Result<Stat> {
    let text = fs::read(path)?;
    // The command name stands in parentheses and may itself contain spaces and parentheses.
    let end = text.iter().rposition(|byte| *byte == b')').ok_or(io::ErrorKind::InvalidData)?;
    let rest = String::from_utf8_lossy(text.get(end + 1..).unwrap_or_default()).into_owned();
    let mut fields = rest.split_whitespace();
    let state = fields.next().and_then(|state| state.bytes().next()).ok_or(io::ErrorKind::InvalidData)?;
    let parent = fields.next().and_then(|parent| parent.parse().ok()).ok_or(io::ErrorKind::InvalidData)?;
    // `starttime` is field 22; the parent was field 4.
    let began = fields.nth(17).and_then(|began| began.parse().ok()).ok_or(io::ErrorKind::InvalidData)?;
    Ok(Stat { pid: 0, parent, state, began })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_whose_name_is_not_utf8_has_a_user() {
        // This thread's directory in /proc is like a process's.
        let thread = rustix::thread::gettid().as_raw_nonzero().get().unsigned_abs();
        fs::write(format!("/proc/self/task/{thread}/comm"), b"\xff").unwrap();
        assert!(fs::read_to_string(format!("/proc/{thread}/status")).is_err(), "the name hides nothing");
        assert_eq!(user_of(thread).unwrap()[0], rustix::process::getuid().as_raw());
    }
}
