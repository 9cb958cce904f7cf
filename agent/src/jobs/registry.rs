//! Live jobs: enrolment, attribution, revocation, end.
//!
//! Order matters at two places. Enrolment tags the process before it answers, and the process starts its
//! program only after the answer. A session subscribes to its job's standing before it asks for it, so
//! that a revocation in between is seen by one or the other.

use std::{
    collections::{HashMap, HashSet},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Instant,
};

use agent_abi::{Event, EventKind, Flow, Node, TaskTag};
use agent_core::{
    audit::record::{JobRecord, JobRef, JobState, ProcessRecord, Record, RevocationRecord, Texts},
    credential::Credential,
    lineage::Lineage,
    standing::{Grounds, Standing, TokenTerm},
};
use thiserror::Error;
use tokio::sync::watch;

use super::{
    Unattributable,
    kill::kill_in_background,
    lineage::{NewPlace, Places, split_argv},
    revocations::{Listed, Revocation, RevocationError, RevocationStore, Selector},
};
use crate::{
    audit::{AuditError, Trail},
    clock::unix_now,
    ids::Id,
    kernel::{Kernel, KernelError},
};

/// What the registry is made of.
pub struct RegistryConfig {
    /// The kernel side.
    pub kernel: Arc<Kernel>,
    /// The trail.
    pub trail: Arc<Trail>,
    /// Kept revocations.
    pub revocations: RevocationStore,
    /// Live jobs at once.
    pub jobs_max: usize,
    /// Whether the processes of a job whose access ends are killed.
    pub kill_revoked: bool,
}

/// One enrolment of a root process under a credential.
pub struct Job {
    /// Its id.
    pub id: Id,
    /// The name its starter gave it.
    pub name: String,
    /// Who it acts for.
    pub credential: Credential,
    /// Host PID of its root.
    pub root_pid: u32,
    /// Cookie of the network namespace its root was in.
    pub netns: u64,
    /// Open sessions.
    pub sessions: AtomicUsize,
    grounds: watch::Sender<Grounds>,
}

impl Job {
    /// Follows what the job's standing rests on; subscribe before asking for its present value.
    pub fn grounds(&self) -> watch::Receiver<Grounds> {
        self.grounds.subscribe()
    }

    /// Its standing now.
    pub fn standing(&self) -> Standing {
        self.grounds.borrow().at(unix_now())
    }

    /// The job as `lineal jobs --json` shows it.
    pub fn to_json(&self, processes: usize) -> serde_json::Value {
        let Credential { issuer, subject, groups, claims, expires_unix: _, acts_until_unix: _ } =
            &self.credential;
        serde_json::json!({
            "id": self.id.to_string(),
            "name": self.name,
            "state": self.standing().word(),
            "credential": { "issuer": issuer, "subject": subject, "groups": groups, "claims": claims },
            "root_pid": self.root_pid,
            "processes": processes,
            "flows": self.sessions.load(Ordering::Acquire),
        })
    }

    /// The job as the trail names it.
    pub fn to_ref<'a>(&'a self, id: &'a str) -> JobRef<'a> {
        JobRef { id, name: &self.name }
    }
}

/// A place among a job's open sessions: while there is one, the job is known, and revocations find it.
pub struct Place {
    job: Arc<Job>,
    /// How many there were before it.
    pub before: usize,
}

impl Place {
    fn take(job: &Arc<Job>) -> Self {
        let before = job.sessions.fetch_add(1, Ordering::AcqRel);
        Self { job: Arc::clone(job), before }
    }

    /// The job.
    pub fn job(&self) -> &Arc<Job> {
        &self.job
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.job.sessions.fetch_sub(1, Ordering::AcqRel);
    }
}

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

struct Inner {
    jobs: HashMap<u64, Arc<Job>>,
    places: Places,
    /// Live processes by job.
    members: HashMap<u64, HashSet<u32>>,
}

/// Everything that is followed on this host.
pub struct Registry {
    kernel: Arc<Kernel>,
    trail: Arc<Trail>,
    revocations: RevocationStore,
    jobs_max: usize,
    kill_revoked: bool,
    inner: Mutex<Inner>,
}

impl Registry {
    /// An empty registry.
    pub fn new(config: RegistryConfig) -> Self {
        let RegistryConfig { kernel, trail, revocations, jobs_max, kill_revoked } = config;
        let inner = Inner { jobs: HashMap::new(), places: Places::default(), members: HashMap::new() };
        Self { kernel, trail, revocations, jobs_max, kill_revoked, inner: Mutex::new(inner) }
    }

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
        let place = NewPlace { job: id.0, pid, uid, exe: exe.to_string_lossy().into_owned(), argv };
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
        let (node, image, pid) = (self.kernel.next_id(), self.kernel.next_id(), place.pid);
        let root = Node { job: job.id.0, parent: 0, image, tgid: pid, uid: place.uid };
        self.kernel.add_node(node, root)?;
        inner.places.add_root(node, place, image);
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

    /// Takes in one event of the kernel side.
    pub fn on_event(&self, event: &Event, now: Instant) {
        let mut inner = self.locked();
        if event.kind == EventKind::Fork as u32 {
            inner.members.entry(event.job).or_default().insert(event.tgid);
            inner.places.get(&self.kernel, event.node);
        } else if event.kind == EventKind::Exec as u32 {
            let inner = &mut *inner;
            inner.places.get(&self.kernel, event.node);
            inner.places.leave(event.detail, now);
            if let Some(job) = inner.jobs.get(&event.job).map(|job| job.id.to_string())
                && inner.places.is_unrecorded(event.node)
                && let Err(error) = self.record_places(inner, &job, &[event.node])
            {
                // The place is written with the first session that needs it, or that session is denied.
                tracing::error!(%error, job, pid = event.tgid, "an exec could not be recorded");
            }
        } else if event.kind == EventKind::Exit as u32 {
            inner.places.leave(event.node, now);
            let empty = inner.members.get_mut(&event.job).is_some_and(|members| {
                members.remove(&event.tgid);
                members.is_empty()
            });
            if empty {
                self.end(&mut inner, event.job);
            }
        }
    }

    /// Compares what is known with the kernel side's maps, which are the truth: ends what lost events would
    /// have ended, finds what they would have told, and lets go of what nothing needs any more.
    ///
    /// After lost events (`lost`) it also reads the nodes of processes that came and went unseen.
    pub fn reconcile(&self, now: Instant, lost: bool) {
        let mut inner = self.locked();
        // Nodes before tasks: a process that forks in between is found among the tasks.
        let unseen = if lost { self.kernel.node_ids() } else { Vec::new() };
        let tasks = self.kernel.tasks();
        for node in unseen {
            inner.places.get(&self.kernel, node);
        }
        let live: HashSet<u64> = tasks.iter().map(|(_, tag)| tag.node).collect();
        let mut members: HashMap<u64, HashSet<u32>> = HashMap::new();
        for (tgid, tag) in &tasks {
            members.entry(tag.job).or_default().insert(*tgid);
            inner.places.get(&self.kernel, tag.node);
        }
        let ended: Vec<u64> = inner.jobs.keys().filter(|job| !members.contains_key(job)).copied().collect();
        inner.members = members;
        inner.places.reconcile(&live, now);
        for job in ended {
            self.end(&mut inner, job);
        }
        inner.places.prune(&self.kernel, now);
    }

    /// Ends a job whose last process is gone. Its open sessions end by themselves: their sockets are closed.
    fn end(&self, inner: &mut Inner, job: u64) {
        inner.members.remove(&job);
        let Some(job) = inner.jobs.get(&job).cloned() else { return };
        // A job that still has sessions keeps its entry: their connections may wait to be accepted.
        if job.sessions.load(Ordering::Acquire) > 0 {
            return;
        }
        inner.jobs.remove(&job.id.0);
        let id = job.id.to_string();
        let record = Record::Job(JobRecord {
            state: JobState::Ended,
            job: job.to_ref(&id),
            credential: Some((&job.credential).into()),
            root_pid: job.root_pid,
        });
        if let Err(error) = self.trail.append(&record) {
            tracing::error!(%error, job = id, "the end of a job could not be recorded");
        }
    }

    /// Who opened a redirected connection, and its place among the job's sessions. The trail holds every process of the
    /// answer when this returns.
    pub fn attribute(&self, flow: &Flow) -> Result<(Place, Lineage), AttributionError> {
        let mut inner = self.locked();
        let inner = &mut *inner;
        let job = inner
            .jobs
            .get(&flow.job)
            .cloned()
            .ok_or(AttributionError::Lineage(Unattributable::NoJob { pid: flow.tgid }))?;
        let (lineage, unrecorded) = inner
            .places
            .trace(&self.kernel, flow.job, flow.node, flow.tgid, flow.uid)
            .map_err(AttributionError::Lineage)?;
        self.record_places(inner, &job.id.to_string(), &unrecorded)?;
        // Under the lock: a job that ends now is not ended any more.
        Ok((Place::take(&job), lineage))
    }

    fn record_places(&self, inner: &mut Inner, job: &str, nodes: &[u64]) -> Result<(), AuditError> {
        for node in nodes {
            let Some(place) = inner.places.known(*node) else { continue };
            self.trail.append(&Record::Process(ProcessRecord {
                process: *node,
                job,
                pid: place.pid,
                exe: &place.text.exe,
                argv: &place.text.argv,
                cwd: &place.cwd,
                uid: place.uid,
                container: &place.container,
                parent: (place.parent != 0).then_some(place.parent),
            }))?;
            inner.places.mark_recorded(*node);
        }
        Ok(())
    }

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
        let meant = self.end_access(&revocation.selector, &revocation.reason);
        let meant: Vec<Id> = meant.into_iter().map(|(job, _)| job).collect();
        // Also those to whom it was no news.
        for job in meant.iter().filter(|_| kill && !self.kill_revoked) {
            kill_in_background(Arc::clone(&self.kernel), *job);
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
        // All of it before anything is recorded: a slow disk keeps nobody's access alive.
        let ended: Vec<Vec<(Id, bool)>> =
            listed.iter().map(|entry| self.end_access(&entry.selector, &entry.reason)).collect();
        for (entry, meant) in listed.iter().zip(ended) {
            let meant: Vec<Id> = meant.into_iter().filter(|(_, news)| *news).map(|(job, _)| job).collect();
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
    fn end_access(&self, selector: &Selector, reason: &str) -> Vec<(Id, bool)> {
        let reason: Arc<str> = reason.into();
        let meant: Vec<Arc<Job>> = {
            let inner = self.locked();
            let meant = inner.jobs.values().filter(|job| selector.matches(Some(job.id), &job.credential));
            meant.cloned().collect()
        };
        let tell = |job: &Arc<Job>| {
            let news = job.grounds.send_if_modified(|grounds| grounds.revoke(&reason));
            if news && self.kill_revoked {
                kill_in_background(Arc::clone(&self.kernel), job.id);
            }
            (job.id, news)
        };
        meant.iter().map(tell).collect()
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

    /// Live jobs with the number of their live processes, oldest id first.
    pub fn list(&self) -> Vec<(Arc<Job>, usize)> {
        let inner = self.locked();
        let mut jobs: Vec<_> = inner
            .jobs
            .values()
            .map(|job| (Arc::clone(job), inner.members.get(&job.id.0).map_or(0, HashSet::len)))
            .collect();
        jobs.sort_by_key(|(job, _)| job.id.0);
        jobs
    }

    /// Live jobs, live processes and kept lineage places.
    pub fn sizes(&self) -> (usize, usize, usize) {
        let inner = self.locked();
        (inner.jobs.len(), inner.members.values().map(HashSet::len).sum(), inner.places.len())
    }

    /// Nothing in here can be half-done in a way that grants: a panic elsewhere must not stop the agent.
    fn locked(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Why a connection isn't attributed.
#[derive(Debug, Error)]
pub enum AttributionError {
    /// The chain can't be followed to the root.
    #[error(transparent)]
    Lineage(Unattributable),
    /// The chain can't be recorded.
    #[error("the lineage cannot be recorded: {0}")]
    Audit(#[from] AuditError),
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
