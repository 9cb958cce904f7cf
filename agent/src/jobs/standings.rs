//! What a job's standing rests on beside its token, and how that outlives the agent: what operators have ended is kept,
//! what a list has ended is noted with each job that it ended, and both are asked when a job begins or changes hands.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize},
    },
    time::{SystemTime, UNIX_EPOCH},
};

use agent_core::{
    credential::Credential,
    standing::{Grounds, TokenTerm},
};
use tokio::sync::watch;

use super::{
    Job,
    revocations::{Revocation, RevocationError, RevocationStore, Selector},
    store::{JobStore, KeptJob},
};
use crate::ids::Id;

/// Live jobs, by their ids.
pub type Live = HashMap<u64, Arc<Job>>;

/// What ends jobs' access, in force and on disk.
pub struct Standings {
    pub revocations: RevocationStore,
    pub store: JobStore,
}

impl Standings {
    /// Why a credential may begin no job, if it may not.
    pub fn objection(&self, credential: &Credential) -> Option<String> {
        self.revocations.find(None, Some(credential))
    }

    /// Why the access of a job that has no credential has ended, if it has.
    pub fn of_unidentified(&self, job: Id) -> Option<String> {
        self.revocations.find(Some(job), None)
    }

    /// A job that an earlier agent kept. What ended its access, then or meanwhile, has ended it: why, if anything has. That is
    /// to be kept, too.
    pub fn revive(&self, id: Id, kept: KeptJob) -> (Job, Option<String>) {
        let ended = kept.revoked.clone().or_else(|| self.revocations.find(Some(id), Some(&kept.credential)));
        let job = revived(id, kept);
        if let Some(reason) = &ended {
            job.grounds.send_if_modified(|known| known.revoke(&reason.as_str().into()));
        }
        (job, ended)
    }

    /// Keeps that a live job's access has ended: what ended it may not be in force any more when the next agent starts. One
    /// that has ended is kept no more.
    pub fn keep_ended(&self, live: &Live, job: &Job, reason: &str) {
        if !live.contains_key(&job.id.0) {
            return;
        }
        let kept = match &job.credential {
            Some(credential) => {
                let mut kept = KeptJob::of(job, credential);
                kept.revoked = Some(reason.to_owned());
                self.store.keep(&kept).map_err(|error| error.to_string())
            }
            // The kernel side alone keeps such a job, and has no room for a reason.
            None => self.keep_revoked(job.id, reason).map_err(|error| error.to_string()),
        };
        if let Err(error) = kept {
            tracing::error!(%error, job = %job.id, "the next agent will not know that a job's access has ended");
        }
    }

    fn keep_revoked(&self, job: Id, reason: &str) -> Result<(), RevocationError> {
        let selector = Selector::Job(job.to_string());
        let revocation = Revocation { selector, reason: reason.to_owned(), time_us: now_us(), by_uid: 0 };
        if self.revocations.know(&revocation)? { self.revocations.keep(&revocation) } else { Ok(()) }
    }
}

/// A live job that was told that its access has ended.
pub struct Told {
    pub job: Arc<Job>,
    /// Which of the revocations ended it.
    pub by: usize,
    /// Whether it was news to the job.
    pub news: bool,
}

/// Tells every live job that any of these revocations means.
pub fn tell<'a>(live: &Live, revocations: impl IntoIterator<Item = (&'a Selector, &'a str)>) -> Vec<Told> {
    let revocations: Vec<(&Selector, &str)> = revocations.into_iter().collect();
    let mut by_selector: HashMap<&Selector, Vec<usize>> = HashMap::new();
    for (index, (selector, _)) in revocations.iter().enumerate() {
        by_selector.entry(selector).or_default().push(index);
    }
    let mut told = Vec::new();
    for job in live.values() {
        for selector in Selector::meaning(Some(job.id), job.credential.as_ref()) {
            for by in by_selector.get(&selector).into_iter().flatten().copied() {
                let reason = revocations.get(by).map_or("", |(_, reason)| reason);
                let news = job.grounds.send_if_modified(|grounds| grounds.revoke(&reason.into()));
                told.push(Told { job: Arc::clone(job), by, news });
            }
        }
    }
    told
}

/// Microseconds since the Unix epoch.
pub fn now_us() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_micros() as u64)
}

/// A job as it was kept.
pub fn revived(id: Id, kept: KeptJob) -> Job {
    let KeptJob { name, credential, root_pid, netns, .. } = kept;
    let term =
        TokenTerm { expires_unix: credential.expires_unix, acts_until_unix: credential.acts_until_unix };
    let (grounds, _) = watch::channel(Grounds::of(term));
    let (sessions, shut) = (AtomicUsize::new(0), AtomicBool::new(false));
    Job { id, name, credential: Some(credential), root_pid, netns: netns.into(), sessions, grounds, shut }
}

#[cfg(test)]
#[path = "standings_tests.rs"]
mod tests;
