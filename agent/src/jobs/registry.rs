//! The registry of live jobs, their processes and their lineage nodes, kept in step with the kernel side's
//! maps.
//!
//! Order matters at two places. Enrolment tags the process before it answers, and the process starts its
//! program only after the answer. A session subscribes to its job's grounds before it asks for its standing,
//! so that a revocation in between is seen by one or the other.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError, atomic::Ordering},
    time::Instant,
};

use agent_abi::{Event, EventKind};
use agent_core::audit::record::JobState;

use super::{
    job::{Job, LiveJobs},
    lineage::Nodes,
    revocation::{standings::Standings, store::RevocationStore},
    store::JobStore,
};
use crate::{audit::Trail, ids::Id, kernel::Kernel};

/// Nodes that are read under one lock after lost events: sessions wait for the lock, too.
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
    /// Live jobs at once, those without a credential not counted.
    pub jobs_max: usize,
    /// Whether the processes of a job whose access ends are killed.
    pub kill_revoked: bool,
}

/// What the registry knows, under its lock.
pub(super) struct Inner {
    pub(super) jobs: LiveJobs,
    pub(super) nodes: Nodes,
    /// Live processes by job.
    pub(super) members: HashMap<u64, HashSet<u32>>,
    /// Jobs in which the last look at the maps found no process, and of which no event has come since.
    missing: HashSet<u64>,
    /// Jobs that have ended, or never began, and still have nodes.
    pub(super) ended: HashSet<u64>,
    /// Lost events that the maps have made up for.
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
            nodes: Nodes::default(),
            members: HashMap::new(),
            missing: HashSet::new(),
            ended: HashSet::new(),
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
            inner.nodes.get(&self.kernel, event.node);
            self.find_or_register(&mut inner, event.job);
        } else if event.kind == EventKind::Fork as u32 {
            inner.members.entry(event.job).or_default().insert(event.tgid);
            inner.nodes.get(&self.kernel, event.node);
        } else if event.kind == EventKind::Exec as u32 {
            let inner = &mut *inner;
            // An exec writes the process's map entry anew, so a look at the map may have missed it.
            inner.members.entry(event.job).or_default().insert(event.tgid);
            inner.nodes.get(&self.kernel, event.node);
            inner.nodes.leave(event.detail, now);
            if let Some(job) = inner.jobs.get(&event.job).map(|job| job.id.to_string())
                && inner.nodes.is_unrecorded(event.node)
                && let Err(error) = self.record_nodes(inner, &job, &[event.node])
            {
                // The first session that needs this node records it, or is denied.
                tracing::error!(%error, job, pid = event.tgid, "an exec could not be recorded");
            }
        } else if event.kind == EventKind::Exit as u32 {
            inner.nodes.leave(event.node, now);
            let empty = inner.members.get_mut(&event.job).is_some_and(|members| {
                members.remove(&event.tgid);
                members.is_empty()
            });
            // If no event was lost, no process is left. Otherwise the next look at the maps tells.
            if empty && self.kernel.statistics().events_lost == inner.events_lost {
                self.end(&mut inner, event.job);
            }
        }
    }

    /// Compares what is known with the kernel side's maps, which are the truth: ends what lost events would
    /// have ended, finds what they would have announced, and drops what nothing needs any more.
    ///
    /// After lost events, or with `all`, it also finds processes and jobs that came and went unseen. Returns
    /// how many events were lost since the last time.
    pub fn reconcile(&self, now: Instant, all: bool) -> u64 {
        let events_lost = self.kernel.statistics().events_lost;
        let lost = events_lost.saturating_sub(self.locked().events_lost);
        let all = all || lost > 0;
        // Everything else is read before the tasks: a job that begins in between is found among the tasks.
        let counted = if all { self.kernel.jobs() } else { HashSet::new() };
        let begun = if all { self.kernel.all_unidentified() } else { Vec::new() };
        if all {
            self.read_nodes(&self.kernel.node_ids());
        }
        let mut inner = self.locked();
        let inner = &mut *inner;
        let tasks = self.kernel.tasks();
        let live: HashSet<u64> = tasks.iter().map(|(_, tag)| tag.node).collect();
        let mut members: HashMap<u64, HashSet<u32>> = HashMap::new();
        for (tgid, tag) in &tasks {
            members.entry(tag.job).or_default().insert(*tgid);
            inner.nodes.get(&self.kernel, tag.node);
        }
        for job in members.keys() {
            self.find_or_register(inner, *job);
        }
        self.end_unseen(inner, begun, |job| members.contains_key(&job));
        // One look can miss a process that forks into a part of the map that has been read already, and ends.
        // So a job ends only after two looks that both find no process, with no event of the job in between.
        let missing: HashSet<u64> =
            inner.jobs.keys().filter(|job| !members.contains_key(job)).copied().collect();
        let over: Vec<u64> = missing.intersection(&inner.missing).copied().collect();
        inner.missing = missing;
        inner.members = members;
        inner.events_lost = events_lost;
        inner.nodes.reconcile(&live, now);
        for job in over {
            self.end(inner, job);
        }
        inner.nodes.prune(&self.kernel, now);
        self.forget_ended(inner, counted);
        for job in inner.jobs.values().filter(|job| job.standing().objection().is_some()) {
            job.shut_off(&self.kernel);
        }
        lost
    }

    /// Reads nodes from the maps, some at a time.
    fn read_nodes(&self, nodes: &[u64]) {
        for some in nodes.chunks(UNSEEN_AT_ONCE) {
            let mut inner = self.locked();
            for node in some {
                inner.nodes.get(&self.kernel, *node);
            }
        }
    }

    /// Drops the kernel side's counts of jobs that have ended and have no node left. `counted` are further
    /// jobs that it counts entries of: those that are not live have ended, too.
    fn forget_ended(&self, inner: &mut Inner, counted: HashSet<u64>) {
        let unknown = counted
            .into_iter()
            .filter(|job| !inner.jobs.contains_key(job) && !inner.members.contains_key(job));
        inner.ended.extend(unknown);
        let nodes = &inner.nodes;
        for job in inner.ended.extract_if(|job| !nodes.holds(*job)) {
            self.kernel.forget_job(job);
        }
    }

    /// Ends a job whose last process has ended. A job with open sessions is left for the next look at the
    /// maps.
    pub(super) fn end(&self, inner: &mut Inner, job: u64) {
        inner.members.remove(&job);
        let Some(job) = inner.jobs.get(&job).cloned() else {
            inner.ended.insert(job);
            return;
        };
        // Connections of these sessions may still wait to be accepted. The sessions end by themselves, as
        // their sockets are closed.
        if job.sessions.load(Ordering::Acquire) > 0 {
            return;
        }
        inner.jobs.remove(&job.id.0);
        inner.missing.remove(&job.id.0);
        inner.ended.insert(job.id.0);
        // Recorded first: if the agent is killed in between, the next one records the end twice rather than
        // never.
        self.record(&job, JobState::Ended);
        self.standings.store.forget(job.id);
        self.kernel.forget_unidentified(job.id.0);
    }

    /// A live job.
    pub fn job(&self, job: Id) -> Option<Arc<Job>> {
        self.locked().jobs.get(&job.0).cloned()
    }

    /// Live processes of a job.
    pub fn processes(&self, job: Id) -> Vec<u32> {
        self.locked().members.get(&job.0).into_iter().flatten().copied().collect()
    }

    /// Live jobs with the number of their live processes, by id.
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

    /// Numbers of live jobs, live processes and known lineage nodes.
    pub fn sizes(&self) -> (usize, usize, usize) {
        let inner = self.locked();
        (inner.jobs.len(), inner.members.values().map(HashSet::len).sum(), inner.nodes.len())
    }

    /// The registry's state. A panic of another thread must not stop the agent: nothing in here can be half
    /// done in a way that grants something.
    pub(super) fn locked(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
