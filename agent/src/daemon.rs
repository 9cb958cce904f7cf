//! The agent: composes every part, and ends them in order.
//!
//! Starting: nothing is followed before the trail is open and the bundle read. Stopping: no new connection is
//! accepted, open sessions get `limits.drain_s` seconds, then are cut; the lease ends last.

use std::{
    path::Path,
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use agent_core::{
    audit::record::{AgentRecord, AgentState, BundleRecord, BundleState, Detail, Details, Record},
    identity::token::Token,
};
use anyhow::Context;
use serde_json::{Value, json};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::watch,
    time::interval,
};

use crate::{
    audit::Trail,
    clock::unix_now,
    config::Config,
    control::{self, Request, peer::Peer},
    credentials::Credentials,
    identity::{
        uses::{UseStore, enroller},
        verify::Verifier,
    },
    jobs::{Enrolment, Job, Registry, RegistryConfig, RevocationList, RevocationStore, Tree},
    kernel::{self, EventStream, Kernel},
    logging,
    metrics::{self, Metrics, raise_to},
    policy::PolicyStore,
    proxy::{self, Drain, Listeners, Proxy, ProxyParts, Workers},
    tls::{Authority, Connector, Trust},
};

/// How long sessions that are cut at the end get for that.
const CUT: Duration = Duration::from_secs(10);
/// How long connects go on being redirected after the agent's last sign of life.
const LEASE: Duration = Duration::from_secs(5);
/// How often the lease is renewed.
const LEASE_RENEWAL: Duration = Duration::from_secs(1);
/// How often the registry is compared with the kernel side's maps.
const RECONCILE: Duration = Duration::from_secs(5);
/// How long a redirected connection may wait in the kernel before its entry is dropped.
const FLOW_AGE_MAX: Duration = Duration::from_secs(120);

/// Descriptors that are not sessions': maps, programs, links, listeners, control connections.
const DESCRIPTORS_BESIDE: u64 = 1_024;

/// Runs the agent until SIGTERM or SIGINT.
pub fn main(config_path: &Path) -> anyhow::Result<()> {
    bound_heaps();
    logging::start();
    let config = Config::read(config_path)?;
    raise_descriptors(&config);
    keep_memory_to_itself()?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .thread_name("control")
        .build()
        .context("cannot start the runtime")?;
    runtime.block_on(run(config))
}

/// Has threads share two heaps: glibc otherwise makes eight for each processor, none of which uses what another one has
/// free, and reading policies leaves much free.
fn bound_heaps() {
    #[cfg(target_env = "gnu")]
    #[allow(unsafe_code, reason = "no safe wrapper has this tunable")]
    // SAFETY: mallopt(3) takes integers; no other thread runs yet.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 2);
    }
}

/// Raises the limit on open descriptors as far as it goes: each session takes two.
fn raise_descriptors(config: &Config) {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
    let wanted = 2 * config.limits.sessions_max as u64 + DESCRIPTORS_BESIDE;
    if let Some(most) = limit.maximum.filter(|most| *most < wanted) {
        tracing::warn!(
            most,
            wanted,
            "fewer descriptors than limits.sessions_max sessions take: raise LimitNOFILE, or lower the bound"
        );
    }
}

/// Neither a dump of the agent's memory nor a debugger shows what it holds: credentials pass through it.
fn keep_memory_to_itself() -> anyhow::Result<()> {
    use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};
    setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) })?;
    set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    Ok(())
}

async fn run(config: Config) -> anyhow::Result<()> {
    let host = config.hostname();
    std::fs::create_dir_all(&config.state_dir)
        .with_context(|| format!("cannot make state directory {}", config.state_dir.display()))?;
    let trail = Trail::open(&config.audit, &config.state_dir, &host)?;
    let metrics = Arc::new(Metrics::new()?);
    let authority = Arc::new(Authority::open(&config.state_dir, &config.tls)?);
    let connector = Arc::new(Connector::new());
    let credentials = Arc::new(Credentials::new(&config.credentials)?);
    let check = proxy::usable(Arc::clone(&connector), Arc::clone(&credentials));
    let policy = Arc::new(PolicyStore::open(&config.policy_dir, &host, check)?);
    let verifier = Verifier::new(&config.issuers)?;
    let uses = UseStore::open(&config.state_dir)?;
    let revocations = RevocationStore::open(&config.state_dir)?;
    let (kernel, events) = kernel::load(&config.kernel)?;
    let kernel = Arc::new(kernel);
    kernel.renew_lease(LEASE)?;
    let registry = Arc::new(Registry::new(RegistryConfig {
        kernel: Arc::clone(&kernel),
        trail: Arc::clone(&trail),
        revocations,
        jobs_max: config.limits.jobs_max,
        kill_revoked: config.revocations.kill,
    }));
    let list = config.revocations.file.as_deref();
    let list =
        list.map(|file| RevocationList::open(file, Arc::clone(&registry)).map(Arc::new)).transpose()?;
    let (listeners, accepted) = Listeners::new(Arc::clone(&kernel));
    let listeners = Arc::new(listeners);
    let (draining, drain) = watch::channel(Drain::No);
    let workers = Workers::start(config.limits.session_threads)?;
    let proxy = Arc::new(Proxy::new(ProxyParts {
        kernel: Arc::clone(&kernel),
        registry: Arc::clone(&registry),
        policy: Arc::clone(&policy),
        trail: Arc::clone(&trail),
        metrics: Arc::clone(&metrics),
        limits: config.limits.clone(),
        literals: config.audit.literals,
        authority: Arc::clone(&authority),
        connector,
        credentials,
        drain,
    }));
    let scrape = metrics::bind(config.metrics.listen)
        .await
        .with_context(|| format!("cannot listen for metrics at {}", config.metrics.listen))?;
    let metrics_address = scrape.local_addr()?;
    let socket = control::server::bind(&config.control)
        .with_context(|| format!("cannot listen for control at {}", config.control.display()))?;
    let agent = Arc::new(Agent {
        admins: config.admins.clone(),
        verifier,
        uses,
        authority,
        registry,
        list,
        listeners,
        kernel,
        policy,
        proxy: Arc::clone(&proxy),
        metrics,
        trail,
        host,
        metrics_address: metrics_address.to_string(),
        started: Instant::now(),
    });
    agent.record(AgentState::Start, "the agent started")?;

    let refreshed = Arc::clone(&agent);
    let metrics_served =
        tokio::spawn(metrics::serve(scrape, Arc::clone(&agent.metrics), move || refreshed.refresh_metrics()));
    let control_served = tokio::spawn(control::server::serve(socket, Arc::clone(&agent)));
    let followed = tokio::spawn(follow(Arc::clone(&agent), events));
    let kept = tokio::spawn(housekeeping(Arc::clone(&agent)));
    let proxied = tokio::spawn(Arc::clone(&proxy).run(accepted, Arc::new(workers)));
    let watched = tokio::spawn(Arc::clone(&agent.policy).watch());
    let bundles = tokio::spawn(record_bundles(Arc::clone(&agent)));
    let list = agent.list.clone();
    let listed = tokio::spawn(async move {
        if let Some(list) = list {
            list.watch().await;
        }
    });

    let _ = sd_notify::notify(false, &[sd_notify::NotifyState::Ready]);
    tracing::info!(control = %config.control.display(), metrics = %metrics_address, "ready");

    let mut hangup = signal(SignalKind::hangup())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    loop {
        tokio::select! {
            _ = hangup.recv() => {
                let _ = agent.reload();
            }
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
        }
    }
    let _ = sd_notify::notify(false, &[sd_notify::NotifyState::Stopping]);
    tracing::info!(sessions = proxy.sessions(), "draining");
    // The control socket stays: a revocation can't wait.
    agent.listeners.close();
    let _ = draining.send(Drain::Idle);
    if !proxy.drained(Duration::from_secs(config.limits.drain_s)).await {
        tracing::warn!(sessions = proxy.sessions(), "sessions are cut: they didn't end in time");
        let _ = draining.send(Drain::All);
        proxy.drained(CUT).await;
    }
    for task in [metrics_served, control_served] {
        task.abort();
    }
    for task in [kept, followed, proxied, watched, bundles, listed] {
        task.abort();
    }
    agent.kernel.end();
    agent.record(AgentState::Stop, "the agent was asked to stop")?;
    agent.trail.close()?;
    let _ = std::fs::remove_file(&config.control);
    Ok(())
}

/// Feeds the registry from the kernel side.
async fn follow(agent: Arc<Agent>, events: EventStream) {
    let handled = events
        .run(|event| {
            if event.kind == agent_abi::EventKind::Refused as u32 {
                agent.proxy.on_refused(event);
            } else {
                agent.registry.on_event(event, Instant::now());
            }
        })
        .await;
    if let Err(error) = handled {
        tracing::error!(%error, "events of the kernel side can't be read; the maps still are, every few seconds");
    }
}

/// Writes each bundle that comes into force, or is refused, to the trail; the first one included.
async fn record_bundles(agent: Arc<Agent>) {
    let mut changes = agent.policy.subscribe();
    changes.mark_changed();
    while changes.changed().await.is_ok() {
        let now = changes.borrow_and_update().clone();
        let state = if now.refused.is_some() { BundleState::Refused } else { BundleState::Loaded };
        let result = if now.refused.is_some() { "refused" } else { "loaded" };
        agent.metrics.bundle_loads.with_label_values(&[result]).inc();
        let record = Record::Bundle(BundleRecord {
            state,
            version: now.bundle.version(),
            reason: now.refused.as_deref(),
        });
        if let Err(error) = agent.trail.append(&record) {
            tracing::error!(%error, "a change of the policy bundle could not be recorded");
        }
    }
}

/// What must happen again and again.
async fn housekeeping(agent: Arc<Agent>) {
    let mut renew = interval(LEASE_RENEWAL);
    let mut reconcile = interval(RECONCILE);
    let mut events_lost = 0;
    loop {
        tokio::select! {
            _ = renew.tick() => {
                if let Err(error) = agent.kernel.renew_lease(LEASE) {
                    tracing::error!(%error, "the lease can't be renewed: connects will be refused");
                }
            }
            _ = reconcile.tick() => {
                let lost = agent.kernel.statistics().events_lost;
                agent.registry.reconcile(Instant::now(), lost > events_lost);
                if lost > events_lost {
                    agent.record_gap(lost - events_lost);
                    events_lost = lost;
                }
                agent.kernel.sweep_flows(FLOW_AGE_MAX);
                agent.metrics.kernel_orphans.set(agent.kernel.sweep_generations() as i64);
                let _ = agent.kernel.recount();
                let live: Vec<u64> = agent.registry.list().iter().map(|(job, _)| job.netns).collect();
                agent.listeners.retain(|cookie| live.contains(&cookie));
            }
        }
    }
}

/// The running agent, as the control socket sees it.
struct Agent {
    admins: Vec<u32>,
    verifier: Verifier,
    uses: UseStore,
    authority: Arc<Authority>,
    registry: Arc<Registry>,
    list: Option<Arc<RevocationList>>,
    listeners: Arc<Listeners>,
    kernel: Arc<Kernel>,
    policy: Arc<PolicyStore>,
    proxy: Arc<Proxy>,
    metrics: Arc<Metrics>,
    trail: Arc<Trail>,
    host: String,
    metrics_address: String,
    started: Instant,
}

impl control::server::Handler for Agent {
    fn followed(&self, pid: u32) -> bool {
        self.kernel.tag_of(pid).is_some()
    }

    fn admins(&self) -> &[u32] {
        &self.admins
    }

    fn on_full(&self) {
        self.metrics.bounds.with_label_values(&["control_connections"]).inc();
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
            Request::Jobs => {
                Ok(self.registry.list().iter().map(|(job, processes)| job.to_json(*processes)).collect())
            }
            Request::Status => Ok(vec![self.status()]),
            Request::Revoke { selector, reason, kill } => {
                let ended = self
                    .registry
                    .revoke(selector, reason, kill, peer.uid)
                    .map_err(|error| error.to_string())?;
                self.metrics.revocations.inc();
                Ok(ended.iter().map(|id| json!({"id": id.to_string()})).collect())
            }
            Request::Rotate => {
                self.authority.rotate().map_err(|error| error.to_string())?;
                self.record(AgentState::Rotate, "the host's certificate authority was replaced")
                    .map_err(|error| error.to_string())?;
                tracing::info!(uid = peer.uid, "the host's certificate authority was replaced");
                let Trust { authority, .. } = self.authority.trust();
                Ok(vec![json!({"authority": authority})])
            }
            Request::Reload => self.reload().map(|version| vec![json!({"bundle": version})]),
        }
    }
}

impl Agent {
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
            .map_err(|error| error.to_string())?;
        let netns = self.listeners.ensure(peer.pid).map_err(|error| error.to_string())?;
        let enrolment =
            Enrolment { pid: peer.pid, uid: peer.uid, name, credential: verified.credential, netns };
        let (job, processes) = if tree {
            // Reads all of /proc, and waits until the tree has stopped.
            tokio::task::block_in_place(|| self.enrol_tree(enrolment, peer))?
        } else {
            (self.registry.enrol(enrolment).map_err(|error| error.to_string())?, 1)
        };
        // The PID was the peer's all along only if the peer still lives.
        if !peer.alive() {
            self.kernel.untag(peer.pid);
            return Err("the process ended while it was enrolled".to_owned());
        }
        tracing::info!(
            job = %job.id,
            pid = peer.pid,
            subject = job.credential.subject,
            issuer = verified.issuer_name,
            "enrolled"
        );
        let Trust { authority, all } = self.authority.trust();
        let id = job.id.to_string();
        Ok(vec![json!({"id": id, "processes": processes, "trust": {"authority": authority, "all": all}})])
    }

    /// Enrols a tree that runs already while it is held still. Answers how many processes it has.
    fn enrol_tree(&self, enrolment: Enrolment, root: &Peer) -> Result<(Arc<Job>, usize), String> {
        let followed = |pid| self.kernel.tag_of(pid).is_some();
        let mut tree = Tree::hold(root.pid, followed).map_err(|error| error.to_string())?;
        if !root.alive() {
            return Err("the process ended while it was enrolled".to_owned());
        }
        let job = self.registry.enrol(enrolment).map_err(|error| error.to_string())?;
        let mut taken = 0;
        loop {
            let news = tree.members().get(taken..).unwrap_or_default();
            let done = self.registry.take_in(&job, news).map_err(|error| error.to_string());
            taken += news.len();
            match done.and_then(|()| tree.grow(followed).map_err(|error| error.to_string())) {
                Ok(true) => {}
                Ok(false) => return Ok((job, tree.len())),
                Err(error) => {
                    self.registry.abandon(&job);
                    return Err(error);
                }
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

    fn reload(&self) -> Result<String, String> {
        // Both are read, whatever becomes of the first.
        let listed = self.list.as_ref().map_or(Ok(()), |list| list.reload());
        self.policy.reload().map_err(|error| error.to_string())?;
        listed.map_err(|error| error.to_string())?;
        Ok(self.policy.current().version().to_owned())
    }

    fn record(&self, state: AgentState, reason: &str) -> anyhow::Result<()> {
        let details = [
            ("version", Detail::Text(env!("CARGO_PKG_VERSION"))),
            ("key", Detail::Text(self.trail.key_fingerprint().unwrap_or_default())),
        ];
        self.trail.append(&Record::Agent(AgentRecord { state, reason, details: Details(&details) }))?;
        Ok(())
    }

    fn record_gap(&self, lost: u64) {
        let details = [("lost_events", Detail::Count(lost))];
        let reason = "the event ring was full; lineage was read from the maps instead";
        let record =
            Record::Agent(AgentRecord { state: AgentState::Gap, reason, details: Details(&details) });
        if let Err(error) = self.trail.append(&record) {
            tracing::error!(%error, lost, "a gap could not be recorded");
        }
    }

    /// Brings totals that are kept elsewhere into the metrics.
    fn refresh_metrics(&self) {
        let (jobs, processes, places) = self.registry.sizes();
        self.metrics.jobs.set(jobs as i64);
        self.metrics.processes.set(processes as i64);
        self.metrics.places.set(places as i64);
        let kernel = self.kernel.statistics();
        let reasons = ["socket_kind", "datagram", "no_listener", "no_lease", "no_storage"];
        for (reason, total) in reasons.into_iter().zip(kernel.refused) {
            raise_to(&self.metrics.kernel_refusals.with_label_values(&[reason]), total);
        }
        for (bound, total) in [
            ("events", kernel.events_lost),
            ("flows", kernel.flows_full),
            ("nodes", kernel.nodes_full),
            ("tasks", kernel.tasks_full),
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
