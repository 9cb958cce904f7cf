//! Counters and gauges for Prometheus, and the listener that serves them.
//!
//! No label is unbounded: protocols, decisions and reasons are enumerations of this program, upstreams are
//! named by the bundle.

use std::{net::SocketAddr, sync::Arc};

use http_body_util::Full;
use hyper::{
    Method, Request, Response, StatusCode,
    body::{Bytes, Incoming},
    header::CONTENT_TYPE,
    service::service_fn,
};
use prometheus::{
    Encoder, Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
    TextEncoder,
};
use tokio::net::TcpListener;

use crate::bounds::Bound;

/// Scrapes served at once.
const SCRAPES_MAX: usize = 16;
/// How long accepting rests after it failed, as when descriptors ran out.
const ACCEPT_PAUSE: std::time::Duration = std::time::Duration::from_millis(100);
/// Seconds one scrape connection may live.
const SCRAPE_S: u64 = 5;

/// Everything that is counted.
pub struct Metrics {
    registry: Registry,
    /// `lineal_jobs`.
    pub jobs: IntGauge,
    /// `lineal_processes`.
    pub processes: IntGauge,
    /// `lineal_lineage_places`.
    pub places: IntGauge,
    /// `lineal_sessions{protocol}`.
    pub sessions: IntGaugeVec,
    /// `lineal_sessions_opened_total{protocol}`.
    pub sessions_opened: IntCounterVec,
    /// `lineal_decisions_total{protocol,decision}`.
    pub decisions: IntCounterVec,
    /// `lineal_connections_closed_total{reason}`: connections that never became a session.
    pub connections_closed: IntCounterVec,
    /// `lineal_sessions_ended_total{reason}`.
    pub sessions_ended: IntCounterVec,
    /// `lineal_enrolments_total{result}`.
    pub enrolments: IntCounterVec,
    /// `lineal_revocations_total`.
    pub revocations: IntCounter,
    /// `lineal_revocation_list_refused`.
    pub revocation_list_refused: IntGauge,
    /// `lineal_bundle_loads_total{result}`.
    pub bundle_loads: IntCounterVec,
    /// `lineal_command_duration_seconds`.
    pub command_duration: Histogram,
    /// `lineal_kernel_refusals_total{reason}`.
    pub kernel_refusals: IntCounterVec,
    /// `lineal_kernel_bounds_total{bound}`.
    pub kernel_bounds: IntCounterVec,
    /// `lineal_bounds_total{bound}`: see [`Bound`].
    bounds: IntCounterVec,
    /// `lineal_kernel_redirects_total`.
    pub kernel_redirects: IntCounter,
    /// `lineal_kernel_own_listener_total`.
    pub kernel_own_listener: IntCounter,
    /// `lineal_kernel_tasks`.
    pub kernel_tasks: IntGauge,
    /// `lineal_kernel_orphans`.
    pub kernel_orphans: IntGauge,
    /// `lineal_audit_records_total`.
    pub audit_records: IntCounter,
    /// `lineal_audit_bytes_total`.
    pub audit_bytes: IntCounter,
    /// `lineal_audit_errors_total`.
    pub audit_errors: IntCounter,
    /// `lineal_audit_sync_errors_total`.
    pub audit_sync_errors: IntCounter,
    /// `lineal_audit_deferred_full_total`: deferred records reached their bound and were written at once.
    pub audit_deferred_full: IntCounter,
}

impl Metrics {
    /// Registers everything.
    pub fn new() -> Result<Self, prometheus::Error> {
        let registry = Registry::new();
        let gauge = |name: &str, help: &str| -> Result<IntGauge, prometheus::Error> {
            let gauge = IntGauge::new(name, help)?;
            registry.register(Box::new(gauge.clone()))?;
            Ok(gauge)
        };
        let counter = |name: &str, help: &str| -> Result<IntCounter, prometheus::Error> {
            let counter = IntCounter::new(name, help)?;
            registry.register(Box::new(counter.clone()))?;
            Ok(counter)
        };
        let counters =
            |name: &str, help: &str, labels: &[&str]| -> Result<IntCounterVec, prometheus::Error> {
                let counters = IntCounterVec::new(Opts::new(name, help), labels)?;
                registry.register(Box::new(counters.clone()))?;
                Ok(counters)
            };
        let sessions = IntGaugeVec::new(Opts::new("lineal_sessions", "Open sessions."), &["protocol"])?;
        registry.register(Box::new(sessions.clone()))?;
        let buckets = prometheus::exponential_buckets(0.000_1, 4.0, 10)?;
        let command_duration = Histogram::with_opts(
            HistogramOpts::new(
                "lineal_command_duration_seconds",
                "From a command's forwarding to the end of its reply.",
            )
            .buckets(buckets),
        )?;
        registry.register(Box::new(command_duration.clone()))?;
        let build = IntGaugeVec::new(Opts::new("lineal_build_info", "The agent's version."), &["version"])?;
        registry.register(Box::new(build.clone()))?;
        build.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
        let bounds = counters("lineal_bounds_total", "Times a bound of the agent was reached.", &["bound"])?;
        // Each is there from the start: what has not been reached yet reads 0.
        for bound in Bound::ALL {
            bounds.with_label_values(&[bound.label()]);
        }
        Ok(Self {
            jobs: gauge("lineal_jobs", "Jobs followed.")?,
            processes: gauge("lineal_processes", "Processes followed.")?,
            places: gauge(
                "lineal_lineage_places",
                "Lineage places kept, those of ended processes included.",
            )?,
            sessions,
            sessions_opened: counters("lineal_sessions_opened_total", "Sessions opened.", &["protocol"])?,
            decisions: counters("lineal_decisions_total", "Decisions.", &["protocol", "decision"])?,
            connections_closed: counters(
                "lineal_connections_closed_total",
                "Connections that were closed before they became a session.",
                &["reason"],
            )?,
            sessions_ended: counters("lineal_sessions_ended_total", "Sessions ended.", &["reason"])?,
            enrolments: counters("lineal_enrolments_total", "Enrolments asked for.", &["result"])?,
            revocations: counter("lineal_revocations_total", "Revocations.")?,
            revocation_list_refused: gauge(
                "lineal_revocation_list_refused",
                "1 while what the list of revocations holds now is not in force.",
            )?,
            bundle_loads: counters("lineal_bundle_loads_total", "Policy bundles read.", &["result"])?,
            command_duration,
            kernel_refusals: counters(
                "lineal_kernel_refusals_total",
                "Sockets, connects and datagrams refused in the kernel.",
                &["reason"],
            )?,
            kernel_bounds: counters(
                "lineal_kernel_bounds_total",
                "Times a bound of the kernel side was reached.",
                &["bound"],
            )?,
            bounds,
            kernel_redirects: counter("lineal_kernel_redirects_total", "Connections redirected.")?,
            kernel_own_listener: counter(
                "lineal_kernel_own_listener_total",
                "Connections to a listener of the same job, let through.",
            )?,
            kernel_tasks: gauge(
                "lineal_kernel_tasks",
                "Processes followed, as the kernel side counts them.",
            )?,
            kernel_orphans: gauge(
                "lineal_kernel_orphans",
                "Processes of earlier agents' jobs, whose connects are refused until they end.",
            )?,
            audit_records: counter("lineal_audit_records_total", "Audit records written.")?,
            audit_bytes: counter("lineal_audit_bytes_total", "Audit bytes written.")?,
            audit_errors: counter("lineal_audit_errors_total", "Audit writes that failed.")?,
            audit_sync_errors: counter("lineal_audit_sync_errors_total", "Audit syncs that failed.")?,
            audit_deferred_full: counter(
                "lineal_audit_deferred_full_total",
                "Times that deferred audit records reached their bound.",
            )?,
            registry,
        })
    }

    /// Counts how often a bound was reached.
    pub fn bound(&self, bound: Bound) -> IntCounter {
        self.bounds.with_label_values(&[bound.label()])
    }

    fn render(&self) -> Result<Vec<u8>, prometheus::Error> {
        let mut text = Vec::new();
        TextEncoder::new().encode(&self.registry.gather(), &mut text)?;
        Ok(text)
    }
}

/// Sets a counter to a total that is kept elsewhere.
pub fn raise_to(counter: &IntCounter, total: u64) {
    counter.inc_by(total.saturating_sub(counter.get()));
}

/// Binds the metrics listener.
pub async fn bind(listen: SocketAddr) -> std::io::Result<TcpListener> {
    TcpListener::bind(listen).await
}

/// Serves `GET /metrics` until dropped; `refresh` brings kept-elsewhere totals in before each answer.
pub async fn serve(
    listener: TcpListener,
    metrics: Arc<Metrics>,
    refresh: impl Fn() + Clone + Send + 'static,
) {
    let slots = Arc::new(tokio::sync::Semaphore::new(SCRAPES_MAX));
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::error!(%error, "a scrape can't be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let Ok(slot) = Arc::clone(&slots).try_acquire_owned() else {
            metrics.bound(Bound::Scrapes).inc();
            continue;
        };
        let (metrics, refresh) = (Arc::clone(&metrics), refresh.clone());
        tokio::spawn(async move {
            let service = service_fn(move |request: Request<Incoming>| {
                refresh();
                let answer = answer(&metrics, &request);
                async move { answer }
            });
            let io = hyper_util::rt::TokioIo::new(stream);
            let connection = hyper::server::conn::http1::Builder::new().serve_connection(io, service);
            let _ = tokio::time::timeout(std::time::Duration::from_secs(SCRAPE_S), connection).await;
            drop(slot);
        });
    }
}

fn answer(
    metrics: &Metrics,
    request: &Request<Incoming>,
) -> Result<Response<Full<Bytes>>, hyper::http::Error> {
    let response = Response::builder();
    if request.uri().path() != "/metrics" {
        return response.status(StatusCode::NOT_FOUND).body(Full::from("see /metrics\n"));
    }
    if request.method() != Method::GET {
        return response.status(StatusCode::METHOD_NOT_ALLOWED).body(Full::from(""));
    }
    match metrics.render() {
        Ok(text) => response.header(CONTENT_TYPE, prometheus::TEXT_FORMAT).body(Full::from(text)),
        Err(error) => response.status(StatusCode::INTERNAL_SERVER_ERROR).body(Full::from(error.to_string())),
    }
}
