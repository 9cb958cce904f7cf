//! Enrolment: a process, or a tree that runs already, becomes a job under a credential.

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize},
    },
};

use agent_abi::Node;
use agent_core::{
    audit::record::{JobRecord, JobState, Record},
    credential::Credential,
    standing::{Grounds, TokenTerm},
};
use thiserror::Error;
use tokio::sync::watch;

use super::{
    Job, Registry,
    lineage::{ImageText, image_of, text_now},
    registry::Inner,
    store::KeptJob,
    tree::{Member, has_ended},
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
    /// Access of the job that it is in without a credential was ended: a token doesn't lead out of it.
    #[error("access of job {job}, which this process is in, was revoked: {reason}")]
    RevokedHere {
        /// That job.
        job: Id,
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
    /// The process has executed another program meanwhile: whose it would be on record as is not what it is.
    #[error("process {pid} executed another program while it was enrolled")]
    Changed {
        /// The process.
        pid: u32,
    },
    /// The kernel side refused.
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
    /// Puts a process into a new job. When this returns, the process is tagged and the trail says so.
    ///
    /// `alive` answers whether the process whose number this is still lives. If it ends at the last moment and another one
    /// has got its number, that one may bear its tag: it stays, and the job is granted nothing. Nobody is let go.
    pub fn enrol(&self, enrolment: Enrolment, alive: impl Fn() -> bool) -> Result<Arc<Job>, EnrolError> {
        let Enrolment { pid, uid, name, credential, netns } = enrolment;
        let gone = |source| EnrolError::Gone { pid, source };
        if !self.kernel.covers(pid).map_err(gone)? {
            return Err(EnrolError::Uncovered { pid, cgroup: self.kernel.cgroup().to_owned() });
        }
        let id = Id::random().map_err(gone)?;
        let name = name.unwrap_or_else(|| credential.subject.clone());
        let Credential { expires_unix, acts_until_unix, .. } = credential;
        let (grounds, _) = watch::channel(Grounds::of(TokenTerm { expires_unix, acts_until_unix }));
        let job = Arc::new(Job {
            id,
            name,
            credential: Some(credential.clone()),
            root_pid: pid,
            netns: netns.into(),
            sessions: AtomicUsize::new(0),
            grounds,
            shut: AtomicBool::new(false),
        });
        let mut inner = self.locked();
        // Under the lock: the process may have asked twice at once.
        let before = self.kernel.tag_of(pid);
        if let Some(tag) = before.filter(|tag| !self.is_unidentified(tag.job)) {
            return Err(EnrolError::AlreadyFollowed { job: Id(tag.job) });
        }
        if let Some((job, reason)) = before.and_then(|tag| self.revoked_here(tag.job)) {
            return Err(EnrolError::RevokedHere { job, reason });
        }
        // Those without a credential have a bound of their own.
        if inner.jobs.values().filter(|job| job.credential.is_some()).count() >= self.jobs_max {
            return Err(EnrolError::TooManyJobs(self.jobs_max));
        }
        // Registered first, then checked: a revocation from here on finds the job.
        inner.jobs.insert(id.0, Arc::clone(&job));
        inner.members.entry(id.0).or_default().insert(pid);
        let enrolled = self.announce(&mut inner, &job, &credential, uid).and_then(|(node, image)| {
            let begun = self.begin(&mut inner, &job, node, image, &alive);
            begun.inspect_err(|_| self.record(&job, JobState::Ended))
        });
        if enrolled.is_err() {
            // Tagging comes last: a process that isn't enrolled has no tag of this job's.
            self.standings.store.forget(id);
            inner.jobs.remove(&id.0);
            inner.members.remove(&id.0);
            inner.over.insert(id.0);
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
        // From the tag on the kernel side tells what it executes; what it was read to run before must have been true then.
        if !text_now(pid, uid).is_ok_and(|now| now == *recorded) {
            self.shut_off(&job, "its process executed another program while it was enrolled");
            return Err(EnrolError::Changed { pid });
        }
        Ok(job)
    }

    /// Keeps a job and puts its beginning on record; answers the ids of its root's node and image.
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
        let place = self.add_place(inner, id, 0, root_pid, uid)?;
        self.trail.append(&Record::Job(JobRecord {
            state: JobState::Enrolled,
            job: job.to_ref(&id.to_string()),
            credential: Some(credential.into()),
            root_pid,
        }))?;
        Ok(place)
    }

    /// Puts a job's root on record and tags it; answers what is on record as its program.
    fn begin(
        &self,
        inner: &mut Inner,
        job: &Job,
        node: u64,
        image: u64,
        alive: &impl Fn() -> bool,
    ) -> Result<Arc<ImageText>, EnrolError> {
        let Job { id, root_pid, .. } = *job;
        self.record_places(inner, &id.to_string(), &[node])?;
        if !alive() {
            return Err(ended(root_pid));
        }
        self.kernel.tag(root_pid, id.0, node, image)?;
        inner.places.known(node).map(|place| Arc::clone(&place.text)).ok_or_else(|| ended(root_pid))
    }

    /// Puts the rest of a stopped tree into its root's job, parents first. What is not in it when this fails is in no job.
    pub fn take_in(&self, job: &Arc<Job>, members: &[Member]) -> Result<(), EnrolError> {
        let mut inner = self.locked();
        for Member { pid, parent, uid } in members.iter().copied() {
            let of_it = |pid| self.kernel.tag_of(pid).filter(|tag| tag.job == job.id.0);
            // Whose parent was killed meanwhile stands below the root, as the eldest that is left.
            let Some(parent) = of_it(parent).or_else(|| of_it(job.root_pid)) else {
                return Err(ended(job.root_pid));
            };
            match self.kernel.covers(pid) {
                Ok(true) => {}
                // One that has ended since is not missed.
                Err(_) if has_ended(pid) => continue,
                Ok(false) => {
                    return Err(EnrolError::Uncovered { pid, cgroup: self.kernel.cgroup().to_owned() });
                }
                Err(source) => return Err(EnrolError::Gone { pid, source }),
            }
            let before = self.kernel.tag_of(pid);
            // Under the lock: it may have shown a token of its own meanwhile.
            if before
                .is_some_and(|tag| !self.is_unidentified(tag.job) || self.revoked_here(tag.job).is_some())
            {
                continue;
            }
            let (node, image) = match self.add_place(&mut inner, job.id, parent.node, pid, uid) {
                Err(EnrolError::Gone { .. }) if has_ended(pid) => continue,
                placed => placed?,
            };
            self.record_places(&mut inner, &job.id.to_string(), &[node])?;
            inner.members.entry(job.id.0).or_default().insert(pid);
            self.kernel.tag(pid, job.id.0, node, image)?;
            if let Some(before) = before {
                self.leave_unidentified(&mut inner, before.job, pid, before.node);
            }
        }
        Ok(())
    }

    /// Lets every process of a job go that is not to be one: while all of them are held still, and if none of them was
    /// followed before.
    pub fn abandon(&self, job: &Arc<Job>) {
        let mut inner = self.locked();
        for pid in inner.members.remove(&job.id.0).unwrap_or_default() {
            if self.kernel.tag_of(pid).is_some_and(|tag| tag.job == job.id.0) {
                self.kernel.untag(pid);
            }
        }
        self.end(&mut inner, job.id.0);
    }

    /// Makes a process's node and its place below its parent's; answers the node's and the image's ids.
    pub(super) fn add_place(
        &self,
        inner: &mut Inner,
        job: Id,
        parent: u64,
        pid: u32,
        uid: u32,
    ) -> Result<(u64, u64), EnrolError> {
        let read = image_of(pid, uid).map_err(|source| EnrolError::Gone { pid, source })?;
        let (node, image) = (self.kernel.next_id(), self.kernel.next_id());
        self.kernel.add_image(image, &read)?;
        let made = Node { job: job.0, parent, image, tgid: pid, uid, flags: 0, reserved: 0 };
        self.kernel.add_node(node, made)?;
        inner.places.get(&self.kernel, node);
        Ok((node, image))
    }
}

fn ended(pid: u32) -> EnrolError {
    EnrolError::Gone { pid, source: std::io::Error::other("it ended while it was enrolled") }
}
