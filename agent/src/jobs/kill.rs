//! Kills the processes of jobs: each through a pidfd, in rounds, until none is left.

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

use super::processes::is_gone;
use crate::{ids::Id, kernel::Kernel};

/// How long to go on killing. A job that forks faster than its processes are found is given up and logged.
const PATIENCE: Duration = Duration::from_secs(30);
/// Killed processes whose end is awaited at once: each takes a descriptor.
const AWAITED_MAX: usize = 512;
/// How long killed processes have to end before the next round.
const ROUND: Duration = Duration::from_millis(100);
/// Looks in a row that must find no process. A single look can miss a process that forks into a part of the
/// map that has been read already, and ends.
const QUIET_LOOKS: u32 = 8;
/// Pause between two of these looks.
const QUIET: Duration = Duration::from_millis(10);

/// Kills every process of these jobs, on a thread of its own.
pub fn kill_in_background(kernel: Arc<Kernel>, jobs: HashSet<Id>) {
    if jobs.is_empty() {
        return;
    }
    let count = jobs.len();
    let started =
        std::thread::Builder::new().name("kill".to_owned()).spawn(move || match kill(&kernel, &jobs) {
            Ok(killed) => tracing::info!(jobs = count, killed, "the processes of revoked jobs were killed"),
            Err(left) => {
                tracing::error!(jobs = count, left, "some processes of revoked jobs could not be killed");
            }
        });
    if let Err(error) = started {
        tracing::error!(%error, jobs = count, "no thread to kill the processes of revoked jobs");
    }
}

/// Kills until no process is left; returns how many there were. After [`PATIENCE`] it fails with how many are
/// left.
fn kill(kernel: &Kernel, jobs: &HashSet<Id>) -> Result<usize, usize> {
    let deadline = Instant::now() + PATIENCE;
    let mut killed = HashSet::new();
    let mut quiet = 0;
    loop {
        let mut ending: Vec<OwnedFd> = Vec::new();
        let (mut met, mut last) = (0, None);
        // Each process is killed as soon as it is found: one that forks and ends again and again would be
        // gone later.
        kernel.visit(jobs, |pid, in_jobs| {
            let pidfd = match signal(pid, in_jobs) {
                Ok(Some(pidfd)) => pidfd,
                // The PID belongs to another process by now.
                Ok(None) => return,
                // It has ended; its tag goes with the exit that is under way.
                Err(error) if is_gone(&error) => return,
                // It could not be signalled, as when descriptors run out: it lives.
                Err(error) => {
                    met += 1;
                    last = Some(error);
                    return;
                }
            };
            met += 1;
            killed.insert(pid);
            if ending.len() < AWAITED_MAX {
                ending.push(pidfd);
            }
        });
        quiet = if met == 0 { quiet + 1 } else { 0 };
        if quiet == QUIET_LOOKS {
            return Ok(killed.len());
        }
        if met > 0 && Instant::now() >= deadline {
            if let Some(error) = last {
                tracing::error!(%error, "a process could not be killed");
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

/// Waits for any of these to become readable, at most until a moment.
fn wait(ends: &mut [PollFd<'_>], until: Instant) {
    let left = until.saturating_duration_since(Instant::now());
    let left = Timespec::try_from(left).unwrap_or_default();
    let _ = poll(ends, Some(&left));
}

/// Kills a process if it is in one of the jobs. The pidfd is opened before that is asked: from then on the
/// PID can't pass to another process unnoticed.
fn signal(pid: u32, in_jobs: &dyn Fn() -> bool) -> io::Result<Option<OwnedFd>> {
    let process = i32::try_from(pid).ok().and_then(Pid::from_raw).ok_or(io::ErrorKind::InvalidInput)?;
    let pidfd = pidfd_open(process, PidfdFlags::empty())?;
    if !in_jobs() {
        return Ok(None);
    }
    pidfd_send_signal(&pidfd, Signal::KILL)?;
    Ok(Some(pidfd))
}
