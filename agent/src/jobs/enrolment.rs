//! Enrolment: a process, or a tree that runs already, becomes a job under a credential.

use std::{
    path::PathBuf,
    sync::{Arc, atomic::AtomicUsize},
};

use agent_abi::{Node, TaskTag};
use agent_core::{
    audit::record::{JobRecord, JobState, Record},
    credential::Credential,
    standing::{Grounds, TokenTerm},
};
use thiserror::Error;
use tokio::sync::watch;

use super::{
    Job, Registry,
    lineage::{NewPlace, split_argv},
    registry::Inner,
    tree::Member,
};
use crate::{audit::AuditError, ids::Id, kernel::KernelError};

/// A request to put a process into a new job.
pub struct Enrolment {
    /// The process.
    pub pid: u32,
    /// Its user id.
    pub uid: u32,
    /// The name its starter gave the job.
    pub name: Option<String>,
    /// Who it acts for: verified.
    pub credential: Credential,
    /// Cookie of its network namespace, which is served already.
    pub netns: u64,
}

/// Why a process isn't enrolled.
#[derive(Debug, Error)]
pub enum EnrolError {
    /// A followed process can't change its credential.
    #[error("this process already belongs to job {job}: a job can't enrol again under another credential")]
    AlreadyFollowed {
        /// Its job.
        job: Id,
    },
    /// The credential's access was ended.
    #[error("access of {subject} was revoked: {reason}")]
    Revoked {
        /// The credential's subject.
        subject: String,
        /// What the operator said.
        reason: String,
    },
    /// Too many jobs.
    #[error("{0} jobs are followed on this host already (limits.jobs_max)")]
    TooManyJobs(usize),
    /// The process stands outside the cgroup that the agent watches.
    #[error("process {pid} is outside {cgroup}, where this agent's programs are attached")]
    Uncovered {
        /// The process.
        pid: u32,
        /// The cgroup.
        cgroup: PathBuf,
    },
    /// The process has gone.
    #[error("process {pid} cannot be read: {source}")]
    Gone {
        /// The process.
        pid: u32,
        /// What the system said.
        source: std::io::Error,
    },
    /// The kernel side refused.
    #[error(transparent)]
    Kernel(#[from] KernelError),
    /// The enrolment can't be recorded, so it doesn't happen.
    #[error("the enrolment cannot be recorded: {0}")]
    Audit(#[from] AuditError),
}

impl Registry {
    /// Puts a process into a new job. When this returns, the process is tagged and the trail says so.
    pub fn enrol(&self, enrolment: Enrolment) -> Result<Arc<Job>, EnrolError> {
        let Enrolment { pid, uid, name, credential, netns } = enrolment;
        let gone = |source| EnrolError::Gone { pid, source };
        if let Some(tag) = self.kernel.tag_of(pid) {
            return Err(EnrolError::AlreadyFollowed { job: Id(tag.job) });
        }
        if !self.kernel.covers(pid).map_err(gone)? {
            return Err(EnrolError::Uncovered { pid, cgroup: self.kernel.cgroup().to_owned() });
        }
        let id = Id::random().map_err(gone)?;
        let exe = std::fs::read_link(format!("/proc/{pid}/exe")).map_err(gone)?;
        let argv = split_argv(&std::fs::read(format!("/proc/{pid}/cmdline")).map_err(gone)?);
        let place =
            NewPlace { job: id.0, parent: 0, pid, uid, exe: exe.to_string_lossy().into_owned(), argv };
        let name = name.unwrap_or_else(|| credential.subject.clone());
        let Credential { expires_unix, acts_until_unix, .. } = credential;
        let (grounds, _) = watch::channel(Grounds::of(TokenTerm { expires_unix, acts_until_unix }));
        let job = Arc::new(Job {
            id,
            name,
            credential,
            root_pid: pid,
            netns,
            sessions: AtomicUsize::new(0),
            grounds,
        });
        let mut inner = self.locked();
        // Asked again under the lock: the process may have asked twice at once.
        if let Some(tag) = self.kernel.tag_of(pid) {
            return Err(EnrolError::AlreadyFollowed { job: Id(tag.job) });
        }
        if inner.jobs.len() >= self.jobs_max {
            return Err(EnrolError::TooManyJobs(self.jobs_max));
        }
        // Registered first, then checked: a revocation from here on finds the job.
        inner.jobs.insert(id.0, Arc::clone(&job));
        inner.members.entry(id.0).or_default().insert(pid);
        let enrolled = self.complete(&mut inner, &job, place);
        if enrolled.is_err() {
            // Tagging comes last: a process that isn't enrolled has no tag of this job's.
            inner.jobs.remove(&id.0);
            inner.members.remove(&id.0);
        }
        enrolled.map(|()| job)
    }

    fn complete(&self, inner: &mut Inner, job: &Arc<Job>, place: NewPlace) -> Result<(), EnrolError> {
        if let Some(reason) = self.revocations.find(None, &job.credential) {
            return Err(EnrolError::Revoked { subject: job.credential.subject.clone(), reason });
        }
        let pid = place.pid;
        let (node, image) = self.add_place(inner, place)?;
        let id = job.id.to_string();
        self.trail.append(&Record::Job(JobRecord {
            state: JobState::Enrolled,
            job: job.to_ref(&id),
            credential: Some((&job.credential).into()),
            root_pid: pid,
        }))?;
        self.record_places(inner, &id, &[node])?;
        self.kernel.tag(pid, TaskTag { job: job.id.0, node, image })?;
        Ok(())
    }

    /// Puts the rest of a stopped tree into its root's job, parents first. What is not in it when this fails is in no job.
    pub fn take_in(&self, job: &Arc<Job>, members: &[Member]) -> Result<(), EnrolError> {
        let mut inner = self.locked();
        for member in members {
            let pid = member.pid;
            let gone = |source| EnrolError::Gone { pid, source };
            // One that has ended since is not missed.
            let Ok(exe) = std::fs::read_link(format!("/proc/{pid}/exe")) else { continue };
            let argv = split_argv(&std::fs::read(format!("/proc/{pid}/cmdline")).map_err(gone)?);
            let Some(parent) = self.kernel.tag_of(member.parent).filter(|tag| tag.job == job.id.0) else {
                continue;
            };
            if !self.kernel.covers(pid).map_err(gone)? {
                return Err(EnrolError::Uncovered { pid, cgroup: self.kernel.cgroup().to_owned() });
            }
            let exe = exe.to_string_lossy().into_owned();
            let place = NewPlace { job: job.id.0, parent: parent.node, pid, uid: member.uid, exe, argv };
            let (node, image) = self.add_place(&mut inner, place)?;
            self.record_places(&mut inner, &job.id.to_string(), &[node])?;
            inner.members.entry(job.id.0).or_default().insert(pid);
            self.kernel.tag(pid, TaskTag { job: job.id.0, node, image })?;
        }
        Ok(())
    }

    /// Lets every process of a job go that is not to be one: while all of them are held still.
    pub fn abandon(&self, job: &Arc<Job>) {
        let mut inner = self.locked();
        for pid in inner.members.remove(&job.id.0).unwrap_or_default() {
            self.kernel.untag(pid);
        }
        self.end(&mut inner, job.id.0);
    }

    /// Makes a process's node and its place; answers the node's and the image's ids.
    fn add_place(&self, inner: &mut Inner, place: NewPlace) -> Result<(u64, u64), EnrolError> {
        let (node, image) = (self.kernel.next_id(), self.kernel.next_id());
        let NewPlace { job, parent, pid, uid, .. } = place;
        self.kernel.add_node(node, Node { job, parent, image, tgid: pid, uid })?;
        inner.places.add(node, place, image);
        Ok((node, image))
    }
}
