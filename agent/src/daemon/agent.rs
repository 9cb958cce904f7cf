//! The running agent: what the control socket may ask of it, and what it tells of itself.

use std::{
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use agent_core::{
    audit::record::{AgentRecord, AgentState, Detail, Details, Record},
    identity::token::Token,
};
use serde_json::{Value, json};
use tokio::task::block_in_place;

use crate::{
    audit::Trail,
    bounds::{Bound, Bounded},
    clock::unix_now,
    control::{
        Request,
        peer::{Peer, Standpoint},
        server::Handler,
    },
    identity::{
        uses::{UseStore, enroller},
        verify::Verifier,
    },
    jobs::{
        Adopted, Completeness, Enrolment, Job, Registry, RevocationList, Selector, Tree, has_ended,
        processes, user_of,
    },
    kernel::{Kernel, Rules, netns::Netns, refusals},
    metrics::{Metrics, raise_to},
    policy::PolicyStore,
    proxy::{Proxy, accept::Listeners},
    tls::{Authority, Trust},
};

/// Looks for processes that a rule means and that run already, before one that can't be followed keeps the agent from
/// starting.
const SWEEPS_MAX: usize = 8;
/// How far apart these are.
const SWEEP_PAUSE: Duration = Duration::from_millis(50);
/// Processes of a job that are asked where they are, at a time.
const ASKED_MAX: usize = 64;
/// Processes that come into a job under one lock of the registry.
const TAKEN_AT_ONCE: usize = 256;

/// The running agent, as the control socket sees it.
pub(super) struct Agent {
    pub(super) rules: Rules,
    pub(super) admins: Vec<u32>,
    pub(super) verifier: Verifier,
    pub(super) uses: UseStore,
    pub(super) authority: Arc<Authority>,
    pub(super) registry: Arc<Registry>,
    pub(super) list: Option<Arc<RevocationList>>,
    pub(super) listeners: Arc<Listeners>,
    pub(super) kernel: Arc<Kernel>,
    pub(super) policy: Arc<PolicyStore>,
    pub(super) proxy: Arc<Proxy>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) trail: Arc<Trail>,
    pub(super) host: String,
    pub(super) metrics_address: String,
    pub(super) started: Instant,
}

impl Handler for Agent {
    fn standpoint(&self, pid: u32) -> Standpoint {
        match self.kernel.tag_of(pid) {
            None => Standpoint::Outside,
            Some(tag) if self.registry.is_unidentified(tag.job) => Standpoint::Unidentified,
            Some(_) => Standpoint::Inside,
        }
    }

    fn admins(&self) -> &[u32] {
        &self.admins
    }

    fn on_full(&self) {
        self.metrics.bound(Bound::ControlConnections).inc();
    }

    async fn handle(&self, request: Request, peer: &Peer) -> Result<Vec<Value>, String> {
        match request {
            Request::Enroll { token, name, pid } => {
                let enrolled = self.enrol(Token::new(token), name, pid, peer).await;
                let result = if enrolled.is_ok() { "enrolled" } else { "refused" };
                self.metrics.enrolments.with_label_values(&[result]).inc();
                if let Err(reason) = &enrolled {
                    tracing::warn!(pid = peer.pid, uid = peer.uid, reason, "an enrolment was refused");
                }
                enrolled
            }
            // These wait for locks and disks.
            Request::Jobs => Ok(block_in_place(|| self.jobs())),
            Request::Status => Ok(vec![block_in_place(|| self.status())]),
            Request::Revoke { selector, reason, kill } => {
                block_in_place(|| self.revoke(selector, reason, kill, peer))
            }
            Request::Rotate => block_in_place(|| self.rotate(peer)),
            Request::Reload => {
                block_in_place(|| self.reload()).map(|version| vec![json!({"bundle": version})])
            }
        }
    }
}

impl Agent {
    /// A refusal in words, counted where a bound is the reason.
    fn refusal(&self, error: &impl Bounded) -> String {
        if let Some(bound) = error.bound() {
            self.metrics.bound(bound).inc();
        }
        error.to_string()
    }

    fn jobs(&self) -> Vec<Value> {
        self.registry.list().iter().map(|(job, processes)| job.to_json(*processes)).collect()
    }

    fn revoke(
        &self,
        selector: Selector,
        reason: String,
        kill: bool,
        peer: &Peer,
    ) -> Result<Vec<Value>, String> {
        let ended =
            self.registry.revoke(selector, reason, kill, peer.uid).map_err(|error| self.refusal(&error))?;
        self.metrics.revocations.inc();
        Ok(ended.iter().map(|id| json!({"id": id.to_string()})).collect())
    }

    fn rotate(&self, peer: &Peer) -> Result<Vec<Value>, String> {
        self.authority.rotate().map_err(|error| error.to_string())?;
        self.record(AgentState::Rotate, "the host's certificate authority was replaced")
            .map_err(|error| error.to_string())?;
        tracing::info!(uid = peer.uid, "the host's certificate authority was replaced");
        let Trust { authority, .. } = self.authority.trust();
        Ok(vec![json!({"authority": authority})])
    }

    /// Verifies a token and puts the peer, or the process `pid` with all that descends from it, into a job. The order: who
    /// is it, may the token be used here, is the namespace served, and only then the tag.
    async fn enrol(
        &self,
        token: Token,
        name: Option<String>,
        pid: Option<u32>,
        peer: &Peer,
    ) -> Result<Vec<Value>, String> {
        let other = match pid {
            None => None,
            Some(pid) => {
                let other = Peer::at(pid).map_err(|error| format!("process {pid}: {error}"))?;
                if peer.uid != 0 && peer.uid != other.uid {
                    return Err(format!("process {pid} is another user's"));
                }
                Some(other)
            }
        };
        let tree = other.is_some();
        let peer = other.as_ref().unwrap_or(peer);
        let now_unix = unix_now();
        let verified = self.verifier.verify(&token, now_unix).await.map_err(|error| error.to_string())?;
        drop(token);
        self.uses
            .admit(&verified, &enroller(peer.pid, peer.uid), now_unix)
            .map_err(|error| self.refusal(&error))?;
        let netns = self.listeners.ensure(peer.pid).map_err(|error| self.refusal(&error))?;
        let subject = verified.credential.subject.clone();
        let enrolment =
            Enrolment { pid: peer.pid, uid: peer.uid, name, credential: verified.credential, netns };
        // Waits for the disk; for a tree also until it has stopped.
        let (job, processes) = block_in_place(|| {
            if tree {
                return self.enrol_tree(enrolment, peer);
            }
            let enrolled = self.registry.enrol(enrolment, || peer.alive());
            enrolled.map(|job| (job, 1)).map_err(|error| self.refusal(&error))
        })?;
        tracing::info!(
            job = %job.id,
            pid = peer.pid,
            subject,
            issuer = verified.issuer_name,
            "enrolled"
        );
        let Trust { authority, all } = self.authority.trust();
        let id = job.id.to_string();
        Ok(vec![json!({"id": id, "processes": processes, "trust": {"authority": authority, "all": all}})])
    }

    /// Enrols a tree that runs already while it is held still. Answers how many processes it has.
    fn enrol_tree(&self, enrolment: Enrolment, root: &Peer) -> Result<(Arc<Job>, usize), String> {
        let followed = |pid| self.standpoint(pid) == Standpoint::Inside;
        let mut tree = Tree::hold(root.pid, Completeness::Required, self.kernel.processes_max(), followed)
            .map_err(|error| self.refusal(&error))?;
        // What is followed already must not be let go.
        let bound = !self.rules.is_empty() || self.registry.knows_unidentified();
        let job = self.registry.enrol(enrolment, || root.alive()).map_err(|error| self.refusal(&error))?;
        // It is held until all of it is in or none.
        match self.take_in(&job, &mut tree, followed) {
            Ok(processes) => Ok((job, processes)),
            // It is granted nothing from here on.
            Err(error) if bound => {
                let why = format!("it could not be enrolled whole: {error}");
                self.registry.shut_off(&job, &why);
                Err(why)
            }
            Err(error) => {
                self.registry.abandon(&job);
                Err(error)
            }
        }
    }

    /// Puts the rest of a tree into its root's job, until there is no rest. Answers how many processes it has.
    fn take_in(
        &self,
        job: &Arc<Job>,
        tree: &mut Tree,
        followed: impl Fn(u32) -> bool,
    ) -> Result<usize, String> {
        let mut taken = 0;
        loop {
            let news = tree.members().get(taken..).unwrap_or_default();
            // Some at a time: others ask the registry, too.
            for some in news.chunks(TAKEN_AT_ONCE) {
                self.registry.take_in(job, some).map_err(|error| self.refusal(&error))?;
            }
            taken += news.len();
            if !tree.grow(&followed).map_err(|error| self.refusal(&error))? {
                return Ok(tree.len());
            }
        }
    }

    /// Serves the network namespaces of adopted jobs again.
    pub(super) fn take_over(&self, adopted: &Adopted) {
        for (job, processes) in &adopted.jobs {
            tracing::info!(job = %job.id, processes = processes.len(), "adopted");
            self.serve(job, processes);
        }
        if adopted.strays > 0 {
            tracing::error!(processes = adopted.strays, "processes of unknown jobs are shut off");
        }
    }

    /// Whether the agent listens where a job is.
    fn serves(&self, job: &Job) -> bool {
        job.netns.get().is_some_and(|home| self.listeners.serves(*home))
    }

    /// Listens where a job is that did not ask for it, if it does not already.
    pub(super) fn serve(&self, job: &Job, processes: &[u32]) {
        if self.serves(job) {
            return;
        }
        let at_home = |pid: &&u32| {
            self.kernel.tag_of(**pid).is_some_and(|tag| tag.job == job.id.0)
                && Netns::of(**pid)
                    .is_ok_and(|netns| job.netns.get().is_none_or(|home| *home == netns.cookie))
        };
        match processes.iter().take(ASKED_MAX).find(at_home).map(|pid| self.listeners.ensure(*pid)) {
            Some(Ok(cookie)) => {
                job.netns.get_or_init(|| cookie);
            }
            Some(Err(error)) => {
                tracing::error!(error = self.refusal(&error), job = %job.id, "a job is shut off");
            }
            None => tracing::debug!(job = %job.id, "no process of a job is where it began"),
        }
    }

    /// Listens for every job, as far as nobody does yet: of one that was adopted or that a rule began, the processes that
    /// were asked may have gone.
    pub(super) fn serve_all(&self) {
        for (job, _) in self.registry.list() {
            if !self.serves(&job) {
                self.serve(&job, &self.registry.processes(job.id));
            }
        }
    }

    /// Puts processes that run already and that a rule means into jobs, each with all that descends from it, until a look
    /// finds none. Who can't be followed would go free: then there is no agent.
    pub(super) fn sweep(&self) -> anyhow::Result<()> {
        if self.rules.is_empty() {
            return Ok(());
        }
        let mut unfollowed = String::new();
        for _ in 0..SWEEPS_MAX {
            let mut found = false;
            let meant = processes().into_iter().filter_map(|pid| {
                // The real one, as the kernel side asks.
                let [uid, ..] = user_of(pid).ok()?;
                let rule = self.rules.of_process(pid, uid)?;
                (self.kernel.tag_of(pid).is_none() && !has_ended(pid)).then_some((pid, uid, rule))
            });
            for (pid, uid, rule) in meant {
                found = true;
                match self.enrol_running(pid, uid, rule) {
                    Ok((job, processes)) => {
                        tracing::info!(job = %job.id, rule, pid, processes, "ran already");
                        self.serve(&job, &[pid]);
                    }
                    Err(_) if has_ended(pid) => {}
                    // It may have come into another's tree: the next look tells.
                    Err(error) => {
                        tracing::warn!(error, rule, pid, "a process that a rule means is not followed yet");
                        unfollowed =
                            format!("process {pid}, which rule {rule} means, can't be followed: {error}");
                    }
                }
            }
            if !found {
                return Ok(());
            }
            std::thread::park_timeout(SWEEP_PAUSE);
        }
        anyhow::ensure!(unfollowed.is_empty(), unfollowed);
        anyhow::bail!("processes that rules mean were still found after {SWEEPS_MAX} looks")
    }

    fn enrol_running(&self, pid: u32, uid: u32, rule: &str) -> Result<(Arc<Job>, usize), String> {
        let followed = |pid| self.kernel.tag_of(pid).is_some();
        let mut tree = Tree::hold(pid, Completeness::BestEffort, self.kernel.processes_max(), followed)
            .map_err(|error| self.refusal(&error))?;
        let job = self.registry.enrol_by_rule(pid, uid, rule).map_err(|error| self.refusal(&error))?;
        match self.take_in(&job, &mut tree, followed) {
            Ok(processes) => Ok((job, processes)),
            // Half a tree would look like one that is followed.
            Err(error) => {
                self.registry.abandon(&job);
                Err(error)
            }
        }
    }

    fn status(&self) -> Value {
        let (jobs, processes, places) = self.registry.sizes();
        let kernel = self.kernel.statistics();
        let audit = self.trail.metrics();
        json!({
            "version": env!("CARGO_PKG_VERSION"),
            "host": self.host,
            "uptime_s": self.started.elapsed().as_secs(),
            "bundle": self.policy.current().version(),
            "bundle_error": self.policy.last_error(),
            "revocations_error": self.list.as_ref().and_then(|list| list.last_error()),
            "jobs": jobs,
            "processes": processes,
            "places": places,
            "sessions": self.proxy.sessions(),
            "cgroup": self.kernel.cgroup().display().to_string(),
            "metrics": self.metrics_address,
            "events_lost": kernel.events_lost,
            "redirected": kernel.redirected,
            "audit_records": audit.records.load(Ordering::Relaxed),
            "audit_errors": audit.errors.load(Ordering::Relaxed),
            "audit_error": self.trail.failure(),
        })
    }

    pub(super) fn reload(&self) -> Result<String, String> {
        // Both are read, whatever becomes of the first.
        let listed = self.list.as_ref().map_or(Ok(()), |list| list.reload());
        self.policy.reload().map_err(|error| error.to_string())?;
        listed.map_err(|error| error.to_string())?;
        Ok(self.policy.current().version().to_owned())
    }

    pub(super) fn record(&self, state: AgentState, reason: &str) -> anyhow::Result<()> {
        let details = [
            ("version", Detail::Text(env!("CARGO_PKG_VERSION"))),
            ("key", Detail::Text(self.trail.key_fingerprint().unwrap_or_default())),
        ];
        self.trail.append(&Record::Agent(AgentRecord { state, reason, details: Details(&details) }))?;
        Ok(())
    }

    pub(super) fn record_gap(&self, lost: u64) {
        let details = [("lost_events", Detail::Count(lost))];
        let reason = "the event ring was full; lineage was read from the maps instead";
        let record =
            Record::Agent(AgentRecord { state: AgentState::Gap, reason, details: Details(&details) });
        if let Err(error) = self.trail.append(&record) {
            tracing::error!(%error, lost, "a gap could not be recorded");
        }
    }

    /// Brings totals that are kept elsewhere into the metrics.
    pub(super) fn refresh_metrics(&self) {
        let (jobs, processes, places) = self.registry.sizes();
        self.metrics.jobs.set(jobs as i64);
        self.metrics.processes.set(processes as i64);
        self.metrics.places.set(places as i64);
        let refused = self.list.as_ref().and_then(|list| list.last_error());
        self.metrics.revocation_list_refused.set(i64::from(refused.is_some()));
        let kernel = self.kernel.statistics();
        for (refusal, total) in kernel.refused {
            raise_to(&self.metrics.kernel_refusals.with_label_values(&[refusals::label(refusal)]), total);
        }
        for (bound, total) in [
            ("events", kernel.events_lost),
            ("flows", kernel.flows_full),
            ("nodes", kernel.nodes_full),
            ("tasks", kernel.tasks_full),
            ("unidentified", kernel.unidentified_full),
            ("cgroups", kernel.cgroups_full),
            ("share", kernel.share_full),
        ] {
            raise_to(&self.metrics.kernel_bounds.with_label_values(&[bound]), total);
        }
        raise_to(&self.metrics.kernel_redirects, kernel.redirected);
        raise_to(&self.metrics.kernel_own_listener, kernel.own_listener);
        self.metrics.kernel_tasks.set(kernel.tasks as i64);
        let audit = self.trail.metrics();
        raise_to(&self.metrics.audit_records, audit.records.load(Ordering::Relaxed));
        raise_to(&self.metrics.audit_bytes, audit.bytes.load(Ordering::Relaxed));
        raise_to(&self.metrics.audit_errors, audit.errors.load(Ordering::Relaxed));
        raise_to(&self.metrics.audit_sync_errors, audit.sync_errors.load(Ordering::Relaxed));
        raise_to(&self.metrics.audit_deferred_full, audit.deferred_full.load(Ordering::Relaxed));
    }
}
