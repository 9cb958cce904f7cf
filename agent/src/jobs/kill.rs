//! Ending a job's processes: each by a pidfd, and again until none is left.

use std::{
    collections::HashSet,
    io,
    os::fd::OwnedFd,
    sync::Arc,
    time::{Duration, Instant},
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal},
};

use crate::{ids::Id, kernel::Kernel};

/// How long a job's processes are hunted: one that forks faster than it is found is told of.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long those that were told to end get before the next look.
const ROUND: Timespec = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };

/// Kills every process of a job, on a thread of its own.
pub fn kill_in_background(kernel: Arc<Kernel>, job: Id) {
    let started =
        std::thread::Builder::new().name("kill".to_owned()).spawn(move || match kill(&kernel, job) {
            Ok(killed) => tracing::info!(%job, killed, "a job's processes were killed"),
            Err(left) => tracing::error!(%job, left, "processes of a job that was to be killed are left"),
        });
    if let Err(error) = started {
        tracing::error!(%error, %job, "a job's processes can't be killed");
    }
}

/// Kills until nothing is left to kill, and answers how many there were; or how many are left.
fn kill(kernel: &Kernel, job: Id) -> Result<usize, usize> {
    let deadline = Instant::now() + PATIENCE;
    let mut killed = HashSet::new();
    loop {
        // What forks meanwhile is found by the next look: the kernel side tags a child before it runs.
        let live: Vec<u32> =
            kernel.tasks().into_iter().filter(|(_, tag)| tag.job == job.0).map(|(pid, _)| pid).collect();
        if live.is_empty() {
            return Ok(killed.len());
        }
        if Instant::now() >= deadline {
            return Err(live.len());
        }
        let mut ending = Vec::new();
        for pid in live {
            // One that has ended by now is gone from the next look.
            if let Ok(Some(pidfd)) = signal(kernel, job, pid) {
                killed.insert(pid);
                ending.push(pidfd);
            }
        }
        for pidfd in &ending {
            let _ = poll(&mut [PollFd::new(pidfd, PollFlags::IN)], Some(&ROUND));
        }
        if ending.is_empty() {
            // Each had ended by itself: its tag is about to go.
            let _ = poll(&mut [], Some(&ROUND));
        }
    }
}

/// Tells a process to end, if it is the job's. The pidfd comes first: whose the PID is then can't change unnoticed.
fn signal(kernel: &Kernel, job: Id, pid: u32) -> io::Result<Option<OwnedFd>> {
    let process = i32::try_from(pid).ok().and_then(Pid::from_raw).ok_or(io::ErrorKind::InvalidInput)?;
    let pidfd = pidfd_open(process, PidfdFlags::empty())?;
    if kernel.tag_of(pid).is_none_or(|tag| tag.job != job.0) {
        return Ok(None);
    }
    pidfd_send_signal(&pidfd, Signal::KILL)?;
    Ok(Some(pidfd))
}
