//! At the start: puts processes that already run and that an enrolment rule matches into jobs.

use std::{sync::Arc, time::Duration};

use anyhow::Context;

use super::agent::Agent;
use crate::jobs::{Completeness, Job, Tree, has_ended, is_gone, processes, user_of};

/// How often `/proc` is searched before a process that cannot be followed keeps the agent from starting.
const SWEEPS_MAX: usize = 8;
/// The time between two searches.
const SWEEP_PAUSE: Duration = Duration::from_millis(50);

impl Agent {
    /// Puts running processes that a rule matches into jobs, each with all its descendants, until a search
    /// finds none and none has forked meanwhile: a process that forks and ends may be seen by no search. If
    /// one cannot be followed, the agent does not start: the process would run free.
    pub(super) fn sweep(&self) -> anyhow::Result<()> {
        if self.rules.is_empty() {
            return Ok(());
        }
        let mut unfollowed = String::new();
        for _ in 0..SWEEPS_MAX {
            let mut found = false;
            let forks = self.kernel.matched_forks();
            for pid in processes().context("the processes of this host cannot be read")? {
                // The real user id, as the kernel side compares it.
                let matched = user_of(pid).and_then(|[uid, ..]| Ok((uid, self.rules.of_process(pid, uid)?)));
                let (uid, rule) = match matched {
                    Ok((uid, Some(rule))) => (uid, rule),
                    Ok((_, None)) => continue,
                    Err(error) if is_gone(&error) => continue,
                    Err(error) => {
                        return Err(error).with_context(|| format!("process {pid} cannot be read"));
                    }
                };
                if self.kernel.tag_of(pid).is_some() || has_ended(pid) {
                    continue;
                }
                found = true;
                match self.enrol_running(pid, uid, rule) {
                    Ok((job, processes)) => {
                        tracing::info!(job = %job.id, rule, pid, processes, "ran already");
                        self.serve(&job, &[pid]);
                    }
                    Err(_) if has_ended(pid) => {}
                    // It may have become part of another tree, which the next search shows.
                    Err(error) => {
                        tracing::warn!(error, rule, pid, "a process that a rule matches is not followed yet");
                        unfollowed =
                            format!("process {pid}, which rule {rule} matches, cannot be followed: {error}");
                    }
                }
            }
            if !found && self.kernel.matched_forks() == forks {
                return Ok(());
            }
            std::thread::park_timeout(SWEEP_PAUSE);
        }
        anyhow::ensure!(unfollowed.is_empty(), unfollowed);
        anyhow::bail!(
            "processes that rules match were still found, or still forked, after {SWEEPS_MAX} searches: \
             end those that do nothing but fork"
        )
    }

    fn enrol_running(&self, pid: u32, uid: u32, rule: &str) -> Result<(Arc<Job>, usize), String> {
        let followed = |pid| self.kernel.tag_of(pid).is_some();
        let mut tree = Tree::hold(pid, Completeness::BestEffort, self.kernel.processes_max(), followed)
            .map_err(|error| self.refusal(&error))?;
        let job = self.registry.enrol_by_rule(pid, uid, rule).map_err(|error| self.refusal(&error))?;
        match self.take_in(&job, &mut tree, followed) {
            Ok(processes) => Ok((job, processes)),
            // Half of a tree in a job would look as if all of it were followed.
            Err(error) => {
                self.registry.abandon(&job);
                Err(error)
            }
        }
    }
}
