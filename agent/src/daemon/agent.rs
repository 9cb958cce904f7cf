//! The running agent: its parts, and what several of its jobs share: records about the agent itself, refusals
//! in words, and reloading. Each of those jobs has a file of its own beside this one.

use std::{sync::Arc, time::Instant};

use agent_core::audit::record::{AgentRecord, AgentState, Detail, Details, Record};

use crate::{
    audit::Trail,
    bounds::Bounded,
    identity::{uses::UseStore, verify::Verifier},
    jobs::{Registry, RevocationList},
    kernel::{Kernel, Rules},
    metrics::Metrics,
    policy::PolicyStore,
    proxy::{Proxy, accept::Listeners},
    tls::Authority,
};

/// The running agent.
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

impl Agent {
    /// An error in words, counted where a bound is its reason.
    pub(super) fn refusal(&self, error: &impl Bounded) -> String {
        if let Some(bound) = error.bound() {
            self.metrics.bound(bound).inc();
        }
        error.to_string()
    }

    /// Has each packet seen that leaves the cgroups of these processes. Where that fails, they may do less.
    pub(super) fn cover(&self, processes: impl IntoIterator<Item = u32>) {
        for pid in processes {
            if let Err(error) = self.kernel.cover(pid) {
                let error = self.refusal(&error);
                tracing::warn!(error, pid, "UDP in this process's cgroup is refused, to own sockets, too");
            }
        }
    }

    /// Reads the list of revocations and the policy bundle again. Returns the version of the bundle in force.
    pub(super) fn reload(&self) -> Result<String, String> {
        // Both are read, even if the first cannot be.
        let listed = self.list.as_ref().map_or(Ok(()), |list| list.reload());
        self.policy.reload().map_err(|error| error.to_string())?;
        listed.map_err(|error| error.to_string())?;
        Ok(self.policy.current().version().to_owned())
    }

    /// Records what the agent does: its start, its stop, the replacement of a key.
    pub(super) fn record(&self, state: AgentState, reason: &str) -> anyhow::Result<()> {
        let details = [
            ("version", Detail::Text(env!("CARGO_PKG_VERSION"))),
            ("key", Detail::Text(self.trail.key_fingerprint().unwrap_or_default())),
        ];
        self.trail.append(&Record::Agent(AgentRecord { state, reason, details: Details(&details) }))?;
        Ok(())
    }

    /// Records that kernel events were lost.
    pub(super) fn record_gap(&self, lost: u64) {
        let details = [("lost_events", Detail::Count(lost))];
        let reason = "the event ring was full; lineage was read from the maps instead";
        let record =
            Record::Agent(AgentRecord { state: AgentState::Gap, reason, details: Details(&details) });
        if let Err(error) = self.trail.append(&record) {
            tracing::error!(%error, lost, "a gap could not be recorded");
        }
    }
}
