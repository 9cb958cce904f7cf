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

use super::tree::is_end;
use crate::{ids::Id, kernel::Kernel};

/// How long processes are hunted: a job that forks faster than it is found is told of.
const PATIENCE: Duration = Duration::from_secs(30);
/// Processes that are waited for at once: each takes a descriptor.
const ENDING_MAX: usize = 512;
/// How long those that were told to end get before the next look.
const ROUND: Duration = Duration::from_millis(100);
/// Looks that must find nobody, one after the other: a single one can miss a process that forks into a part of the map that
/// has been read, and ends.
const QUIET_LOOKS: u32 = 8;
/// How far apart these are.
const QUIET: Duration = Duration::from_millis(10);

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
    let mut quiet = 0;
    loop {
        let mut ending: Vec<OwnedFd> = Vec::new();
        let (mut met, mut last) = (0, None);
        // Each as soon as it is found: who forks and ends again and again is met while it lives, or never.
        kernel.visit(jobs, |pid, is_of_them| {
            let pidfd = match signal(pid, is_of_them) {
                Ok(Some(pidfd)) => pidfd,
                // Another's number by now.
                Ok(None) => return,
                // Its tag is left to the exit that is under way.
                Err(error) if is_end(&error) => return,
                // As when descriptors run out: it lives.
                Err(error) => {
                    met += 1;
                    last = Some(error);
                    return;
                }
            };
            met += 1;
            killed.insert(pid);
            if ending.len() < ENDING_MAX {
                ending.push(pidfd);
            }
        });
        quiet = if met == 0 { quiet + 1 } else { 0 };
        if quiet == QUIET_LOOKS {
            return Ok(killed.len());
        }
        if met > 0 && Instant::now() >= deadline {
            if let Some(error) = last {
                tracing::error!(%error, "a process can't be told to end");
            }
            return Err(met);
        }
        if ending.is_empty() {
            wait(&mut [], Instant::now() + QUIET);
        }
        let round = Instant::now() + ROUND;
        for pidfd in &ending {
            wait(&mut [PollFd::new(pidfd, PollFlags::IN)], round);
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
fn signal(pid: u32, is_of_them: &dyn Fn() -> bool) -> io::Result<Option<OwnedFd>> {
    let process = i32::try_from(pid).ok().and_then(Pid::from_raw).ok_or(io::ErrorKind::InvalidInput)?;
    let pidfd = pidfd_open(process, PidfdFlags::empty())?;
    if !is_of_them() {
        return Ok(None);
    }
    pidfd_send_signal(&pidfd, Signal::KILL)?;
    Ok(Some(pidfd))
}
