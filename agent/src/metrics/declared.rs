//! Every metric that the agent serves: its name, labels and help.
//!
//! A label's values must be few and known in advance, never what a job chooses: protocols, decisions,
//! reasons, results and bounds are enumerations of this program.

use prometheus::{
    Encoder, Histogram, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Registry, TextEncoder,
};

use super::register::{metrics, register};
use crate::bounds::Bound;

metrics! {
    /// All metrics of the agent.
    Metrics;

    build_info: IntGaugeVec = "lineal_build_info" {"version"} "The agent's version.";

    pub jobs: IntGauge = "lineal_jobs" {} "Jobs followed.";
    pub processes: IntGauge = "lineal_processes" {} "Processes followed.";
    pub places: IntGauge = "lineal_lineage_places" {}
        "Lineage places kept, those of ended processes included.";
    pub enrolments: IntCounterVec = "lineal_enrolments_total" {"result"} "Enrolments asked for.";
    pub revocations: IntCounter = "lineal_revocations_total" {} "Revocations.";
    pub revocation_list_refused: IntGauge = "lineal_revocation_list_refused" {}
        "1 while the revocation file has content that is refused and so not in force, else 0.";

    pub sessions: IntGaugeVec = "lineal_sessions" {"protocol"} "Open sessions.";
    pub sessions_opened: IntCounterVec = "lineal_sessions_opened_total" {"protocol"} "Sessions opened.";
    pub sessions_ended: IntCounterVec = "lineal_sessions_ended_total" {"reason"} "Sessions ended.";
    pub connections_closed: IntCounterVec = "lineal_connections_closed_total" {"reason"}
        "Connections that were closed before they became a session.";
    pub decisions: IntCounterVec = "lineal_decisions_total" {"protocol", "decision"} "Decisions.";
    pub command_duration: Histogram = "lineal_command_duration_seconds" {}
        "Seconds from the forwarding of a command to the end of its reply.";

    pub bundle_loads: IntCounterVec = "lineal_bundle_loads_total" {"result"} "Policy bundles read.";
    bounds: IntCounterVec = "lineal_bounds_total" {"bound"} "Times a bound of the agent was reached.";

    pub kernel_refusals: IntCounterVec = "lineal_kernel_refusals_total" {"reason"}
        "Sockets, connects and datagrams refused in the kernel.";
    pub kernel_bounds: IntCounterVec = "lineal_kernel_bounds_total" {"bound"}
        "Times a bound of the kernel side was reached.";
    pub kernel_redirects: IntCounter = "lineal_kernel_redirects_total" {} "Connections redirected.";
    pub kernel_own_listener: IntCounter = "lineal_kernel_own_listener_total" {}
        "Connections to a listener of the same job, let through.";
    pub kernel_tasks: IntGauge = "lineal_kernel_tasks" {}
        "Processes followed, as the kernel side counts them.";
    pub kernel_orphans: IntGauge = "lineal_kernel_orphans" {}
        "Processes of earlier agents' jobs, whose connects are refused until they end.";

    pub audit_records: IntCounter = "lineal_audit_records_total" {} "Audit records written.";
    pub audit_bytes: IntCounter = "lineal_audit_bytes_total" {} "Audit bytes written.";
    pub audit_errors: IntCounter = "lineal_audit_errors_total" {} "Audit writes that failed.";
    pub audit_sync_errors: IntCounter = "lineal_audit_sync_errors_total" {} "Audit syncs that failed.";
    pub audit_deferred_full: IntCounter = "lineal_audit_deferred_full_total" {}
        "Times that deferred audit records reached their bound and were written at once.";
}

impl Metrics {
    /// Makes and registers all metrics. Every bound is served from the start: one not reached yet reads 0.
    pub fn new() -> Result<Self, prometheus::Error> {
        let metrics = Self::register()?;
        metrics.build_info.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
        for bound in Bound::ALL {
            metrics.bound(bound);
        }
        Ok(metrics)
    }

    /// The counter of how often a bound was reached.
    pub fn bound(&self, bound: Bound) -> IntCounter {
        self.bounds.with_label_values(&[bound.label()])
    }

    /// All metrics, in Prometheus' text format.
    pub(super) fn render(&self) -> Result<Vec<u8>, prometheus::Error> {
        let mut text = Vec::new();
        TextEncoder::new().encode(&self.registry.gather(), &mut text)?;
        Ok(text)
    }
}

/// Raises a counter to a total that is kept elsewhere. A counter that is at the total or above it stays.
pub fn raise_to(counter: &IntCounter, total: u64) {
    counter.inc_by(total.saturating_sub(counter.get()));
}
