//! The agent while it serves, and how it stops.

use std::{io, sync::Arc, time::Duration};

use agent_core::audit::record::AgentState;
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::watch,
    task::AbortHandle,
};

use super::{agent::Agent, assemble::Assembled, lease::Lease, tasks};
use crate::{
    config::Config,
    control, metrics,
    proxy::{Drain, accept::hold},
};

/// How long sessions that are cut at the end may take to end.
const CUT: Duration = Duration::from_secs(10);

/// A serving agent.
pub(super) struct Serving {
    config: Config,
    agent: Arc<Agent>,
    draining: watch::Sender<Drain>,
    lease: Lease,
    tasks: Vec<AbortHandle>,
    signals: Signals,
}

/// The signals that the agent acts upon. A signal that nobody has asked for ends the process.
struct Signals {
    hangup: Signal,
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn new() -> io::Result<Self> {
        Ok(Self {
            hangup: signal(SignalKind::hangup())?,
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }
}

impl Serving {
    /// Starts every task, and tells systemd that the agent is ready.
    pub(super) fn start(assembled: Assembled) -> anyhow::Result<Self> {
        let Assembled { config, agent, scrape, socket, events, holds, connections, draining, lease } =
            assembled;
        // Before anybody is told that the agent is ready: `systemctl reload` may follow at once.
        let signals = Signals::new()?;
        let refreshed = Arc::clone(&agent);
        let refresh = move || refreshed.refresh_metrics();
        let holding = hold(Arc::clone(&agent.proxy), Arc::clone(&agent.listeners), holds);
        let tasks = vec![
            tokio::spawn(holding).abort_handle(),
            tokio::spawn(metrics::serve(scrape, Arc::clone(&agent.metrics), refresh)).abort_handle(),
            tokio::spawn(control::server::serve(socket, Arc::clone(&agent))).abort_handle(),
            tokio::spawn(tasks::follow(Arc::clone(&agent), events)).abort_handle(),
            tokio::spawn(tasks::keep_house(Arc::clone(&agent))).abort_handle(),
            tokio::spawn(connections).abort_handle(),
            tokio::spawn(Arc::clone(&agent.policy).watch()).abort_handle(),
            tokio::spawn(tasks::record_bundles(Arc::clone(&agent))).abort_handle(),
            tokio::spawn(tasks::watch_revocations(Arc::clone(&agent))).abort_handle(),
        ];
        let _ = sd_notify::notify(false, &[sd_notify::NotifyState::Ready]);
        tracing::info!(control = %config.control.display(), metrics = %agent.metrics_address, "ready");
        Ok(Self { config, agent, draining, lease, tasks, signals })
    }

    /// Returns at SIGTERM or SIGINT; until then, SIGHUP reloads.
    pub(super) async fn until_asked_to_stop(&mut self) {
        let Signals { hangup, terminate, interrupt } = &mut self.signals;
        loop {
            tokio::select! {
                _ = hangup.recv() => {
                    let _ = self.agent.reload();
                }
                _ = terminate.recv() => return,
                _ = interrupt.recv() => return,
            }
        }
    }

    /// Lets sessions end, cuts those that do not, and closes the trail. The agent's programs stay attached:
    /// they go on following jobs and refuse their connections.
    pub(super) async fn stop(self) -> anyhow::Result<()> {
        let Self { config, agent, draining, lease, tasks, signals: _ } = self;
        let _ = sd_notify::notify(false, &[sd_notify::NotifyState::Stopping]);
        tracing::info!(sessions = agent.proxy.sessions(), "draining");
        // The control socket stays open while sessions drain: a revocation must not wait for them.
        agent.listeners.close();
        let _ = draining.send(Drain::Idle);
        if !agent.proxy.drained(Duration::from_secs(config.limits.drain_s)).await {
            tracing::warn!(sessions = agent.proxy.sessions(), "sessions are cut: they did not end in time");
            let _ = draining.send(Drain::All);
            agent.proxy.drained(CUT).await;
        }
        tasks.iter().for_each(AbortHandle::abort);
        lease.give_up();
        agent.kernel.end();
        agent.record(AgentState::Stop, "the agent was asked to stop")?;
        agent.trail.close()?;
        let _ = std::fs::remove_file(&config.control);
        Ok(())
    }
}
