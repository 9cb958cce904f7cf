//! Prints a report for people: tables, sentences, and at the end which requirements are met.

use std::io::{self, Write};

use super::{
    connect::Memory,
    cost::{Cost, Share},
    kernel::Event,
    report::{Costs, Report, Row},
    requirements,
    revocation::Revocation,
    statistics::Quantiles,
};

/// Prints the whole report to standard output.
pub(super) fn print(report: &Report) -> io::Result<()> {
    let mut out = io::stdout().lock();
    if !report.rows.is_empty() {
        writeln!(out, "{:<9} {:<5} {:>7}  {:<15} {:>6}", "load", "legs", "clients", "path", "ratio")?;
    }
    for Row { bench, tls, clients, path, ratio, costs } in &report.rows {
        write!(out, "{bench:<9} {:<5} {clients:>7}  {:<15} {ratio:>6.3}", legs(*tls), path.name())?;
        match costs {
            Costs::CpuPerQuery { us } => writeln!(out, "  {us:>10.1} µs CPU/query")?,
            Costs::Latency { p50_us, p99_us } => {
                writeln!(out, "  p50 {p50_us:.0} µs, p99 {p99_us:.0} µs")?;
            }
        }
    }
    for (tls, Memory { path, idle_kib, busy_kib }) in &report.memory {
        let (legs, path) = (legs(*tls), path.name());
        writeln!(out, "a session's memory, {legs}, {path}: idle {idle_kib:.1} KiB, busy {busy_kib:.1} KiB")?;
    }
    events(&mut out, "", &report.events)?;
    if let Some(measured) = &report.cost {
        cost(&mut out, measured)?;
    }
    for Revocation { busy, ms: Quantiles { p50, p99 } } in &report.revocations {
        writeln!(out, "access ends, {busy} sessions busy: p50 {p50:.0} ms, p99 {p99:.0} ms after the call")?;
    }
    for requirement in requirements::check(report) {
        writeln!(out, "{requirement}")?;
    }
    Ok(())
}

/// Prints what a host pays, with each number of live jobs.
fn cost(out: &mut impl Write, cost: &Cost) -> io::Result<()> {
    for with in &cost.with_jobs {
        writeln!(out, "with {} live jobs:", with.jobs)?;
        events(out, "  ", &with.events)?;
        for (whose, Quantiles { p50, p99 }) in
            [("a job's", &with.tagged_us), ("another's", &with.untagged_us)]
        {
            writeln!(out, "  {whose} connect: p50 {p50:.0} µs, p99 {p99:.0} µs")?;
        }
        let (cpu, memory) = (with.idle_cpu_share * 100.0, with.memory_mib);
        writeln!(out, "  the agent at rest: {cpu:.2} % of a processor, {memory:.1} MiB")?;
        shares(out, "  ", &with.rates)?;
    }
    shares(out, "", &cost.rates)
}

/// Prints what events of processes outside every job cost.
fn events(out: &mut impl Write, indent: &str, events: &[Event]) -> io::Result<()> {
    for Event { name, nanoseconds, count, runs } in events {
        let each = nanoseconds / runs.max(1.0);
        writeln!(
            out,
            "{indent}an untagged {name}: {nanoseconds:.0} ns, the mean of {count}; \
             {runs:.1} runs of a program, {each:.0} ns each"
        )?;
    }
    Ok(())
}

/// Prints rates with lineal attached, each as a share of the rate with lineal detached.
fn shares(out: &mut impl Write, indent: &str, shares: &[Share]) -> io::Result<()> {
    for Share { name, mean, half_width, rounds } in shares {
        writeln!(
            out,
            "{indent}{name}, attached by detached: {mean:.3} ± {half_width:.3} (95 %, {rounds} rounds)"
        )?;
    }
    Ok(())
}

/// Whether a path's legs, the connections before and behind its proxy, are encrypted.
fn legs(tls: bool) -> &'static str {
    if tls { "TLS" } else { "plain" }
}
