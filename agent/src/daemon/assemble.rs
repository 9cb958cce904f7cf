//! Puts the agent's parts together, up to the moment at which it can serve.
//!
//! Everything that can fail without concerning this host's processes comes first; only then are programs
//! attached to the kernel. A start that fails after that backs out again.

use std::{path::PathBuf, pin::Pin, sync::Arc, time::Instant};

use agent_core::audit::record::{AgentRecord, AgentState, Details, Record};
use anyhow::Context;
use tokio::{
    net::{TcpListener, UnixListener},
    sync::watch,
};

use super::{
    agent::Agent,
    lease::{LEASE, Lease},
};
use crate::{
    audit::Trail,
    bounds::Bound,
    config::Config,
    control,
    identity::{uses::UseStore, verify::Verifier},
    jobs::{Adopted, JobStore, Registry, RegistryConfig, RevocationList, RevocationStore},
    kernel::{self, EventStream, HoldStream, Kernel, Rules},
    logins::Logins,
    metrics::{self, Metrics},
    policy::PolicyStore,
    proxy::{
        self, Drain, Proxy, ProxyParts,
        accept::{Listeners, Workers},
    },
    tls::{Authority, Connector},
};

/// An agent that is ready to serve.
pub(super) struct Assembled {
    pub(super) config: Config,
    pub(super) agent: Arc<Agent>,
    /// The metrics listener.
    pub(super) scrape: TcpListener,
    /// The control socket.
    pub(super) socket: UnixListener,
    pub(super) events: EventStream,
    pub(super) holds: HoldStream,
    /// Serves the connections that the listeners accept.
    pub(super) connections: Pin<Box<dyn Future<Output = ()> + Send>>,
    /// Tells sessions to end.
    pub(super) draining: watch::Sender<Drain>,
    pub(super) lease: Lease,
}

/// Opens all that the agent needs, attaches its programs, and takes over the jobs of an earlier agent.
pub(super) async fn assemble(config: Config) -> anyhow::Result<Assembled> {
    Opened::open(config).await?.attach()
}

/// What was opened before anything of this host was touched.
struct Opened {
    config: Config,
    host: String,
    rules: Rules,
    trail: Arc<Trail>,
    metrics: Arc<Metrics>,
    authority: Arc<Authority>,
    connector: Arc<Connector>,
    logins: Arc<Logins>,
    policy: Arc<PolicyStore>,
    verifier: Verifier,
    uses: UseStore,
    revocations: RevocationStore,
    store: JobStore,
    scrape: TcpListener,
    socket: UnixListener,
}

impl Opened {
    async fn open(config: Config) -> anyhow::Result<Self> {
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
        let scrape = metrics::bind(config.metrics.listen).await.with_context(|| {
            format!("cannot listen at {}: set metrics.listen to another address", config.metrics.listen)
        })?;
        let socket = control::server::bind(&config.control)
            .with_context(|| format!("cannot listen for control at {}", config.control.display()))?;
        Ok(Self {
            config,
            host,
            rules,
            trail,
            metrics,
            authority,
            connector,
            logins,
            policy,
            verifier,
            uses,
            revocations,
            store,
            scrape,
            socket,
        })
    }

    /// Attaches the programs and takes over: from here on this host's processes are concerned.
    fn attach(self) -> anyhow::Result<Assembled> {
        let Self { config, trail, metrics, policy, authority, rules, .. } = self;
        let (kernel, events, holds) = kernel::load(&config.kernel, &rules)?;
        let kernel = Arc::new(kernel);
        let back_out = BackOut(Some((Arc::clone(&kernel), Arc::clone(&trail), config.control.clone())));
        let registry = Arc::new(Registry::new(RegistryConfig {
            kernel: Arc::clone(&kernel),
            trail: Arc::clone(&trail),
            revocations: self.revocations,
            store: self.store,
            jobs_max: config.limits.jobs_max,
            kill_revoked: config.revocations.kill,
        }));
        let adopted = registry.adopt(Instant::now()).context("cannot read the kept jobs")?;
        let list = config.revocations.file.as_deref();
        let list =
            list.map(|file| RevocationList::open(file, Arc::clone(&registry)).map(Arc::new)).transpose()?;
        let waiting = metrics.bound(Bound::AcceptedConnections);
        let (listeners, accepted) = Listeners::new(Arc::clone(&kernel), waiting.clone());
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
            connector: self.connector,
            logins: self.logins,
            drain,
        }));
        let connections = Box::pin(proxy::accept::run(Arc::clone(&proxy), accepted, workers));
        let agent = Arc::new(Agent {
            rules,
            admins: config.admins.clone(),
            verifier: self.verifier,
            uses: self.uses,
            authority,
            registry,
            list,
            listeners: Arc::new(listeners),
            kernel,
            policy,
            proxy,
            metrics,
            trail,
            host: self.host,
            metrics_address: self.scrape.local_addr()?.to_string(),
            started: Instant::now(),
        });
        let lease = begin(&agent, &adopted)?;
        back_out.disarm();
        let Self { scrape, socket, .. } = self;
        Ok(Assembled { config, agent, scrape, socket, events, holds, connections, draining, lease })
    }
}

/// Takes over the adopted jobs, records the start, enrols what rules match, and has connections redirected.
fn begin(agent: &Agent, adopted: &Adopted) -> anyhow::Result<Lease> {
    agent.take_over(adopted);
    agent.record(AgentState::Start, "the agent started")?;
    tokio::task::block_in_place(|| agent.sweep())?;
    agent.kernel.renew_lease(LEASE)?;
    Ok(Lease::keep(Arc::clone(&agent.kernel))?)
}

/// Undoes a start that fails: detaches the programs, unless jobs of an earlier agent depend on them, and
/// removes the control socket.
struct BackOut(Option<(Arc<Kernel>, Arc<Trail>, PathBuf)>);

impl BackOut {
    /// The start has succeeded.
    fn disarm(mut self) {
        self.0 = None;
    }
}

impl Drop for BackOut {
    fn drop(&mut self) {
        let Some((kernel, trail, control)) = &self.0 else { return };
        kernel.back_out();
        let _ = std::fs::remove_file(control);
        let reason = "the agent could not start";
        let record = Record::Agent(AgentRecord { state: AgentState::Stop, reason, details: Details(&[]) });
        if let Err(error) = trail.append(&record) {
            tracing::error!(%error, "the failed start could not be recorded");
        }
    }
}
