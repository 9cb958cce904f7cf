//! The agent's own tasks: following kernel events, recording bundles, watching the list of revocations, and
//! housekeeping.

use std::{
    collections::HashSet,
    sync::Arc,
    time::{Duration, Instant},
};

use agent_abi::{EventKind, Refusal};
use agent_core::audit::record::{BundleRecord, BundleState, Record};
use tokio::time::interval;

use super::agent::Agent;
use crate::{ids::Id, kernel::EventStream};

/// How often the registry is compared with the kernel side's maps.
const RECONCILE: Duration = Duration::from_secs(5);
/// How long a redirected connection may wait in the kernel before its entry is dropped.
const FLOW_AGE_MAX: Duration = Duration::from_secs(120);

/// Hands the kernel side's events to the registry and the proxy.
pub(super) async fn follow(agent: Arc<Agent>, events: EventStream) {
    let handled = events
        .run(|event| {
            if event.kind == EventKind::Refused as u32 {
                let logged = agent.proxy.on_refused(event);
                if logged && event.detail == Refusal::Datagram as u64 {
                    // The process may have moved to a cgroup where its packets are not seen.
                    agent.cover([event.tgid]);
                }
            } else {
                agent.registry.on_event(event, Instant::now());
                let begins = event.kind == EventKind::Enrol as u32;
                agent.cover(begins.then_some(event.tgid));
                if begins || event.kind == EventKind::Fork as u32 {
                    let job = agent.registry.job(Id(event.job));
                    // The root may have ended by now. Then its first child shows which network namespace the
                    // job is in.
                    let homeless = job.filter(|job| begins || job.netns.get().is_none());
                    homeless.iter().for_each(|job| agent.serve(job, &[event.tgid]));
                }
            }
        })
        .await;
    if let Err(error) = handled {
        tracing::error!(%error, "kernel events cannot be read; the maps still are, every few seconds");
    }
}

/// Records each bundle that comes into force or is refused, the first one included.
pub(super) async fn record_bundles(agent: Arc<Agent>) {
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

/// Reads the configured list of revocations again when it changes.
pub(super) async fn watch_revocations(agent: Arc<Agent>) {
    if let Some(list) = agent.list.clone() {
        list.watch().await;
    }
}

/// Compares the registry with the kernel's maps, and drops what is no longer used, every few seconds.
pub(super) async fn keep_house(agent: Arc<Agent>) {
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
