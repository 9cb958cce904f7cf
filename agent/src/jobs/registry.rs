//! Live jobs: enrolment, attribution, revocation, end.
//!
//! Order matters at two places. Enrolment tags the process before it answers, and the process starts its
//! program only after the answer. A session subscribes to its job's standing before it asks for it, so
//! that a revocation in between is seen by one or the other.

use std::{
    collections::{HashMap, HashSet},
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Instant,
};

use agent_abi::{Event, EventKind, Flow};
use agent_core::{
    audit::record::{JobRef, JobState, ProcessRecord, Record},
    credential::Credential,
    lineage::Lineage,
    standing::{Grounds, Standing},
};
use thiserror::Error;
use tokio::sync::watch;

use super::{
    Unattributable,
    lineage::Places,
    revocations::RevocationStore,
    standings::{Live, Standings},
    store::JobStore,
};
use crate::{
    audit::{AuditError, Trail},
    clock::unix_now,
    ids::Id,
    kernel::Kernel,
};

/// Nodes that are read under one lock when many went unheard of: sessions wait for it, too.
const UNSEEN_AT_ONCE: usize = 256;

/// What the registry is made of.
pub struct RegistryConfig {
    /// The kernel side.
    pub kernel: Arc<Kernel>,
    /// The trail.
    pub trail: Arc<Trail>,
    /// Kept revocations.
    pub revocations: RevocationStore,
    /// Kept jobs.
    pub store: JobStore,
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
    /// Who it acts for; none of a job that a rule began and that has shown no token: its name is the rule's.
    pub credential: Option<Credential>,
    /// Host PID of its root.
    pub root_pid: u32,
    /// Cookie of the network namespace it is served in: its root's. Not known of a job that a rule began, and whose root
    /// ended before it was heard of, until a process of it is found.
    pub netns: OnceLock<u64>,
    /// Open sessions.
    pub sessions: AtomicUsize,
    pub(super) grounds: watch::Sender<Grounds>,
    /// The kernel side knows that it may begin nothing any more.
    pub(super) shut: AtomicBool,
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

    /// Has the kernel side shut it off, too, once: what that decides by itself asks nobody.
    pub(super) fn shut_off(&self, kernel: &Kernel) {
        if !self.shut.load(Ordering::Acquire) && kernel.shut_off(self.id.0) {
            self.shut.store(true, Ordering::Release);
        }
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

pub(super) struct Inner {
    pub(super) jobs: Live,
    pub(super) places: Places,
    /// Live processes by job.
    pub(super) members: HashMap<u64, HashSet<u32>>,
    /// Jobs of which the last look found no process, and that nothing has been heard of since.
    missing: HashSet<u64>,
    /// Jobs that have ended or never began, and of which places are kept yet.
    pub(super) over: HashSet<u64>,
    /// Lost events that have been made up for.
    events_lost: u64,
}

/// Everything that is followed on this host.
pub struct Registry {
    pub(super) kernel: Arc<Kernel>,
    pub(super) trail: Arc<Trail>,
    pub(super) standings: Standings,
    pub(super) jobs_max: usize,
    pub(super) kill_revoked: bool,
    inner: Mutex<Inner>,
}

impl Registry {
    /// An empty registry.
    pub fn new(config: RegistryConfig) -> Self {
        let RegistryConfig { kernel, trail, revocations, store, jobs_max, kill_revoked } = config;
        let standings = Standings { revocations, store };
        let inner = Inner {
            jobs: HashMap::new(),
            places: Places::default(),
            members: HashMap::new(),
            missing: HashSet::new(),
            over: HashSet::new(),
            events_lost: kernel.statistics().events_lost,
        };
        Self { kernel, trail, standings, jobs_max, kill_revoked, inner: Mutex::new(inner) }
    }

    /// Takes in one event of the kernel side.
    pub fn on_event(&self, event: &Event, now: Instant) {
        let mut inner = self.locked();
        if event.kind != EventKind::Exit as u32 {
            inner.missing.remove(&event.job);
        }
        if event.kind == EventKind::Enrol as u32 {
            inner.members.entry(event.job).or_default().insert(event.tgid);
            inner.places.get(&self.kernel, event.node);
            self.meet(&mut inner, event.job);
        } else if event.kind == EventKind::Fork as u32 {
            inner.members.entry(event.job).or_default().insert(event.tgid);
            inner.places.get(&self.kernel, event.node);
        } else if event.kind == EventKind::Exec as u32 {
            let inner = &mut *inner;
            // A look at the map may have missed it: its entry is written anew.
            inner.members.entry(event.job).or_default().insert(event.tgid);
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
            // Who has heard everything knows that nobody is left. Otherwise the maps are asked, by and by.
            if empty && self.kernel.statistics().events_lost == inner.events_lost {
                self.end(&mut inner, event.job);
            }
        }
    }

    /// Compares what is known with the kernel side's maps, which are the truth: ends what lost events would
    /// have ended, finds what they would have told, and lets go of what nothing needs any more.
    ///
    /// After lost events it also reads the nodes of processes that came and went unseen, and jobs that did; `all` does so
    /// anyway. Answers how many events were lost since the last time.
    pub fn reconcile(&self, now: Instant, all: bool) -> u64 {
        let events_lost = self.kernel.statistics().events_lost;
        let lost = events_lost.saturating_sub(self.locked().events_lost);
        let all = all || lost > 0;
        // All else before tasks: what begins in between is found among the tasks.
        let held = if all { self.kernel.jobs() } else { HashSet::new() };
        let begun = if all { self.kernel.all_unidentified() } else { Vec::new() };
        let unseen = if all { self.kernel.node_ids() } else { Vec::new() };
        for some in unseen.chunks(UNSEEN_AT_ONCE) {
            let mut inner = self.locked();
            for node in some {
                inner.places.get(&self.kernel, *node);
            }
        }
        let mut inner = self.locked();
        let inner = &mut *inner;
        let tasks = self.kernel.tasks();
        let live: HashSet<u64> = tasks.iter().map(|(_, tag)| tag.node).collect();
        let mut members: HashMap<u64, HashSet<u32>> = HashMap::new();
        for (tgid, tag) in &tasks {
            members.entry(tag.job).or_default().insert(*tgid);
            inner.places.get(&self.kernel, tag.node);
        }
        for job in members.keys() {
            self.meet(inner, *job);
        }
        self.bury(inner, begun, |job| members.contains_key(&job));
        // One look can miss a process: it forks into a part of the map that has been read, and ends. So nothing may be heard
        // of a job between two looks that both find nobody.
        let missing: HashSet<u64> =
            inner.jobs.keys().filter(|job| !members.contains_key(job)).copied().collect();
        let ended: Vec<u64> = missing.intersection(&inner.missing).copied().collect();
        inner.missing = missing;
        inner.members = members;
        inner.events_lost = events_lost;
        inner.places.reconcile(&live, now);
        for job in ended {
            self.end(inner, job);
        }
        inner.places.prune(&self.kernel, now);
        let unheard =
            held.into_iter().filter(|job| !inner.jobs.contains_key(job) && !inner.members.contains_key(job));
        inner.over.extend(unheard);
        let places = &inner.places;
        for job in inner.over.extract_if(|job| !places.holds(*job)) {
            self.kernel.forget_job(job);
        }
        for job in inner.jobs.values().filter(|job| job.standing().objection().is_some()) {
            job.shut_off(&self.kernel);
        }
        lost
    }

    /// Ends a job whose last process is gone. Its open sessions end by themselves: their sockets are closed.
    pub(super) fn end(&self, inner: &mut Inner, job: u64) {
        inner.members.remove(&job);
        let Some(job) = inner.jobs.get(&job).cloned() else {
            inner.over.insert(job);
            return;
        };
        // A job that still has sessions keeps its entry: their connections may wait to be accepted.
        if job.sessions.load(Ordering::Acquire) > 0 {
            return;
        }
        inner.jobs.remove(&job.id.0);
        inner.missing.remove(&job.id.0);
        inner.over.insert(job.id.0);
        // On record first: what is kept would be on record twice rather than never.
        self.record(&job, JobState::Ended);
        self.standings.store.forget(job.id);
        self.kernel.forget_unidentified(job.id.0);
    }

    /// Who opened a redirected connection, and its place among the job's sessions. The trail holds every process of the
    /// answer when this returns.
    pub fn attribute(&self, flow: &Flow) -> Result<(Place, Lineage), AttributionError> {
        let mut inner = self.locked();
        let inner = &mut *inner;
        let job = self
            .meet(inner, flow.job)
            .ok_or(AttributionError::Lineage(Unattributable::NoJob { pid: flow.tgid }))?;
        let (lineage, unrecorded) = inner
            .places
            .trace(&self.kernel, flow.job, flow.node, flow.tgid, flow.uid)
            .map_err(AttributionError::Lineage)?;
        self.record_places(inner, &job.id.to_string(), &unrecorded)?;
        // Under the lock: a job that ends now is not ended any more.
        Ok((Place::take(&job), lineage))
    }

    pub(super) fn record_places(
        &self,
        inner: &mut Inner,
        job: &str,
        nodes: &[u64],
    ) -> Result<(), AuditError> {
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
            inner.places.mark_recorded(&self.kernel, *node);
        }
        Ok(())
    }

    /// A live job.
    pub fn job(&self, job: Id) -> Option<Arc<Job>> {
        self.locked().jobs.get(&job.0).cloned()
    }

    /// Live processes of a job.
    pub fn processes(&self, job: Id) -> Vec<u32> {
        self.locked().members.get(&job.0).into_iter().flatten().copied().collect()
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
    pub(super) fn locked(&self) -> MutexGuard<'_, Inner> {
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
