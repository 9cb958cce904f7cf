//! Jobs that a rule began: they have shown no token, and are granted what policies grant to such.

use std::sync::{
    Arc, OnceLock,
    atomic::{AtomicBool, AtomicUsize},
};

use agent_abi::{NODE_RECORDED, RULE_NAME_BYTES, Unidentified};
use agent_core::{audit::record::JobState, standing::Grounds};
use tokio::sync::watch;

use super::{EnrolError, Job, Registry, registry::Inner};
use crate::{ids::Id, kernel::exists};

impl Job {
    pub(super) fn unidentified(id: Id, rule: String, root_pid: u32) -> Self {
        let (grounds, _) = watch::channel(Grounds::unidentified());
        let (netns, sessions, shut) = (OnceLock::new(), AtomicUsize::new(0), AtomicBool::new(false));
        Self { id, name: rule, credential: None, root_pid, netns, sessions, grounds, shut }
    }
}

impl Registry {
    /// A job by its id: one that a rule began may not have been heard of yet.
    pub(super) fn meet(&self, inner: &mut Inner, job: u64) -> Option<Arc<Job>> {
        if let Some(known) = inner.jobs.get(&job) {
            return Some(Arc::clone(known));
        }
        let begun = self.kernel.unidentified(job)?;
        let job = Arc::new(Job::unidentified(Id(job), rule_of(&begun), begun.tgid));
        let ended = self.standings.of_unidentified(job.id);
        if let Some(reason) = &ended {
            job.grounds.send_if_modified(|grounds| grounds.revoke(&reason.as_str().into()));
        }
        let recorded = begun.flags & NODE_RECORDED != 0;
        self.record(&job, if recorded { JobState::Adopted } else { JobState::Enrolled });
        let noted = Unidentified { flags: begun.flags | NODE_RECORDED, ..begun };
        if let Err(error) = self.kernel.set_unidentified(job.id.0, noted) {
            tracing::warn!(%error, job = %job.id, "the trail will hold the beginning of a job twice");
        }
        inner.jobs.insert(job.id.0, Arc::clone(&job));
        if let Some(reason) = ended {
            self.standings.keep_ended(&inner.jobs, &job, &reason);
        }
        Some(job)
    }

    /// Puts a process that ran before its rule did into a new job without a credential.
    pub fn enrol_by_rule(&self, pid: u32, uid: u32, rule: &str) -> Result<Arc<Job>, EnrolError> {
        let gone = |source| EnrolError::Gone { pid, source };
        if !self.kernel.covers(pid).map_err(gone)? {
            return Err(EnrolError::Uncovered { pid, cgroup: self.kernel.cgroup().to_owned() });
        }
        let id = Id::random().map_err(gone)?;
        let mut begun = Unidentified { rule: [0; RULE_NAME_BYTES], tgid: pid, flags: 0 };
        for (to, from) in begun.rule.iter_mut().zip(rule.bytes()) {
            *to = from;
        }
        let mut inner = self.locked();
        if let Some(tag) = self.kernel.tag_of(pid) {
            return Err(EnrolError::AlreadyFollowed { job: Id(tag.job) });
        }
        self.kernel.set_unidentified(id.0, begun)?;
        let job = self.meet(&mut inner, id.0).ok_or(EnrolError::TooManyJobs(self.jobs_max))?;
        inner.members.entry(id.0).or_default().insert(pid);
        let (node, image) = self.add_place(&mut inner, id, 0, pid, uid)?;
        self.record_places(&mut inner, &id.to_string(), &[node])?;
        self.kernel.tag(pid, id.0, node, image)?;
        Ok(job)
    }

    /// Whether there is any job that has shown no token.
    pub fn knows_unidentified(&self) -> bool {
        !self.kernel.all_unidentified().is_empty()
    }

    /// Records the end of jobs that began and ended unheard of, and lets go of them. `live` are jobs with processes, asked
    /// for after `begun`: a root that lives may be about to be tagged.
    pub(super) fn bury(
        &self,
        inner: &mut Inner,
        begun: Vec<(u64, Unidentified)>,
        live: impl Fn(u64) -> bool,
    ) {
        for (job, _) in begun.into_iter().filter(|(job, begun)| !live(*job) && !exists(begun.tgid)) {
            if !inner.jobs.contains_key(&job) && self.meet(inner, job).is_some() {
                self.end(inner, job);
            }
        }
    }

    /// Whether a job is one that a rule began and that has shown no token.
    pub fn is_unidentified(&self, job: u64) -> bool {
        self.kernel.unidentified(job).is_some()
    }

    /// Why the access of a job without a credential has ended, if it has.
    pub(super) fn revoked_here(&self, job: u64) -> Option<(Id, String)> {
        self.standings.of_unidentified(Id(job)).map(|reason| (Id(job), reason))
    }

    /// Lets a process go from the job that it was in without a credential, as it has one now.
    pub(super) fn leave_unidentified(&self, inner: &mut Inner, job: u64, pid: u32, node: u64) {
        inner.places.leave(node, std::time::Instant::now());
        let empty = inner.members.get_mut(&job).is_some_and(|members| {
            members.remove(&pid);
            members.is_empty()
        });
        if empty {
            self.end(inner, job);
        }
    }
}

/// The name of the rule that began a job.
pub fn rule_of(begun: &Unidentified) -> String {
    let name = begun.rule.split(|byte| *byte == 0).next().unwrap_or_default();
    String::from_utf8_lossy(name).into_owned()
}
