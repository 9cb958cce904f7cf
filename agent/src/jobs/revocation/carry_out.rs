//! Carries revocations out: an operator's, the revocation file's, and the agent's own.
//!
//! The order is always the same. First the revocation is in force, so that no enrolment slips past; then
//! every live job that it matches is told; only then is it kept on disk and recorded. No slow or full disk
//! keeps access alive.

use std::{collections::HashMap, path::Path, sync::Arc};

use agent_core::audit::record::{Record, RevocationRecord, Texts};
use thiserror::Error;

use super::{
    super::{job::Job, kill::kill_in_background, registry::Registry},
    selector::{Listed, Revocation, Selector},
    store::RevocationError,
    tell::{Notified, tell},
};
use crate::{
    audit::AuditError,
    bounds::{Bound, Bounded},
    ids::Id,
};

/// Why a revocation isn't complete. In every case access has ended for the live jobs.
#[derive(Debug, Error)]
pub enum RevokeError {
    /// No room for it: it is in force for the live jobs only.
    #[error("live jobs have lost access, but new ones would be let in: {0}")]
    Full(#[source] RevocationError),
    /// It is in force but not on disk.
    #[error("access has ended, but only until the agent restarts: {0}")]
    Store(#[source] RevocationError),
    /// It is in force and on disk, but not in the trail.
    #[error("access has ended, but that cannot be recorded: {0}")]
    Audit(#[from] AuditError),
}

impl Bounded for RevokeError {
    fn bound(&self) -> Option<Bound> {
        matches!(self, Self::Full(_)).then_some(Bound::Revocations)
    }
}

impl Registry {
    /// Ends access at an operator's request; returns the ids of the live jobs that it matches. Whatever this
    /// returns, their access has ended.
    ///
    /// With `kill` the jobs' processes are killed, too, even if the configuration doesn't say so.
    pub fn revoke(
        &self,
        selector: Selector,
        reason: String,
        kill: bool,
        by_uid: u32,
    ) -> Result<Vec<Id>, RevokeError> {
        let revocation = Revocation::now(selector, reason, by_uid);
        let known = self.standings.revocations.know(&revocation);
        let notified = self.tell([(&revocation.selector, revocation.reason.as_str())]);
        let matched: Vec<Id> = notified.iter().map(|notified| notified.job.id).collect();
        if kill && !self.kill_revoked {
            // Jobs whose access had ended before are killed, too.
            kill_in_background(Arc::clone(&self.kernel), matched.iter().copied().collect());
        }
        // The trail comes last: a full disk must not keep access alive.
        let kept = if known.is_ok() { self.standings.revocations.keep(&revocation) } else { Ok(()) };
        self.keep_notified(&notified, |_| &revocation.reason);
        known.map_err(RevokeError::Full)?;
        kept.map_err(RevokeError::Store)?;
        self.record_revocation(&revocation.selector, &revocation.reason, &format!("uid {by_uid}"), &matched)?;
        Ok(matched)
    }

    /// Puts the entries of the revocation file in force. New entries are recorded as the file's doing. `file`
    /// is `None` for the list that the agent starts with: of its entries only those that end a live job's
    /// access are recorded.
    pub fn relist(&self, listed: &[Listed], file: Option<&Path>) {
        let new = self.standings.revocations.replace_listed(listed);
        // Every job is told before anything is kept or recorded: a slow disk keeps nobody's access alive.
        let notified = self.tell(listed.iter().map(|entry| (&entry.selector, entry.reason.as_str())));
        self.keep_notified(&notified, |index| listed.get(index).map_or("", |entry| &entry.reason));
        let mut ended: HashMap<usize, Vec<Id>> = HashMap::new();
        for notified in notified.iter().filter(|notified| notified.newly_ended) {
            ended.entry(notified.revocation).or_default().push(notified.job.id);
        }
        let by = file.map_or_else(|| "the list".to_owned(), |file| format!("the list {}", file.display()));
        for (index, entry) in listed.iter().enumerate() {
            let jobs = ended.remove(&index).unwrap_or_default();
            let is_new = file.is_some() && new.contains(&entry.selector);
            if !is_new && jobs.is_empty() {
                continue;
            }
            if let Err(error) = self.record_revocation(&entry.selector, &entry.reason, &by, &jobs) {
                tracing::error!(%error, "a revocation could not be recorded");
            }
        }
    }

    /// Ends a job's access for a reason of the agent's own.
    pub fn shut_off(&self, job: &Job, reason: &str) {
        job.end_access(reason);
        job.shut_off(&self.kernel);
        self.keep_ended(job, reason);
    }

    /// Tells every live job that is matched. Those whose access ends by it are shut off in the kernel side,
    /// and killed if the configuration says so. Nothing of this waits for a disk.
    fn tell<'a>(&self, revocations: impl IntoIterator<Item = (&'a Selector, &'a str)>) -> Vec<Notified> {
        let notified = tell(&self.locked().jobs, revocations);
        let ended = || notified.iter().filter(|notified| notified.newly_ended).map(|notified| &notified.job);
        ended().for_each(|job| job.shut_off(&self.kernel));
        if self.kill_revoked {
            kill_in_background(Arc::clone(&self.kernel), ended().map(|job| job.id).collect());
        }
        notified
    }

    /// Keeps with each job whose access was newly ended that it has ended. `reason` is by the revocation's
    /// index.
    fn keep_notified<'a>(&self, notified: &[Notified], reason: impl Fn(usize) -> &'a str) {
        for Notified { job, revocation, .. } in notified.iter().filter(|notified| notified.newly_ended) {
            self.keep_ended(job, reason(*revocation));
        }
    }

    /// Keeps that a job's access has ended, if the job is live.
    fn keep_ended(&self, job: &Job, reason: &str) {
        self.standings.keep_ended(&self.locked().jobs, job, reason);
    }

    fn record_revocation(
        &self,
        selector: &Selector,
        reason: &str,
        by: &str,
        jobs: &[Id],
    ) -> Result<(), AuditError> {
        let ids: Vec<String> = jobs.iter().map(Id::to_string).collect();
        let claim = match selector {
            Selector::Claim { key, value } => Some(format!("{key}={value}")),
            _ => None,
        };
        let (job, subject) = match selector {
            Selector::Job(job) => (Some(job.as_str()), None),
            Selector::Subject(subject) => (None, Some(subject.as_str())),
            Selector::Claim { .. } => (None, None),
        };
        self.trail.append(&Record::Revocation(RevocationRecord {
            job,
            subject,
            claim: claim.as_deref(),
            reason,
            by,
            jobs: Texts::Strings(&ids),
        }))?;
        Ok(())
    }
}
