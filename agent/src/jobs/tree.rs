//! A tree of processes that runs already, held still: while it is, none of it forks, and nobody's parent changes.

use std::{
    collections::{HashMap, HashSet},
    fs, io,
    path::Path,
    time::{Duration, Instant},
};

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use thiserror::Error;

use crate::{
    bounds::{Bound, Bounded},
    kernel::proc_dir,
};

/// How long it may take until all of a tree has stopped: one of it may wait for a disk.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long a look at all of it rests before the next.
const PAUSE: Duration = Duration::from_millis(1);

/// Why a tree can't be held.
#[derive(Debug, Error)]
pub enum TreeError {
    /// Its root can't be read.
    #[error("process {pid} cannot be read: {source}")]
    Gone {
        /// The process.
        pid: u32,
        /// What the system said.
        source: io::Error,
    },
    /// The agent itself would be in it.
    #[error("process {pid} and what descends from it are the agent's own")]
    OfTheAgent {
        /// The root.
        pid: u32,
    },
    /// A process of it has another network namespace than its root.
    #[error("process {pid} is in another network namespace than its tree's root: enrol it by itself")]
    OtherNetwork {
        /// The process.
        pid: u32,
    },
    /// A process of it can't be stopped, as when descriptors run out.
    #[error("process {pid} cannot be stopped: {source}")]
    Stop {
        /// The process.
        pid: u32,
        /// What the system said.
        source: io::Error,
    },
    /// It has too many processes.
    #[error("it has more than {most} processes (kernel.processes_max)")]
    TooLarge {
        /// How many may be followed on this host.
        most: usize,
    },
    /// Some of it did not stop.
    #[error("not all of it could be held still within {PATIENCE:?}")]
    Restless,
}

impl Bounded for TreeError {
    fn bound(&self) -> Option<Bound> {
        matches!(self, Self::TooLarge { .. }).then_some(Bound::Processes)
    }
}

/// A process of a tree, but for the root.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Member {
    /// Host PID.
    pub pid: u32,
    /// Its parent's.
    pub parent: u32,
    /// Its real user id.
    pub uid: u32,
}

/// What becomes of a tree that can't be had whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whole {
    /// It is not had at all: somebody asked for a job that holds all of it.
    OrNothing,
    /// Whatever can be had is: a rule means it, wherever it has gone.
    OrWhatThereIs,
}

/// A tree held still. Dropping it lets those run that ran.
pub struct Tree {
    whole: Whole,
    most: usize,
    root: u32,
    /// Parents before their children.
    members: Vec<Member>,
    /// Each with when it began. No descriptor is held: that would be as many as sessions may need.
    stopped: Vec<(Pid, u64)>,
    held: HashSet<u32>,
    network: (u64, u64),
}

/// What `/proc/PID/stat` says (proc_pid_stat(5)).
struct Stat {
    pid: u32,
    parent: u32,
    state: u8,
    /// When it began, in clock ticks since the host did: with the number, what tells processes apart.
    began: u64,
}

impl Tree {
    /// Holds `root` and all that descends from it, at `most` so many processes, but for what `followed` says is of a job
    /// already.
    pub fn hold(
        root: u32,
        whole: Whole,
        most: usize,
        followed: impl Fn(u32) -> bool,
    ) -> Result<Self, TreeError> {
        let gone = |source| TreeError::Gone { pid: root, source };
        let network = network_of(root).map_err(gone)?;
        if ancestors(std::process::id()).contains(&root) {
            return Err(TreeError::OfTheAgent { pid: root });
        }
        let deadline = Instant::now() + PATIENCE;
        let held = HashSet::from([root]);
        let mut tree = Self { whole, most, root, members: Vec::new(), stopped: Vec::new(), held, network };
        tree.stop(&stat(root).map_err(gone)?).map_err(gone)?;
        loop {
            // Still before the look: what was about to fork has done so, and is seen.
            let still = tree.held.iter().all(|pid| is_still(*pid));
            if !tree.grow(&followed)? && still {
                return Ok(tree);
            }
            if Instant::now() >= deadline {
                return if whole == Whole::OrNothing { Err(TreeError::Restless) } else { Ok(tree) };
            }
            std::thread::park_timeout(PAUSE);
        }
    }

    /// Holds also what has come to it since; answers whether something had. Somebody outside may have let one of it run.
    pub fn grow(&mut self, followed: impl Fn(u32) -> bool) -> Result<bool, TreeError> {
        let before = self.members.len();
        for process in stats() {
            if self.held.contains(&process.pid)
                || !self.held.contains(&process.parent)
                || followed(process.pid)
            {
                continue;
            }
            if self.whole == Whole::OrNothing
                && network_of(process.pid).is_ok_and(|other| other != self.network)
            {
                return Err(TreeError::OtherNetwork { pid: process.pid });
            }
            if self.held.len() >= self.most {
                return Err(TreeError::TooLarge { most: self.most });
            }
            match self.stop(&process) {
                // One that has ended by now has left its children, if any, to others: those are looked for no more.
                Err(error) if is_end(&error) => continue,
                Err(source) if self.whole == Whole::OrNothing => {
                    return Err(TreeError::Stop { pid: process.pid, source });
                }
                _ => {}
            }
            self.held.insert(process.pid);
            let uid = user_of(process.pid).map_or(0, |[real, ..]| real);
            self.members.push(Member { pid: process.pid, parent: process.parent, uid });
        }
        Ok(self.members.len() > before)
    }

    /// All of it but the root, parents first.
    pub fn members(&self) -> &[Member] {
        &self.members
    }

    /// How many processes it has.
    pub fn len(&self) -> usize {
        1 + self.members.len()
    }

    /// Stops a process that still has the parent it was seen with.
    fn stop(&mut self, seen: &Stat) -> io::Result<()> {
        let pid = i32::try_from(seen.pid).ok().and_then(Pid::from_raw).ok_or(io::ErrorKind::InvalidInput)?;
        let pidfd = pidfd_open(pid, PidfdFlags::empty())?;
        let now = stat(seen.pid)?;
        if now.began != seen.began || now.parent != seen.parent && seen.pid != self.root {
            return Err(io::ErrorKind::NotFound.into());
        }
        // All of it: one whose first thread has ended may run on.
        if !is_still(seen.pid) {
            pidfd_send_signal(&pidfd, Signal::STOP)?;
            self.stopped.push((pid, now.began));
        }
        Ok(())
    }
}

impl Drop for Tree {
    fn drop(&mut self) {
        for (pid, began) in &self.stopped {
            // The descriptor comes first: whose the number is then can't change unnoticed. What is gone needs nothing.
            if let Ok(pidfd) = pidfd_open(*pid, PidfdFlags::empty())
                && stat(pid.as_raw_nonzero().get().unsigned_abs()).is_ok_and(|now| now.began == *began)
            {
                let _ = pidfd_send_signal(pidfd, Signal::CONT);
            }
        }
    }
}

/// Whether an error says that the process has ended: by name, by number, or by its parent's.
pub fn is_end(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound || error.raw_os_error() == Some(libc::ESRCH)
}

/// Whether every thread of a process has stopped, or it has ended.
fn is_still(pid: u32) -> bool {
    let Ok(tasks) = fs::read_dir(format!("/proc/{pid}/task")) else { return true };
    tasks.flatten().all(|task| stat_at(&task.path().join("stat")).map_or(true, |stat| still(stat.state)))
}

/// Whether every thread of a process has ended.
pub fn has_ended(pid: u32) -> bool {
    let Ok(tasks) = fs::read_dir(format!("/proc/{pid}/task")) else { return true };
    let over = |stat: io::Result<Stat>| stat.map_or(true, |stat| matches!(stat.state, b'Z' | b'X'));
    tasks.flatten().all(|task| over(stat_at(&task.path().join("stat"))))
}

/// Stopped, traced, or ended.
fn still(state: u8) -> bool {
    matches!(state, b'T' | b't' | b'Z' | b'X')
}

/// A process's user ids: real, effective, saved, of the file system.
pub fn user_of(pid: u32) -> io::Result<[u32; 4]> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("Uid:"));
    let ids: Option<Vec<u32>> =
        line.map(|ids| ids.split_whitespace().filter_map(|id| id.parse().ok()).collect());
    ids.and_then(|ids| ids.try_into().ok()).ok_or_else(|| io::Error::other("its status names no user"))
}

fn network_of(pid: u32) -> io::Result<(u64, u64)> {
    use std::os::unix::fs::MetadataExt;
    let namespace = fs::metadata(proc_dir(pid).join("ns/net"))?;
    Ok((namespace.dev(), namespace.ino()))
}

fn ancestors(pid: u32) -> HashSet<u32> {
    let parents: HashMap<u32, u32> =
        stats().into_iter().map(|process| (process.pid, process.parent)).collect();
    let mut all = HashSet::new();
    let mut at = Some(pid);
    while let Some(pid) = at.filter(|pid| all.insert(*pid)) {
        at = parents.get(&pid).copied();
    }
    all
}

/// Every process, ancestors first.
pub fn processes() -> Vec<u32> {
    let mut rest = stats();
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
            // Their parents ended while this was read.
            ordered.extend(rest.drain(..).map(|process| process.pid));
        }
    }
    ordered
}

/// Every process, by number.
fn stats() -> Vec<Stat> {
    let numbers = fs::read_dir("/proc").into_iter().flatten().flatten();
    let mut numbers: Vec<u32> =
        numbers.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
    numbers.sort_unstable();
    numbers.into_iter().filter_map(|pid| stat(pid).ok()).collect()
}

fn stat(pid: u32) -> io::Result<Stat> {
    let stat = stat_at(Path::new(&format!("/proc/{pid}/stat")))?;
    Ok(Stat { pid, ..stat })
}

fn stat_at(path: &Path) -> io::Result<Stat> {
    let text = fs::read(path)?;
    // The name stands in parentheses and may hold any of what follows it.
    let end = text.iter().rposition(|byte| *byte == b')').ok_or(io::ErrorKind::InvalidData)?;
    let rest = String::from_utf8_lossy(text.get(end + 1..).unwrap_or_default()).into_owned();
    let mut fields = rest.split_whitespace();
    let state = fields.next().and_then(|state| state.bytes().next()).ok_or(io::ErrorKind::InvalidData)?;
    let parent = fields.next().and_then(|parent| parent.parse().ok()).ok_or(io::ErrorKind::InvalidData)?;
    // Field 22; the parent is the fourth.
    let began = fields.nth(17).and_then(|began| began.parse().ok()).ok_or(io::ErrorKind::InvalidData)?;
    Ok(Stat { pid: 0, parent, state, began })
}
