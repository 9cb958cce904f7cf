//! Ending access: by an operator, and by the list that others keep.

use std::{collections::HashMap, path::Path, sync::Arc};

use agent_core::audit::record::{Record, RevocationRecord, Texts};
use thiserror::Error;

use super::{
    Job, Registry,
    kill::kill_in_background,
    revocations::{Listed, Revocation, RevocationError, Selector},
    standings::{Told, now_us, tell},
};
use crate::{
    audit::AuditError,
    bounds::{Bound, Bounded},
    ids::Id,
};

impl Registry {
    /// Ends access: known first, so that no enrolment slips past; then told to every live job it means, which waits for no
    /// disk; then kept and recorded. Answers the jobs' ids. Access has ended whatever this answers.
    ///
    /// With `kill` the jobs' processes are killed, too, whatever the configuration says of that.
    pub fn revoke(
        &self,
        selector: Selector,
        reason: String,
        kill: bool,
        by_uid: u32,
    ) -> Result<Vec<Id>, RevokeError> {
        let revocation = Revocation { selector, reason, time_us: now_us(), by_uid };
        let known = self.standings.revocations.know(&revocation);
        let told = self.tell([(&revocation.selector, revocation.reason.as_str())]);
        let meant: Vec<Id> = told.iter().map(|told| told.job.id).collect();
        if kill && !self.kill_revoked {
            // Also those to whom it was no news.
            kill_in_background(Arc::clone(&self.kernel), meant.iter().copied().collect());
        }
        // The trail comes last: a full disk must not keep access alive.
        let kept = if known.is_ok() { self.standings.revocations.keep(&revocation) } else { Ok(()) };
        self.keep_told(&told, |_| &revocation.reason);
        known.map_err(RevokeError::Full)?;
        kept.map_err(RevokeError::Store)?;
        self.record_revocation(&revocation.selector, &revocation.reason, &format!("uid {by_uid}"), &meant)?;
        Ok(meant)
    }

    /// Puts the list that others keep in force, known first as in [`Registry::revoke`]. What is new in it is recorded as
    /// the file's doing; of the list that the agent starts with, `file` being none, only what ends a live job's access.
    pub fn relist(&self, listed: &[Listed], file: Option<&Path>) {
        let new = self.standings.revocations.list(listed);
        // All of it before anything is kept or recorded: a slow disk keeps nobody's access alive.
        let told = self.tell(listed.iter().map(|entry| (&entry.selector, entry.reason.as_str())));
        self.keep_told(&told, |by| listed.get(by).map_or("", |entry| &entry.reason));
        let mut ended: HashMap<usize, Vec<Id>> = HashMap::new();
        for told in told.iter().filter(|told| told.news) {
            ended.entry(told.by).or_default().push(told.job.id);
        }
        let by = file.map_or_else(|| "the list".to_owned(), |file| format!("the list {}", file.display()));
        for (index, entry) in listed.iter().enumerate() {
            let meant = ended.remove(&index).unwrap_or_default();
            let news = file.is_some() && new.contains(&entry.selector);
            if !news && meant.is_empty() {
                continue;
            }
            if let Err(error) = self.record_revocation(&entry.selector, &entry.reason, &by, &meant) {
                tracing::error!(%error, "a revocation could not be recorded");
            }
        }
    }

    /// Tells every live job that is meant, and sees to those to whom it is news: nothing of it waits for a disk.
    fn tell<'a>(&self, revocations: impl IntoIterator<Item = (&'a Selector, &'a str)>) -> Vec<Told> {
        let told = tell(&self.locked().jobs, revocations);
        let news = || told.iter().filter(|told| told.news);
        news().for_each(|told| told.job.shut_off(&self.kernel));
        if self.kill_revoked {
            kill_in_background(Arc::clone(&self.kernel), news().map(|told| told.job.id).collect());
        }
        told
    }

    /// Keeps what was told, as far as it was news.
    fn keep_told<'a>(&self, told: &[Told], reason: impl Fn(usize) -> &'a str) {
        for Told { job, by, .. } in told.iter().filter(|told| told.news) {
            self.keep_ended(job, reason(*by));
        }
    }

    /// Ends a job's access until it ends, for a reason of the agent's own.
    pub fn shut_off(&self, job: &Job, reason: &str) {
        job.grounds.send_if_modified(|grounds| grounds.revoke(&reason.into()));
        job.shut_off(&self.kernel);
        self.keep_ended(job, reason);
    }

    /// Keeps that a job's access has ended, if it is a live one.
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

impl Bounded for RevokeError {
    fn bound(&self) -> Option<Bound> {
        matches!(self, Self::Full(_)).then_some(Bound::Revocations)
    }
}
