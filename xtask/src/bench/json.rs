//! Prints a report for programs: one JSON object a line.

use std::io::{self, Write};

use serde_json::{Value, json};

use super::{
    connect::Memory,
    cost::{Share, WithJobs},
    kernel::Event,
    report::{Costs, Report, Row},
    revocation::Revocation,
    statistics::Quantiles,
};

/// Prints the whole report to standard output.
pub(super) fn print(report: &Report) -> io::Result<()> {
    let mut lines: Vec<Value> = report.rows.iter().map(row).collect();
    lines.extend(report.memory.iter().map(|(tls, measured)| memory(*tls, measured)));
    lines.extend(report.events.iter().map(|measured| event(measured, 0)));
    lines.extend(report.revocations.iter().map(revocation));
    if let Some(cost) = &report.cost {
        lines.extend(cost.with_jobs.iter().flat_map(with_jobs));
        lines.extend(cost.rates.iter().map(|measured| share(measured, 0)));
    }
    let mut out = io::stdout().lock();
    for line in lines {
        writeln!(out, "{line}")?;
    }
    Ok(())
}

fn row(row: &Row) -> Value {
    let (path, ratio) = (row.path.name(), rounded(row.ratio, 3));
    let mut line =
        json!({"bench": row.bench, "tls": row.tls, "clients": row.clients, "path": path, "ratio": ratio});
    let costs = match row.costs {
        Costs::CpuPerQuery { us } => vec![("cpu_us_per_query", rounded(us, 1))],
        Costs::Latency { p50_us, p99_us } => {
            vec![("p50_us", rounded(p50_us, 0)), ("p99_us", rounded(p99_us, 0))]
        }
    };
    if let Value::Object(line) = &mut line {
        line.extend(costs.into_iter().map(|(name, value)| (name.to_owned(), value)));
    }
    line
}

fn memory(tls: bool, memory: &Memory) -> Value {
    let (idle, busy) = (rounded(memory.idle_kib, 1), rounded(memory.busy_kib, 1));
    json!({"bench": "memory", "tls": tls, "path": memory.path.name(), "idle_kib": idle, "busy_kib": busy})
}

fn revocation(Revocation { busy, ms }: &Revocation) -> Value {
    json!({"bench": "revocation", "busy": busy, "p50_ms": rounded(ms.p50, 1), "p99_ms": rounded(ms.p99, 1)})
}

fn with_jobs(with: &WithJobs) -> Vec<Value> {
    let jobs = with.jobs;
    let connect = |process: &str, us: &Quantiles| {
        let (p50, p99) = (rounded(us.p50, 1), rounded(us.p99, 1));
        json!({
            "bench": "syscall", "call": "connect", "process": process, "jobs": jobs,
            "p50_us": p50, "p99_us": p99,
        })
    };
    let (cpu, memory) = (rounded(with.idle_cpu_share, 4), rounded(with.memory_mib, 1));
    let mut lines: Vec<Value> = with.events.iter().map(|measured| event(measured, jobs)).collect();
    lines.push(connect("tagged", &with.tagged_us));
    lines.push(connect("untagged", &with.untagged_us));
    lines.push(json!({"bench": "idle", "jobs": jobs, "cpu_share": cpu, "memory_mib": memory}));
    lines.extend(with.rates.iter().map(|measured| share(measured, jobs)));
    lines
}

fn event(event: &Event, jobs: usize) -> Value {
    let (ns, runs) = (rounded(event.nanoseconds, 0), rounded(event.runs, 1));
    json!({
        "bench": "kernel", "event": event.name, "jobs": jobs,
        "ns_per_event": ns, "events": event.count, "runs_per_event": runs,
    })
}

fn share(share: &Share, jobs: usize) -> Value {
    let (mean, half_width) = (rounded(share.mean, 4), rounded(share.half_width, 4));
    json!({
        "bench": "rate", "operation": share.name, "jobs": jobs,
        "ratio": mean, "ratio_ci95": half_width, "rounds": share.rounds,
    })
}

fn rounded(value: f64, digits: i32) -> Value {
    let scale = 10_f64.powi(digits);
    json!((value * scale).round() / scale)
}
