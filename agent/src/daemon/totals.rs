//! Copies totals that are kept elsewhere into the metrics, before each scrape.

use std::sync::atomic::Ordering;

use super::agent::Agent;
use crate::{kernel::refusals, metrics::raise_to};

impl Agent {
    /// Brings the metrics up to date.
    pub(super) fn refresh_metrics(&self) {
        let (jobs, processes, places) = self.registry.sizes();
        self.metrics.jobs.set(jobs as i64);
        self.metrics.processes.set(processes as i64);
        self.metrics.places.set(places as i64);
        let refused = self.list.as_ref().and_then(|list| list.last_error());
        self.metrics.revocation_list_refused.set(i64::from(refused.is_some()));
        self.refresh_kernel_metrics();
        self.refresh_audit_metrics();
    }

    fn refresh_kernel_metrics(&self) {
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
    }

    fn refresh_audit_metrics(&self) {
        let audit = self.trail.metrics();
        raise_to(&self.metrics.audit_records, audit.records.load(Ordering::Relaxed));
        raise_to(&self.metrics.audit_bytes, audit.bytes.load(Ordering::Relaxed));
        raise_to(&self.metrics.audit_errors, audit.errors.load(Ordering::Relaxed));
        raise_to(&self.metrics.audit_sync_errors, audit.sync_errors.load(Ordering::Relaxed));
        raise_to(&self.metrics.audit_deferred_full, audit.deferred_full.load(Ordering::Relaxed));
    }
}
