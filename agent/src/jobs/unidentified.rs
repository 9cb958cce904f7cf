//! Unidentified jobs: a rule began them and they have shown no token. Policies decide what they are granted,
//! which may be nothing.

use std::{sync::Arc, time::Instant};

use agent_abi::{NODE_RECORDED, RULE_NAME_BYTES, Unidentified};
use agent_core::audit::record::JobState;

use super::{
    enrolment::EnrolError,
    job::Job,
    registry::{Inner, Registry},
};
use crate::{ids::Id, kernel::exists};

impl Registry {
    /// A live job by its id. An unidentified job that the agent hasn't heard of yet is registered, and its
    /// beginning recorded.
    pub(super) fn find_or_register(&self, inner: &mut Inner, job: u64) -> Option<Arc<Job>> {
        if let Some(known) = inner.jobs.get(&job) {
            return Some(Arc::clone(known));
        }
        let begun = self.kernel.unidentified(job)?;
        let job = Arc::new(Job::new(Id(job), rule_of(&begun), None, begun.tgid, None));
        let ended = self.standings.of_unidentified(job.id);
        if let Some(reason) = &ended {
            job.end_access(reason);
        }
        let recorded = begun.flags & NODE_RECORDED != 0;
        self.record(&job, if recorded { JobState::Adopted } else { JobState::Enrolled });
        let noted = Unidentified { flags: begun.flags | NODE_RECORDED, ..begun };
        if let Err(error) = self.kernel.set_unidentified(job.id.0, noted) {
            tracing::warn!(%error, job = %job.id, "the next agent will record this job's beginning again");
        }
        inner.jobs.insert(job.id.0, Arc::clone(&job));
        if let Some(reason) = ended {
            self.standings.keep_ended(&inner.jobs, &job, &reason);
        }
        Some(job)
    }

    /// Puts a process that ran before its rule was in force into a new job without a credential.
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
        let job = self.find_or_register(&mut inner, id.0).ok_or(EnrolError::TooManyJobs(self.jobs_max))?;
        inner.members.entry(id.0).or_default().insert(pid);
        let (node, image) = self.add_node(&mut inner, id, 0, pid, uid)?;
        self.record_nodes(&mut inner, &id.to_string(), &[node])?;
        self.kernel.tag(pid, id.0, node, image)?;
        Ok(job)
    }

    /// Whether there is any unidentified job.
    pub fn knows_unidentified(&self) -> bool {
        !self.kernel.all_unidentified().is_empty()
    }

    /// Records beginning and end of unidentified jobs that came and went while events were lost. `live` tells
    /// which jobs have processes, and has to be read after `begun`. A job whose root process still exists is
    /// left: the root may be about to be tagged.
    pub(super) fn end_unseen(
        &self,
        inner: &mut Inner,
        begun: Vec<(u64, Unidentified)>,
        live: impl Fn(u64) -> bool,
    ) {
        for (job, _) in begun.into_iter().filter(|(job, begun)| !live(*job) && !exists(begun.tgid)) {
            if !inner.jobs.contains_key(&job) && self.find_or_register(inner, job).is_some() {
                self.end(inner, job);
            }
        }
    }

    /// Whether a job is unidentified.
    pub fn is_unidentified(&self, job: u64) -> bool {
        self.kernel.unidentified(job).is_some()
    }

    /// The job and the reason, if access of this unidentified job has ended.
    pub(super) fn unidentified_revoked(&self, job: u64) -> Option<(Id, String)> {
        self.standings.of_unidentified(Id(job)).map(|reason| (Id(job), reason))
    }

    /// Takes a process out of the unidentified job that it was in: it belongs to a job with a credential now.
    pub(super) fn leave_unidentified(&self, inner: &mut Inner, job: u64, pid: u32, node: u64) {
        inner.nodes.leave(node, Instant::now());
        let empty = inner.members.get_mut(&job).is_some_and(|members| {
            members.remove(&pid);
            members.is_empty()
        });
        if empty {
            self.end(inner, job);
        }
    }
}

/// The name of the rule that began an unidentified job.
pub fn rule_of(begun: &Unidentified) -> String {
    let name = begun.rule.split(|byte| *byte == 0).next().unwrap_or_default();
    String::from_utf8_lossy(name).into_owned()
}
