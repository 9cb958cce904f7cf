//! What ended jobs' access, kept so that it outlives the agent.
//!
//! Revocations made on this host are kept in the revocation store. What the revocation file has ended is
//! noted with each job that it ended, because its entry may be gone when the next agent starts. Both are
//! asked when a job begins or is restored.

use agent_core::credential::Credential;

use super::{
    super::{
        job::{Job, LiveJobs},
        store::{JobStore, KeptJob},
    },
    selector::{Revocation, Selector},
    store::{RevocationError, RevocationStore},
};
use crate::ids::Id;

/// The two stores behind jobs' standings.
pub struct Standings {
    /// Revocations in force.
    pub revocations: RevocationStore,
    /// Kept jobs, each with the reason why its access has ended, if it has.
    pub store: JobStore,
}

impl Standings {
    /// Why a credential may begin no job, if it may not.
    pub fn objection(&self, credential: &Credential) -> Option<String> {
        self.revocations.find(None, Some(credential))
    }

    /// Why the access of an unidentified job has ended, if it has.
    pub fn of_unidentified(&self, job: Id) -> Option<String> {
        self.revocations.find(Some(job), None)
    }

    /// Restores a job that an earlier agent kept. If its access had ended, or a revocation in force matches
    /// it, its access has ended; the reason is returned, and the caller has to keep it.
    pub fn restore(&self, id: Id, kept: KeptJob) -> (Job, Option<String>) {
        let ended = kept.revoked.clone().or_else(|| self.revocations.find(Some(id), Some(&kept.credential)));
        let job = kept.into_job(id);
        if let Some(reason) = &ended {
            job.end_access(reason);
        }
        (job, ended)
    }

    /// Keeps that a live job's access has ended: the revocation that ended it may not be in force any more
    /// when the next agent starts. Nothing is kept of a job that has ended itself.
    pub fn keep_ended(&self, live: &LiveJobs, job: &Job, reason: &str) {
        if !live.contains_key(&job.id.0) {
            return;
        }
        let kept = match &job.credential {
            Some(credential) => {
                let mut kept = KeptJob::of(job, credential);
                kept.revoked = Some(reason.to_owned());
                self.store.keep(&kept).map_err(|error| error.to_string())
            }
            // Only the kernel side keeps an unidentified job, and has no room for a reason.
            None => self.keep_revoked(job.id, reason).map_err(|error| error.to_string()),
        };
        if let Err(error) = kept {
            tracing::error!(%error, job = %job.id, "the next agent will not know that its access has ended");
        }
    }

    /// Keeps a revocation of one job, made by the agent itself.
    fn keep_revoked(&self, job: Id, reason: &str) -> Result<(), RevocationError> {
        let revocation = Revocation::now(Selector::Job(job.to_string()), reason.to_owned(), 0);
        if self.revocations.know(&revocation)? { self.revocations.keep(&revocation) } else { Ok(()) }
    }
}
