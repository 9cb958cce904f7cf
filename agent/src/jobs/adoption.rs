//! Takes over the jobs that an earlier agent followed.

use std::{
    collections::{HashMap, HashSet},
    io,
    sync::Arc,
    time::Instant,
};

use agent_core::audit::record::{JobRecord, JobState, Record};

use super::{job::Job, kill::kill_in_background, registry::Registry};

/// Looks at the task map before a kept job without processes counts as ended. A single look can miss a
/// process that forks into a part of the map that has been read already, and ends.
const LOOKS: u32 = 24;

/// What was taken over.
#[derive(Default)]
pub struct Adopted {
    /// Each job with its live processes.
    pub jobs: Vec<(Arc<Job>, Vec<u32>)>,
    /// Number of processes whose jobs are not known: they stay shut off.
    pub strays: usize,
}

impl Registry {
    /// Takes over every job that the kernel side still follows, with credential and ancestry, and records the
    /// end of those whose last process has ended meanwhile. A job whose access had ended is taken over as
    /// such.
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
                    let (job, ended) = self.standings.restore(id, kept);
                    let job = Arc::new(job);
                    self.record(&job, JobState::Adopted);
                    self.locked().jobs.insert(id.0, Arc::clone(&job));
                    if let Some(reason) = ended {
                        // It may be a revocation of the job's subject or claims, or of the revocation file,
                        // that is removed before the next agent starts.
                        self.standings.keep_ended(&self.locked().jobs, &job, &reason);
                        revoked.insert(id);
                    }
                    adopted.jobs.push((job, processes));
                }
                None => {
                    self.record(&kept.into_job(id), JobState::Ended);
                    self.standings.store.forget(id);
                }
            }
        }
        if self.kill_revoked {
            kill_in_background(Arc::clone(&self.kernel), revoked);
        }
        for (id, processes) in live {
            match self.find_or_register(&mut self.locked(), id) {
                Some(job) => adopted.jobs.push((job, processes)),
                None => {
                    self.kernel.shut_off(id);
                    adopted.strays += processes.len();
                }
            }
        }
        // Reads the jobs' nodes and members, and drops nodes that nothing descends from any more.
        self.reconcile(now, true);
        Ok(adopted)
    }

    /// Records that a job was adopted or has ended. If that fails it is logged: it has happened all the same.
    pub(super) fn record(&self, job: &Job, state: JobState) {
        let id = job.id.to_string();
        let record = Record::Job(JobRecord {
            state,
            job: job.to_ref(&id),
            credential: job.credential.as_ref().map(Into::into),
            root_pid: job.root_pid,
        });
        if let Err(error) = self.trail.append(&record) {
            tracing::error!(%error, job = id, "a job's adoption or end could not be recorded");
        }
    }
}
