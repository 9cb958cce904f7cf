//! Counters and gauges for Prometheus, and the listener that serves them.
//!
//! - [`declared`]: every metric, with its name, labels and help.
//! - [`register`]: how a declaration becomes a metric.
//! - [`listener`]: `GET /metrics`.

mod declared;
mod listener;
mod register;

pub use self::{
    declared::{Metrics, raise_to},
    listener::{bind, serve},
};
