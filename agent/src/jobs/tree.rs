//! Holds a running process tree still: while every process in it is stopped, none of them forks, and no
//! parent changes.

use std::{
    collections::HashSet,
    fs, io,
    os::unix::fs::MetadataExt,
    time::{Duration, Instant},
};

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use thiserror::Error;

use super::processes::{Stat, is_gone, is_still, stat, stats, user_of, with_ancestors};
use crate::{
    bounds::{Bound, Bounded},
    kernel::proc_dir,
};

/// How long it may take until every process of a tree has stopped: one of them may wait for a disk.
const PATIENCE: Duration = Duration::from_secs(10);
/// Pause between two looks at the tree.
const PAUSE: Duration = Duration::from_millis(1);

/// Why a tree can't be held still.
#[derive(Debug, Error)]
pub enum TreeError {
    /// Its root can't be read.
    #[error("process {pid} cannot be read: {source}")]
    Gone {
        /// The root.
        pid: u32,
        /// What the system said.
        source: io::Error,
    },
    /// The agent itself is in the tree.
    #[error("process {pid} is the agent or one of its ancestors: the agent cannot follow itself")]
    OfTheAgent {
        /// The root.
        pid: u32,
    },
    /// A process of the tree has another network namespace than its root.
    #[error("process {pid} is in another network namespace than its tree's root: enrol it by itself")]
    OtherNetwork {
        /// The process.
        pid: u32,
    },
    /// The host's processes can't be read, as when descriptors run out: the tree might have more than are
    /// seen.
    #[error("the processes of this host cannot be read: {0}")]
    Unreadable(io::Error),
    /// A process of the tree can't be stopped, as when descriptors run out.
    #[error("process {pid} cannot be stopped: {source}")]
    Stop {
        /// The process.
        pid: u32,
        /// What the system said.
        source: io::Error,
    },
    /// The tree has more processes than may be followed.
    #[error("the tree has more than {most} processes, and kernel.processes_max allows no more")]
    TooLarge {
        /// How many processes may be followed on this host.
        most: usize,
    },
    /// Some processes did not stop in time.
    #[error("not every process of the tree could be stopped within {PATIENCE:?}: try again")]
    Restless,
}

impl Bounded for TreeError {
    fn bound(&self) -> Option<Bound> {
        matches!(self, Self::TooLarge { .. }).then_some(Bound::Processes)
    }
}

/// A process of a tree, but not its root.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Member {
    /// Host PID.
    pub pid: u32,
    /// PID of its parent.
    pub parent: u32,
    /// Its real user id.
    pub uid: u32,
}

/// Whether a tree may be held in part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Completeness {
    /// Every process of the tree, or an error: somebody asked for a job that holds all of it.
    Required,
    /// Every process that can be held, whatever its network namespace: a rule matches the tree.
    BestEffort,
}

/// A tree held still. Dropping it lets the processes run that ran before.
pub struct Tree {
    completeness: Completeness,
    processes_max: usize,
    root: u32,
    /// Parents before their children.
    members: Vec<Member>,
    /// The processes that were stopped here, each with when it began. No pidfd is kept: a large tree would
    /// take the descriptors that sessions need.
    stopped: Vec<(Pid, u64)>,
    /// PIDs of the whole tree, the root's included.
    held: HashSet<u32>,
    /// Device and inode of the root's network namespace.
    network: (u64, u64),
}

impl Tree {
    /// Holds `root` and every process that descends from it, up to `processes_max` of them, except those that
    /// `followed` says are in a job already.
    pub fn hold(
        root: u32,
        completeness: Completeness,
        processes_max: usize,
        followed: impl Fn(u32) -> bool,
    ) -> Result<Self, TreeError> {
        let gone = |source| TreeError::Gone { pid: root, source };
        let network = network_of(root).map_err(gone)?;
        let own = with_ancestors(std::process::id()).map_err(TreeError::Unreadable)?;
        if own.contains(&root) {
            return Err(TreeError::OfTheAgent { pid: root });
        }
        let deadline = Instant::now() + PATIENCE;
        let mut tree = Self {
            completeness,
            processes_max,
            root,
            members: Vec::new(),
            stopped: Vec::new(),
            held: HashSet::from([root]),
            network,
        };
        tree.stop(&stat(root).map_err(gone)?).map_err(gone)?;
        loop {
            // Asked before the look: a process that was about to fork has done so by then, and its child is
            // seen.
            let still = tree.held.iter().all(|pid| is_still(*pid));
            if !tree.grow(&followed)? && still {
                return Ok(tree);
            }
            if Instant::now() >= deadline {
                let required = completeness == Completeness::Required;
                return if required { Err(TreeError::Restless) } else { Ok(tree) };
            }
            std::thread::park_timeout(PAUSE);
        }
    }

    /// Holds the processes that have joined the tree since, too; returns whether there were any. A process of
    /// the tree may have forked after somebody else let it run again.
    pub fn grow(&mut self, followed: impl Fn(u32) -> bool) -> Result<bool, TreeError> {
        let before = self.members.len();
        for process in stats().map_err(TreeError::Unreadable)? {
            if self.held.contains(&process.pid)
                || !self.held.contains(&process.parent)
                || followed(process.pid)
            {
                continue;
            }
            if self.completeness == Completeness::Required
                && network_of(process.pid).is_ok_and(|other| other != self.network)
            {
                return Err(TreeError::OtherNetwork { pid: process.pid });
            }
            if self.held.len() >= self.processes_max {
                return Err(TreeError::TooLarge { most: self.processes_max });
            }
            match self.stop(&process) {
                // It has ended meanwhile. Its children, if any, have another parent now and are not part of
                // the tree.
                Err(error) if is_gone(&error) => continue,
                Err(source) if self.completeness == Completeness::Required => {
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

    /// Every process of the tree but its root, parents first.
    pub fn members(&self) -> &[Member] {
        &self.members
    }

    /// How many processes the tree has.
    pub fn len(&self) -> usize {
        1 + self.members.len()
    }

    /// Stops a process, if it is still the one that was seen and still has the parent that it was seen with.
    fn stop(&mut self, seen: &Stat) -> io::Result<()> {
        let pid = i32::try_from(seen.pid).ok().and_then(Pid::from_raw).ok_or(io::ErrorKind::InvalidInput)?;
        let pidfd = pidfd_open(pid, PidfdFlags::empty())?;
        let now = stat(seen.pid)?;
        if now.began != seen.began || now.parent != seen.parent && seen.pid != self.root {
            return Err(io::ErrorKind::NotFound.into());
        }
        // Every thread is asked: others may run on after the first one has ended.
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
            // The pidfd is opened before the check: from then on the PID can't pass to another process
            // unnoticed.
            if let Ok(pidfd) = pidfd_open(*pid, PidfdFlags::empty())
                && stat(pid.as_raw_nonzero().get().unsigned_abs()).is_ok_and(|now| now.began == *began)
            {
                let _ = pidfd_send_signal(pidfd, Signal::CONT);
            }
        }
    }
}

/// Device and inode of a process's network namespace.
fn network_of(pid: u32) -> io::Result<(u64, u64)> {
    let namespace = fs::metadata(proc_dir(pid).join("ns/net"))?;
    Ok((namespace.dev(), namespace.ino()))
}
