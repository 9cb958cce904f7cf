//! Ending access: by an operator, and by the list that others keep.

use std::{collections::HashSet, path::Path, sync::Arc};

use agent_core::audit::record::{Record, RevocationRecord, Texts};
use thiserror::Error;

use super::{
    Job, Registry,
    kill::kill_in_background,
    revocations::{Listed, Revocation, RevocationError, Selector},
    store::KeptJob,
};
use crate::{audit::AuditError, ids::Id};

impl Registry {
    /// Ends access: known first, so that no enrolment slips past; then told to every live job it means; then kept
    /// on disk and recorded. Answers the jobs' ids. Access has ended whatever this answers.
    ///
    /// With `kill` the jobs' processes are killed, too, whatever the configuration says of that.
    pub fn revoke(
        &self,
        selector: Selector,
        reason: String,
        kill: bool,
        by_uid: u32,
    ) -> Result<Vec<Id>, RevokeError> {
        let time_us = std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .map_or(0, |since| since.as_micros() as u64);
        let revocation = Revocation { selector, reason, time_us, by_uid };
        let kept = self.revocations.add(&revocation);
        // Access ends before the trail is asked: a full disk must not keep it alive.
        let told = self.tell(&revocation.selector, &revocation.reason);
        self.settle(&told, &revocation.reason);
        let meant: Vec<Id> = told.iter().map(|(job, _)| job.id).collect();
        if kill && !self.kill_revoked {
            // Also those to whom it was no news.
            kill_in_background(Arc::clone(&self.kernel), meant.iter().copied().collect());
        }
        kept.map_err(|error| match error {
            RevocationError::Full => RevokeError::Full(error),
            error => RevokeError::Store(error),
        })?;
        self.record_revocation(&revocation.selector, &revocation.reason, &format!("uid {by_uid}"), &meant)?;
        Ok(meant)
    }

    /// Puts the list that others keep in force, known first as in [`Registry::revoke`]. What is new in it is recorded as
    /// the file's doing; of the list that the agent starts with, `file` being none, only what ends a live job's access.
    pub fn relist(&self, listed: Vec<Listed>, file: Option<&Path>) {
        let before: HashSet<Listed> = self.revocations.list(listed.clone()).into_iter().collect();
        // All of it before anything is kept or recorded: a slow disk keeps nobody's access alive.
        let told: Vec<Vec<(Arc<Job>, bool)>> =
            listed.iter().map(|entry| self.tell(&entry.selector, &entry.reason)).collect();
        for (entry, told) in listed.iter().zip(told) {
            self.settle(&told, &entry.reason);
            let meant: Vec<Id> = told.iter().filter(|(_, news)| *news).map(|(job, _)| job.id).collect();
            let news = file.is_some() && !before.contains(entry);
            if !news && meant.is_empty() {
                continue;
            }
            let by =
                file.map_or_else(|| "the list".to_owned(), |file| format!("the list {}", file.display()));
            if let Err(error) = self.record_revocation(&entry.selector, &entry.reason, &by, &meant) {
                tracing::error!(%error, "a revocation could not be recorded");
            }
        }
    }

    /// Tells every live job that is meant; answers them, and whether it was news to them.
    fn tell(&self, selector: &Selector, reason: &str) -> Vec<(Arc<Job>, bool)> {
        let reason: Arc<str> = reason.into();
        let meant: Vec<Arc<Job>> = {
            let inner = self.locked();
            let meant =
                inner.jobs.values().filter(|job| selector.matches(Some(job.id), job.credential.as_ref()));
            meant.cloned().collect()
        };
        let tell = |job: Arc<Job>| {
            let news = job.grounds.send_if_modified(|grounds| grounds.revoke(&reason));
            (job, news)
        };
        meant.into_iter().map(tell).collect()
    }

    /// Sees to jobs that were told, as far as it was news to them: kills them where that is wanted, and keeps it.
    fn settle(&self, told: &[(Arc<Job>, bool)], reason: &str) {
        let news = || told.iter().filter(|(_, news)| *news).map(|(job, _)| job);
        if self.kill_revoked {
            kill_in_background(Arc::clone(&self.kernel), news().map(|job| job.id).collect());
        }
        news().for_each(|job| self.keep_ended(job, reason));
    }

    /// Ends a job's access until it ends, for a reason of the agent's own.
    pub fn shut_off(&self, job: &Job, reason: &str) {
        job.grounds.send_if_modified(|grounds| grounds.revoke(&reason.into()));
        self.keep_ended(job, reason);
    }

    /// Keeps that a job's access has ended: what ended it may not be in force any more when the next agent starts.
    fn keep_ended(&self, job: &Job, reason: &str) {
        let Some(credential) = &job.credential else { return };
        let mut kept = KeptJob::of(job, credential);
        kept.revoked = Some(reason.to_owned());
        // Under the lock: a job that has ended is kept no more.
        let inner = self.locked();
        if inner.jobs.contains_key(&job.id.0)
            && let Err(error) = self.store.keep(&kept)
        {
            tracing::error!(%error, job = %job.id, "the next agent will not know that a job's access has ended");
        }
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

/// Why access didn't end, or wasn't recorded.
#[derive(Debug, Error)]
pub enum RevokeError {
    /// No more are kept: it is in force for the live jobs only.
    #[error("live jobs have lost access, but new ones would be let in: {0}")]
    Full(#[source] RevocationError),
    /// It is in force but not kept on disk.
    #[error("access has ended, but only until the agent restarts: {0}")]
    Store(#[source] RevocationError),
    /// It is kept and in force, but the trail lacks it.
    #[error("access has ended, but that cannot be recorded: {0}")]
    Audit(#[from] AuditError),
}
