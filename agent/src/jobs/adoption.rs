//! Taking over what an earlier agent followed.

use std::{
    collections::{HashMap, HashSet},
    io,
    sync::{Arc, atomic::AtomicUsize},
    time::Instant,
};

use agent_core::{
    audit::record::{JobRecord, JobState, Record},
    standing::{Grounds, TokenTerm},
};
use tokio::sync::watch;

use super::{Job, Registry, kill::kill_in_background, store::KeptJob};
use crate::ids::Id;

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
        let mut live: HashMap<u64, Vec<u32>> = HashMap::new();
        for (pid, tag) in self.kernel.tasks() {
            live.entry(tag.job).or_default().push(pid);
        }
        let mut adopted = Adopted::default();
        let mut revoked = HashSet::new();
        for (id, kept) in self.store.all()? {
            match live.remove(&id.0) {
                Some(processes) => {
                    let ended = kept.revoked.clone();
                    let job = Arc::new(revived(id, kept));
                    self.record(&job, JobState::Adopted);
                    self.locked().jobs.insert(id.0, Arc::clone(&job));
                    let credential = job.credential.as_ref();
                    let listed = credential.and_then(|found| self.revocations.find(Some(id), found));
                    if let Some(reason) = ended.or(listed) {
                        job.grounds.send_if_modified(|grounds| grounds.revoke(&reason.into()));
                        revoked.insert(id);
                    }
                    adopted.jobs.push((job, processes));
                }
                None => {
                    self.record(&revived(id, kept), JobState::Ended);
                    self.store.forget(id);
                }
            }
        }
        if self.kill_revoked {
            kill_in_background(Arc::clone(&self.kernel), revoked);
        }
        for (id, processes) in live {
            match self.meet(&mut self.locked(), id) {
                Some(job) => adopted.jobs.push((job, processes)),
                None => adopted.strays += processes.len(),
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

fn revived(id: Id, kept: KeptJob) -> Job {
    let KeptJob { name, credential, root_pid, netns, .. } = kept;
    let term =
        TokenTerm { expires_unix: credential.expires_unix, acts_until_unix: credential.acts_until_unix };
    let (grounds, _) = watch::channel(Grounds::of(term));
    Job {
        id,
        name,
        credential: Some(credential),
        root_pid,
        netns: netns.into(),
        sessions: AtomicUsize::new(0),
        grounds,
    }
}
