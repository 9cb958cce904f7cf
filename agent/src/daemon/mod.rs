//! The agent: composes every part, and ends them in order.
//!
//! Starting: nothing is followed before the trail is open and the bundle read. Stopping: no new connection is
//! accepted, open sessions get `limits.drain_s` seconds, then are cut; the lease ends last.

mod agent;
mod detach;
mod lease;

use std::{
    collections::HashSet,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use agent_abi::EventKind;
use agent_core::audit::record::{AgentRecord, AgentState, BundleRecord, BundleState, Details, Record};
use anyhow::Context;
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::watch,
    time::interval,
};

pub use detach::{Detached, detach};

use self::{
    agent::Agent,
    lease::{LEASE, Lease},
};
use crate::{
    audit::Trail,
    bounds::Bound,
    config::Config,
    control,
    identity::{uses::UseStore, verify::Verifier},
    ids::Id,
    jobs::{JobStore, Registry, RegistryConfig, RevocationList, RevocationStore},
    kernel::{self, EventStream, Kernel, Rules},
    logging,
    logins::Logins,
    metrics::{self, Metrics},
    policy::PolicyStore,
    proxy::{
        self, Drain, Proxy, ProxyParts,
        accept::{Listeners, Workers},
    },
    tls::{Authority, Connector},
};

/// How long sessions that are cut at the end get for that.
const CUT: Duration = Duration::from_secs(10);
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
    let rules = Rules::new(&config.rules)?;
    let trail = Trail::open(&config.audit, &config.state_dir, &host)?;
    let metrics = Arc::new(Metrics::new()?);
    let made_anew = metrics.bound(Bound::Certificates);
    let authority = Arc::new(Authority::open(&config.state_dir, &config.tls, made_anew)?);
    let connector = Arc::new(Connector::new());
    let logins = Arc::new(Logins::new(&config.logins)?);
    let check = proxy::reachable(Arc::clone(&connector), Arc::clone(&logins));
    let policy = Arc::new(PolicyStore::open(&config.policy_dir, &host, check)?);
    let verifier = Verifier::new(&config.issuers)?;
    let uses = UseStore::open(&config.state_dir)?;
    let revocations = RevocationStore::open(&config.state_dir)?;
    let store = JobStore::open(&config.state_dir).context("cannot open the kept jobs")?;
    if let Some(file) = &config.revocations.file {
        RevocationList::check(file)?;
    }
    let scrape = metrics::bind(config.metrics.listen)
        .await
        .with_context(|| format!("cannot listen for metrics at {}", config.metrics.listen))?;
    let metrics_address = scrape.local_addr()?;
    let socket = control::server::bind(&config.control)
        .with_context(|| format!("cannot listen for control at {}", config.control.display()))?;
    // All that can fail for others' sake has not: from here on this host's processes are concerned.
    let (kernel, events) = kernel::load(&config.kernel, &rules)?;
    let kernel = Arc::new(kernel);
    let undone = Undone(Some((Arc::clone(&kernel), Arc::clone(&trail), config.control.clone())));
    let registry = Arc::new(Registry::new(RegistryConfig {
        kernel: Arc::clone(&kernel),
        trail: Arc::clone(&trail),
        revocations,
        store,
        jobs_max: config.limits.jobs_max,
        kill_revoked: config.revocations.kill,
    }));
    let adopted = registry.adopt(Instant::now()).context("cannot read the kept jobs")?;
    let list = config.revocations.file.as_deref();
    let list =
        list.map(|file| RevocationList::open(file, Arc::clone(&registry)).map(Arc::new)).transpose()?;
    let waiting = metrics.bound(Bound::AcceptedConnections);
    let (listeners, accepted) = Listeners::new(Arc::clone(&kernel), waiting.clone());
    let listeners = Arc::new(listeners);
    let (draining, drain) = watch::channel(Drain::No);
    let workers = Workers::start(config.limits.session_threads, &waiting)?;
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
        logins,
        drain,
    }));
    let agent = Arc::new(Agent {
        rules,
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
    agent.take_over(&adopted);
    agent.record(AgentState::Start, "the agent started")?;
    tokio::task::block_in_place(|| agent.sweep())?;
    agent.kernel.renew_lease(LEASE)?;
    let lease = Lease::keep(Arc::clone(&agent.kernel))?;
    undone.never();

    let refreshed = Arc::clone(&agent);
    let metrics_served =
        tokio::spawn(metrics::serve(scrape, Arc::clone(&agent.metrics), move || refreshed.refresh_metrics()));
    let control_served = tokio::spawn(control::server::serve(socket, Arc::clone(&agent)));
    let followed = tokio::spawn(follow(Arc::clone(&agent), events));
    let kept = tokio::spawn(housekeeping(Arc::clone(&agent)));
    let proxied = tokio::spawn(proxy::accept::run(Arc::clone(&proxy), accepted, workers));
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
    lease.give_up();
    agent.kernel.end();
    agent.record(AgentState::Stop, "the agent was asked to stop")?;
    agent.trail.close()?;
    let _ = std::fs::remove_file(&config.control);
    Ok(())
}

/// Takes the kernel side away again if the agent does not come to serve, unless an earlier agent's jobs depend on it; and the
/// control socket.
struct Undone(Option<(Arc<Kernel>, Arc<Trail>, PathBuf)>);

impl Undone {
    fn never(mut self) {
        self.0 = None;
    }
}

impl Drop for Undone {
    fn drop(&mut self) {
        let Some((kernel, trail, control)) = &self.0 else { return };
        kernel.back_out();
        let _ = std::fs::remove_file(control);
        let reason = "the agent could not start";
        let record = Record::Agent(AgentRecord { state: AgentState::Stop, reason, details: Details(&[]) });
        if let Err(error) = trail.append(&record) {
            tracing::error!(%error, "a start that failed could not be recorded");
        }
    }
}

/// Feeds the registry from the kernel side.
async fn follow(agent: Arc<Agent>, events: EventStream) {
    let handled = events
        .run(|event| {
            if event.kind == EventKind::Refused as u32 {
                agent.proxy.on_refused(event);
            } else {
                agent.registry.on_event(event, Instant::now());
                let begins = event.kind == EventKind::Enrol as u32;
                if begins || event.kind == EventKind::Fork as u32 {
                    let job = agent.registry.job(Id(event.job));
                    // A root may have ended by now: then its first child tells where the job is.
                    let homeless = job.filter(|job| begins || job.netns.get().is_none());
                    homeless.iter().for_each(|job| agent.serve(job, &[event.tgid]));
                }
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
    let mut reconcile = interval(RECONCILE);
    loop {
        reconcile.tick().await;
        // Reads whole maps, and may wait for the registry.
        tokio::task::block_in_place(|| {
            let lost = agent.registry.reconcile(Instant::now(), false);
            agent.serve_all();
            if lost > 0 {
                agent.record_gap(lost);
            }
            agent.kernel.sweep_flows(FLOW_AGE_MAX);
            agent.metrics.kernel_orphans.set(agent.kernel.sweep_pins() as i64);
            let _ = agent.kernel.recount();
            let live: HashSet<u64> =
                agent.registry.list().iter().filter_map(|(job, _)| job.netns.get().copied()).collect();
            agent.listeners.retain(|cookie| live.contains(&cookie));
        });
    }
}
