//! Listens in the network namespaces of jobs that did not ask for it: adopted jobs, and jobs that a rule
//! began.

use super::agent::Agent;
use crate::{
    jobs::{Adopted, Job},
    kernel::netns::Netns,
};

/// Processes of a job that are tried to find its network namespace, at a time.
const TRIED_MAX: usize = 64;

impl Agent {
    /// Listens for the jobs of an earlier agent again.
    pub(super) fn take_over(&self, adopted: &Adopted) {
        for (job, processes) in &adopted.jobs {
            tracing::info!(job = %job.id, processes = processes.len(), "adopted");
            self.serve(job, processes);
            self.cover(processes.iter().copied());
        }
        if adopted.strays > 0 {
            tracing::error!(processes = adopted.strays, "processes of unknown jobs are shut off");
        }
    }

    /// Whether the agent listens in a job's network namespace.
    fn serves(&self, job: &Job) -> bool {
        job.netns.get().is_some_and(|home| self.listeners.serves(*home))
    }

    /// Listens in a job's network namespace, unless that is done already. `processes` are some of the job's,
    /// through which the namespace is found.
    pub(super) fn serve(&self, job: &Job, processes: &[u32]) {
        if self.serves(job) {
            return;
        }
        let at_home = |pid: &&u32| {
            self.kernel.tag_of(**pid).is_some_and(|tag| tag.job == job.id.0)
                && Netns::of(**pid)
                    .is_ok_and(|netns| job.netns.get().is_none_or(|home| *home == netns.cookie))
        };
        match processes.iter().take(TRIED_MAX).find(at_home).map(|pid| self.listeners.ensure(*pid)) {
            Some(Ok(cookie)) => {
                job.netns.get_or_init(|| cookie);
            }
            Some(Err(error)) => {
                tracing::error!(error = self.refusal(&error), job = %job.id, "a job is shut off");
            }
            None => tracing::debug!(job = %job.id, "no process of a job is in its first network namespace"),
        }
    }

    /// Listens for every job that has no listener yet: the processes through which its namespace was looked
    /// for may have ended.
    pub(super) fn serve_all(&self) {
        for (job, _) in self.registry.list() {
            if !self.serves(&job) {
                self.serve(&job, &self.registry.processes(job.id));
            }
        }
    }
}
