//! The results of a bench, as they are printed.

use super::{connect::Memory, contenders::Path, cost::Cost, kernel::Event, revocation::Revocation};

/// One path under one load.
pub(super) struct Row {
    pub(super) bench: &'static str,
    pub(super) tls: bool,
    pub(super) clients: u32,
    pub(super) path: Path,
    /// Its speed as a share of the direct path's in the same round.
    pub(super) ratio: f64,
    pub(super) costs: Costs,
}

/// What else was measured.
pub(super) enum Costs {
    /// Processor time of the whole machine.
    CpuPerQuery { us: f64 },
    /// The time that a session takes to begin.
    Latency { p50_us: f64, p99_us: f64 },
}

/// The row of sessions that begin.
pub(super) const CONNECT: &str = "connect";
/// The row of one large result.
pub(super) const RESULT: &str = "result";

/// Everything that was measured.
#[derive(Default)]
pub(super) struct Report {
    pub(super) rows: Vec<Row>,
    /// Each with whether its legs were encrypted.
    pub(super) memory: Vec<(bool, Memory)>,
    pub(super) events: Vec<Event>,
    pub(super) cost: Option<Cost>,
    /// How long sessions went on after `lineal revoke` was called.
    pub(super) revocations: Vec<Revocation>,
}
