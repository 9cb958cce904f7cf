//! Taking over what an earlier agent followed.

use std::{
    collections::{HashMap, HashSet},
    io,
    sync::Arc,
    time::Instant,
};

use agent_core::audit::record::{JobRecord, JobState, Record};

use super::{Job, Registry, kill::kill_in_background, standings::revived};

/// How often the kernel side is looked at before a job without processes has ended.
/// One look can miss a process: it forks into a part of the map that has been read, and ends.
const LOOKS: u32 = 24;

/// What was taken over.
#[derive(Default)]
pub struct Adopted {
    /// Each job with its live processes.
    pub jobs: Vec<(Arc<Job>, Vec<u32>)>,
    /// Processes of jobs that nothing is known of: they stay shut off.
    pub strays: usize,
}

impl Registry {
    /// Takes over every job that the kernel side still follows, with credential and ancestry, and records the end of those
    /// whose last process has gone meanwhile. What ended a job's access before ends it now.
    pub fn adopt(&self, now: Instant) -> io::Result<Adopted> {
        let kept = self.standings.store.all()?;
        let mut found: HashMap<u32, u64> = HashMap::new();
        for _ in 0..LOOKS {
            found.extend(self.kernel.tasks().into_iter().map(|(pid, tag)| (pid, tag.job)));
            let jobs: HashSet<u64> = found.values().copied().collect();
            if kept.iter().all(|(id, _)| jobs.contains(&id.0)) {
                break;
            }
        }
        let mut live: HashMap<u64, Vec<u32>> = HashMap::new();
        for (pid, job) in found {
            live.entry(job).or_default().push(pid);
        }
        let mut adopted = Adopted::default();
        let mut revoked = HashSet::new();
        for (id, kept) in kept {
            match live.remove(&id.0) {
                Some(processes) => {
                    let (job, ended) = self.standings.revive(id, kept);
                    let job = Arc::new(job);
                    self.record(&job, JobState::Adopted);
                    self.locked().jobs.insert(id.0, Arc::clone(&job));
                    if let Some(reason) = ended {
                        // By what is kept of others, perhaps: that may be gone when the next agent starts.
                        self.standings.keep_ended(&self.locked().jobs, &job, &reason);
                        revoked.insert(id);
                    }
                    adopted.jobs.push((job, processes));
                }
                None => {
                    self.record(&revived(id, kept), JobState::Ended);
                    self.standings.store.forget(id);
                }
            }
        }
        if self.kill_revoked {
            kill_in_background(Arc::clone(&self.kernel), revoked);
        }
        for (id, processes) in live {
            match self.meet(&mut self.locked(), id) {
                Some(job) => adopted.jobs.push((job, processes)),
                None => {
                    self.kernel.shut_off(id);
                    adopted.strays += processes.len();
                }
            }
        }
        // Its places and members, and what nothing descends from any more.
        self.reconcile(now, true);
        Ok(adopted)
    }

    /// Tells the trail of a job that has changed hands or ended; it did whatever becomes of that.
    pub(super) fn record(&self, job: &Job, state: JobState) {
        let id = job.id.to_string();
        let record = Record::Job(JobRecord {
            state,
            job: job.to_ref(&id),
            credential: job.credential.as_ref().map(Into::into),
            root_pid: job.root_pid,
        });
        if let Err(error) = self.trail.append(&record) {
            tracing::error!(%error, job = id, "a change of a job could not be recorded");
        }
    }
}
