//! Enrolment: makes a process, or a tree that runs already, a job under a credential.

use std::{path::PathBuf, sync::Arc};

use agent_abi::{Node, TaskTag};
use agent_core::{
    audit::record::{JobRecord, JobState, Record},
    credential::Credential,
};
use thiserror::Error;

use super::{
    image::{ImageText, image_of_process},
    job::Job,
    processes::has_ended,
    registry::{Inner, Registry},
    store::KeptJob,
    tree::Member,
};
use crate::{
    audit::AuditError,
    bounds::{Bound, Bounded},
    ids::Id,
    kernel::KernelError,
};

/// A request to put a process into a new job.
pub struct Enrolment {
    /// The process.
    pub pid: u32,
    /// Its user id.
    pub uid: u32,
    /// The name that its starter gave the job; the credential's subject unless given.
    pub name: Option<String>,
    /// Who it acts for. The credential is verified.
    pub credential: Credential,
    /// Cookie of its network namespace, in which the agent listens already.
    pub netns: u64,
}

/// Why a process isn't enrolled.
#[derive(Debug, Error)]
pub enum EnrolError {
    /// The process is in a job with a credential, and can't change it. From a job without one a process may
    /// enrol.
    #[error("this process already belongs to job {job}: a job cannot enrol again under another credential")]
    AlreadyFollowed {
        /// Its job.
        job: Id,
    },
    /// Access of the credential was ended.
    #[error("access of {subject} was revoked: {reason}")]
    Revoked {
        /// The credential's subject.
        subject: String,
        /// The reason that was given for it.
        reason: String,
    },
    /// Access of the job that the process is in without a credential was ended. A token doesn't lead out of
    /// such a job.
    #[error("access of job {job}, which this process is in, was revoked: {reason}")]
    JobRevoked {
        /// The job.
        job: Id,
        /// The reason that was given for it.
        reason: String,
    },
    /// As many jobs with a credential are live as may be.
    #[error(
        "{0} jobs are followed on this host already, and limits.jobs_max allows no more: \
         wait until some have ended, or raise it"
    )]
    TooManyJobs(usize),
    /// The process is outside the cgroup that the programs are attached to.
    #[error(
        "process {pid} is outside {cgroup} (kernel.cgroup), where this agent's programs are attached: \
         no program would see its connections"
    )]
    Uncovered {
        /// The process.
        pid: u32,
        /// The cgroup.
        cgroup: PathBuf,
    },
    /// The process has ended, or can't be read.
    #[error("process {pid} cannot be read: {source}")]
    Gone {
        /// The process.
        pid: u32,
        /// What the system said.
        source: std::io::Error,
    },
    /// The process has executed another program meanwhile: the recorded executable would not be the one
    /// running.
    #[error("process {pid} executed another program while it was enrolled: its job is shut off")]
    Changed {
        /// The process.
        pid: u32,
    },
    /// The kernel side can't take it.
    #[error(transparent)]
    Kernel(#[from] KernelError),
    /// The job can't be kept for a later agent, so it doesn't begin.
    #[error("the job cannot be kept in the state directory: {0}")]
    Store(std::io::Error),
    /// The enrolment can't be recorded, so it doesn't happen.
    #[error("the enrolment cannot be recorded: {0}")]
    Audit(#[from] AuditError),
}

impl Bounded for EnrolError {
    fn bound(&self) -> Option<Bound> {
        match self {
            Self::TooManyJobs(_) => Some(Bound::Jobs),
            Self::Kernel(error) => error.bound(),
            _ => None,
        }
    }
}

impl Registry {
    /// Puts a process into a new job. When this returns the job, the process is tagged and the trail says so.
    ///
    /// `alive` tells whether the process to enrol still lives. If it ends at the last moment and its PID
    /// passes to another process, that process may get the tag. The tag then stays and the job is shut off:
    /// untagging could free a process that has to be followed. After [`EnrolError::Changed`] it is the same.
    pub fn enrol(&self, enrolment: Enrolment, alive: impl Fn() -> bool) -> Result<Arc<Job>, EnrolError> {
        let Enrolment { pid, uid, name, credential, netns } = enrolment;
        let gone = |source| EnrolError::Gone { pid, source };
        if !self.kernel.covers(pid).map_err(gone)? {
            return Err(EnrolError::Uncovered { pid, cgroup: self.kernel.cgroup().to_owned() });
        }
        let id = Id::random().map_err(gone)?;
        let name = name.unwrap_or_else(|| credential.subject.clone());
        let job = Arc::new(Job::new(id, name, Some(credential.clone()), pid, Some(netns)));
        let mut inner = self.locked();
        // Under the lock: two requests may enrol this process at once.
        let before = self.kernel.tag_of(pid);
        self.admit(&inner, before)?;
        // Registered first, then checked: from here on a revocation finds the job.
        inner.jobs.insert(id.0, Arc::clone(&job));
        inner.members.entry(id.0).or_default().insert(pid);
        let enrolled = self.announce(&mut inner, &job, &credential, uid).and_then(|(node, image)| {
            let begun = self.begin(&mut inner, &job, node, image, &alive);
            begun.inspect_err(|_| self.record(&job, JobState::Ended))
        });
        if enrolled.is_err() {
            // Tagging comes last, so the process has no tag of this job.
            self.standings.store.forget(id);
            inner.jobs.remove(&id.0);
            inner.members.remove(&id.0);
            inner.ended.insert(id.0);
        }
        let recorded = enrolled?;
        if let Some(before) = before {
            self.leave_unidentified(&mut inner, before.job, pid, before.node);
        }
        drop(inner);
        if !alive() {
            self.shut_off(&job, "its process ended while it was enrolled");
            return Err(ended(pid));
        }
        // The kernel side records what the process executes once it is tagged. What was read from /proc
        // before must still have been true at that moment.
        if !ImageText::of_process(pid, uid).is_ok_and(|now| now == *recorded) {
            self.shut_off(&job, "its process executed another program while it was enrolled");
            return Err(EnrolError::Changed { pid });
        }
        Ok(job)
    }

    /// Whether a process with this tag, or with none, may begin another job.
    fn admit(&self, inner: &Inner, tag: Option<TaskTag>) -> Result<(), EnrolError> {
        if let Some(tag) = tag.filter(|tag| !self.is_unidentified(tag.job)) {
            return Err(EnrolError::AlreadyFollowed { job: Id(tag.job) });
        }
        if let Some((job, reason)) = tag.and_then(|tag| self.unidentified_revoked(tag.job)) {
            return Err(EnrolError::JobRevoked { job, reason });
        }
        // Jobs without a credential have a bound of their own.
        if inner.jobs.values().filter(|job| job.credential.is_some()).count() >= self.jobs_max {
            return Err(EnrolError::TooManyJobs(self.jobs_max));
        }
        Ok(())
    }

    /// Keeps a job on disk, makes its root's node and image, and records its beginning; returns the ids of
    /// both. Nothing of this is done for a revoked credential.
    fn announce(
        &self,
        inner: &mut Inner,
        job: &Job,
        credential: &Credential,
        uid: u32,
    ) -> Result<(u64, u64), EnrolError> {
        if let Some(reason) = self.standings.objection(credential) {
            return Err(EnrolError::Revoked { subject: credential.subject.clone(), reason });
        }
        let Job { id, root_pid, .. } = *job;
        self.standings.store.keep(&KeptJob::of(job, credential)).map_err(EnrolError::Store)?;
        let ids = self.add_node(inner, id, 0, root_pid, uid)?;
        self.trail.append(&Record::Job(JobRecord {
            state: JobState::Enrolled,
            job: job.to_ref(&id.to_string()),
            credential: Some(credential.into()),
            root_pid,
        }))?;
        Ok(ids)
    }

    /// Records a job's root process and tags it; returns the image that the trail has for it.
    fn begin(
        &self,
        inner: &mut Inner,
        job: &Job,
        node: u64,
        image: u64,
        alive: &impl Fn() -> bool,
    ) -> Result<Arc<ImageText>, EnrolError> {
        let Job { id, root_pid, .. } = *job;
        self.record_nodes(inner, &id.to_string(), &[node])?;
        if !alive() {
            return Err(ended(root_pid));
        }
        self.kernel.tag(root_pid, id.0, node, image)?;
        inner.nodes.known(node).map(|node| Arc::clone(&node.text)).ok_or_else(|| ended(root_pid))
    }

    /// Puts more processes of a stopped tree into its root's job, parents first. Left out are processes that
    /// have ended, that have joined another job with a credential, or whose job without one was revoked. If
    /// this fails, the remaining processes are not in the root's job.
    pub fn take_in(&self, job: &Arc<Job>, members: &[Member]) -> Result<(), EnrolError> {
        let mut inner = self.locked();
        for Member { pid, parent, uid } in members.iter().copied() {
            let in_job = |pid| self.kernel.tag_of(pid).filter(|tag| tag.job == job.id.0);
            // A process whose parent was killed meanwhile becomes a child of the root in the lineage.
            let Some(parent) = in_job(parent).or_else(|| in_job(job.root_pid)) else {
                return Err(ended(job.root_pid));
            };
            match self.kernel.covers(pid) {
                Ok(true) => {}
                // A process that has ended meanwhile is left out.
                Err(_) if has_ended(pid) => continue,
                Ok(false) => {
                    return Err(EnrolError::Uncovered { pid, cgroup: self.kernel.cgroup().to_owned() });
                }
                Err(source) => return Err(EnrolError::Gone { pid, source }),
            }
            let before = self.kernel.tag_of(pid);
            // Under the lock: the process may have shown a token of its own meanwhile.
            if before.is_some_and(|tag| {
                !self.is_unidentified(tag.job) || self.unidentified_revoked(tag.job).is_some()
            }) {
                continue;
            }
            let (node, image) = match self.add_node(&mut inner, job.id, parent.node, pid, uid) {
                Err(EnrolError::Gone { .. }) if has_ended(pid) => continue,
                added => added?,
            };
            self.record_nodes(&mut inner, &job.id.to_string(), &[node])?;
            inner.members.entry(job.id.0).or_default().insert(pid);
            self.kernel.tag(pid, job.id.0, node, image)?;
            if let Some(before) = before {
                self.leave_unidentified(&mut inner, before.job, pid, before.node);
            }
        }
        Ok(())
    }

    /// Untags every process of a job whose enrolment failed. To be called only while all these processes are
    /// stopped, and only if none of them was followed before.
    pub fn abandon(&self, job: &Arc<Job>) {
        let mut inner = self.locked();
        for pid in inner.members.remove(&job.id.0).unwrap_or_default() {
            if self.kernel.tag_of(pid).is_some_and(|tag| tag.job == job.id.0) {
                self.kernel.untag(pid);
            }
        }
        self.end(&mut inner, job.id.0);
    }

    /// Makes a node and an image for a process that runs already; returns the ids of both. `parent` is the
    /// node of its parent, or 0 for a job's root.
    pub(super) fn add_node(
        &self,
        inner: &mut Inner,
        job: Id,
        parent: u64,
        pid: u32,
        uid: u32,
    ) -> Result<(u64, u64), EnrolError> {
        let read = image_of_process(pid, uid).map_err(|source| EnrolError::Gone { pid, source })?;
        let (node, image) = (self.kernel.next_id(), self.kernel.next_id());
        self.kernel.add_image(image, &read)?;
        let made = Node { job: job.0, parent, image, tgid: pid, uid, flags: 0, reserved: 0 };
        self.kernel.add_node(node, made)?;
        inner.nodes.get(&self.kernel, node);
        Ok((node, image))
    }
}

/// The process has ended at a bad moment.
fn ended(pid: u32) -> EnrolError {
    EnrolError::Gone { pid, source: std::io::Error::other("it ended while it was enrolled") }
}
