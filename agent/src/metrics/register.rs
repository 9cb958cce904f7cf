//! Makes metrics of declarations, and registers them.

use prometheus::{
    Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
    core::Collector,
};

/// A kind of metric that can be declared by its name, help and labels.
pub(super) trait Metric: Collector + Clone + Sized + 'static {
    /// Makes one that isn't registered yet. Kinds whose name ends in `Vec` take labels, the others none.
    fn make(name: &str, help: &str, labels: &[&str]) -> Result<Self, prometheus::Error>;
}

impl Metric for IntGauge {
    fn make(name: &str, help: &str, _: &[&str]) -> Result<Self, prometheus::Error> {
        Self::new(name, help)
    }
}

impl Metric for IntGaugeVec {
    fn make(name: &str, help: &str, labels: &[&str]) -> Result<Self, prometheus::Error> {
        Self::new(Opts::new(name, help), labels)
    }
}

impl Metric for IntCounter {
    fn make(name: &str, help: &str, _: &[&str]) -> Result<Self, prometheus::Error> {
        Self::new(name, help)
    }
}

impl Metric for IntCounterVec {
    fn make(name: &str, help: &str, labels: &[&str]) -> Result<Self, prometheus::Error> {
        Self::new(Opts::new(name, help), labels)
    }
}

/// Of durations in seconds: buckets from 0.1 ms to 26 s, each four times the one before.
impl Metric for Histogram {
    fn make(name: &str, help: &str, _: &[&str]) -> Result<Self, prometheus::Error> {
        let buckets = prometheus::exponential_buckets(0.000_1, 4.0, 10)?;
        Self::with_opts(HistogramOpts::new(name, help).buckets(buckets))
    }
}

/// Makes a metric and registers it.
pub(super) fn register<M: Metric>(
    registry: &Registry,
    name: &str,
    help: &str,
    labels: &[&str],
) -> Result<M, prometheus::Error> {
    let metric = M::make(name, help, labels)?;
    registry.register(Box::new(metric.clone()))?;
    Ok(metric)
}

/// Declares a struct of metrics, with a function `register` that makes and registers them all.
macro_rules! metrics {
    (
        $(#[$about:meta])*
        $name:ident;
        $($visibility:vis $field:ident: $kind:ident = $metric:literal {$($label:literal),*} $help:literal;)*
    ) => {
        $(#[$about])*
        pub struct $name {
            registry: Registry,
            $(
                #[doc = concat!("`", $metric, "`: ", $help)]
                $visibility $field: $kind,
            )*
        }

        impl $name {
            fn register() -> Result<Self, prometheus::Error> {
                let registry = Registry::new();
                Ok(Self {
                    $($field: register(&registry, $metric, $help, &[$($label),*])?,)*
                    registry,
                })
            }
        }
    };
}
pub(super) use metrics;
