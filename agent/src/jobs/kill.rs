//! Ending jobs' processes: each by a pidfd, and again until none is left.

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

/// How long processes are hunted: a job that forks faster than it is found is told of.
const PATIENCE: Duration = Duration::from_secs(30);
/// Processes that are waited for at once: each takes a descriptor.
const ENDING_MAX: usize = 512;
/// How long those that were told to end get before the next look.
const ROUND: Duration = Duration::from_millis(100);

/// Kills every process of these jobs, on a thread of their own.
pub fn kill_in_background(kernel: Arc<Kernel>, jobs: HashSet<Id>) {
    if jobs.is_empty() {
        return;
    }
    let count = jobs.len();
    let started =
        std::thread::Builder::new().name("kill".to_owned()).spawn(move || match kill(&kernel, &jobs) {
            Ok(killed) => tracing::info!(jobs = count, killed, "processes of revoked jobs were killed"),
            Err(left) => {
                tracing::error!(jobs = count, left, "processes of jobs that were to be killed are left")
            }
        });
    if let Err(error) = started {
        tracing::error!(%error, jobs = count, "processes of revoked jobs can't be killed");
    }
}

/// Kills until nothing is left to kill, and answers how many there were; or how many are left.
fn kill(kernel: &Kernel, jobs: &HashSet<Id>) -> Result<usize, usize> {
    let deadline = Instant::now() + PATIENCE;
    let mut killed = HashSet::new();
    loop {
        // What forks meanwhile is found by the next look: the kernel side tags a child before it runs.
        let live: Vec<u32> = kernel
            .tasks()
            .into_iter()
            .filter(|(_, tag)| jobs.contains(&Id(tag.job)))
            .map(|(pid, _)| pid)
            .collect();
        if live.is_empty() {
            return Ok(killed.len());
        }
        if Instant::now() >= deadline {
            return Err(live.len());
        }
        for some in live.chunks(ENDING_MAX) {
            // One that has ended by now is gone from the next look.
            let ending: Vec<OwnedFd> = some
                .iter()
                .filter_map(|pid| {
                    let pidfd = signal(kernel, jobs, *pid).ok()??;
                    killed.insert(*pid);
                    Some(pidfd)
                })
                .collect();
            let round = Instant::now() + ROUND;
            for pidfd in &ending {
                wait(&mut [PollFd::new(pidfd, PollFlags::IN)], round);
            }
            if ending.is_empty() {
                // Each had ended by itself: its tag is about to go.
                wait(&mut [], round);
            }
        }
    }
}

/// Waits for any of these, until then at the longest.
fn wait(ends: &mut [PollFd<'_>], until: Instant) {
    let left = until.saturating_duration_since(Instant::now());
    let left = Timespec::try_from(left).unwrap_or_default();
    let _ = poll(ends, Some(&left));
}

/// Tells a process to end, if it is of one of the jobs. The pidfd comes first: whose the PID is then can't change unnoticed.
fn signal(kernel: &Kernel, jobs: &HashSet<Id>, pid: u32) -> io::Result<Option<OwnedFd>> {
    let process = i32::try_from(pid).ok().and_then(Pid::from_raw).ok_or(io::ErrorKind::InvalidInput)?;
    let pidfd = pidfd_open(process, PidfdFlags::empty())?;
    if kernel.tag_of(pid).is_none_or(|tag| !jobs.contains(&Id(tag.job))) {
        return Ok(None);
    }
    pidfd_send_signal(&pidfd, Signal::KILL)?;
    Ok(Some(pidfd))
}
