//! What a bench comes to, for people and for programs.

use std::io::{self, Write};

use serde_json::{Map, Value, json};

use super::{
    Quantiles,
    connect::Memory,
    contenders::Path,
    cost::{Cost, Share},
    kernel::Event,
    revocation::Revocation,
};

/// What `lineal` must reach of `lineal-noaudit`'s throughput.
const AUDIT_SHARE_MIN: f64 = 0.9;
/// What a large result must reach of the direct way's throughput.
const RESULT_SHARE_MIN: f64 = 0.8;
/// What an idle session without TLS may take, in KiB.
const IDLE_KIB_MAX: f64 = 32.0;

/// What an event of a process in no job may take, in nanoseconds.
const EVENT_NS_MAX: f64 = 150.0;
/// How long access may take to end, in milliseconds.
const REVOCATION_MS_MAX: f64 = 250.0;

/// One path under one load.
pub(super) struct Row {
    pub(super) bench: &'static str,
    pub(super) tls: bool,
    pub(super) clients: u32,
    pub(super) path: Path,
    /// How fast it was, by the direct path of the same round.
    pub(super) ratio: f64,
    pub(super) costs: Costs,
}

/// What else was measured.
pub(super) enum Costs {
    /// Of the whole machine.
    CpuPerQuery { us: f64 },
    /// Of all sessions that were begun.
    Latency { p50_us: f64, p99_us: f64 },
}

/// The bench of sessions that begin.
pub(super) const CONNECT: &str = "connect";
/// The bench of one large result.
pub(super) const RESULT: &str = "result";

/// All that was measured.
#[derive(Default)]
pub(super) struct Report {
    pub(super) rows: Vec<Row>,
    pub(super) memory: Vec<(bool, Memory)>,
    pub(super) events: Vec<Event>,
    pub(super) cost: Option<Cost>,
    /// From the call of `lineal revoke` to a session's end.
    pub(super) revocations: Vec<Revocation>,
}

impl Report {
    /// For programs or for people.
    pub(super) fn print_as(&self, json: bool) -> io::Result<()> {
        if json { self.print_json() } else { self.print() }
    }

    /// One JSON object a line.
    fn print_json(&self) -> io::Result<()> {
        let mut out = io::stdout().lock();
        for row in &self.rows {
            let mut object = Map::new();
            object.insert("bench".into(), row.bench.into());
            object.insert("tls".into(), row.tls.into());
            object.insert("clients".into(), row.clients.into());
            object.insert("path".into(), row.path.name().into());
            object.insert("ratio".into(), rounded(row.ratio, 3));
            match row.costs {
                Costs::CpuPerQuery { us } => {
                    object.insert("cpu_us_per_query".into(), rounded(us, 1));
                }
                Costs::Latency { p50_us, p99_us } => {
                    object.insert("p50_us".into(), rounded(p50_us, 0));
                    object.insert("p99_us".into(), rounded(p99_us, 0));
                }
            }
            writeln!(out, "{}", Value::Object(object))?;
        }
        for (tls, memory) in &self.memory {
            let (idle, busy) = (rounded(memory.idle_kib, 1), rounded(memory.busy_kib, 1));
            let path = memory.path.name();
            let row =
                json!({"bench": "memory", "tls": tls, "path": path, "idle_kib": idle, "busy_kib": busy});
            writeln!(out, "{row}")?;
        }
        for event in &self.events {
            writeln!(out, "{}", event_json(event, 0))?;
        }
        for Revocation { busy, ms } in &self.revocations {
            let (p50, p99) = (rounded(ms.p50, 1), rounded(ms.p99, 1));
            let row = json!({"bench": "revocation", "busy": busy, "p50_ms": p50, "p99_ms": p99});
            writeln!(out, "{row}")?;
        }
        let Some(cost) = &self.cost else { return Ok(()) };
        for with in &cost.with_jobs {
            for event in &with.events {
                writeln!(out, "{}", event_json(event, with.jobs))?;
            }
            for (kind, us) in [("tagged", &with.tagged_us), ("untagged", &with.untagged_us)] {
                let (p50, p99) = (rounded(us.p50, 1), rounded(us.p99, 1));
                let row = json!({"bench": "syscall", "call": "connect", "process": kind, "jobs": with.jobs, "p50_us": p50, "p99_us": p99});
                writeln!(out, "{row}")?;
            }
            let (cpu, memory) = (rounded(with.idle_cpu_share, 4), rounded(with.memory_mib, 1));
            let row = json!({"bench": "idle", "jobs": with.jobs, "cpu_share": cpu, "memory_mib": memory});
            writeln!(out, "{row}")?;
            for share in &with.rates {
                writeln!(out, "{}", share_json(share, with.jobs))?;
            }
        }
        for share in &cost.rates {
            writeln!(out, "{}", share_json(share, 0))?;
        }
        Ok(())
    }

    /// Tables, and whether bars are met.
    fn print(&self) -> io::Result<()> {
        let mut out = io::stdout().lock();
        if !self.rows.is_empty() {
            writeln!(out, "{:<9} {:<5} {:>7}  {:<15} {:>6}", "load", "legs", "clients", "path", "ratio")?;
        }
        for Row { bench, tls, clients, path, ratio, costs } in &self.rows {
            write!(out, "{bench:<9} {:<5} {clients:>7}  {:<15} {ratio:>6.3}", legs(*tls), path.name())?;
            match costs {
                Costs::CpuPerQuery { us } => writeln!(out, "  {us:>10.1} µs CPU/query")?,
                Costs::Latency { p50_us, p99_us } => {
                    writeln!(out, "  p50 {p50_us:.0} µs, p99 {p99_us:.0} µs")?;
                }
            }
        }
        for (tls, Memory { path, idle_kib, busy_kib }) in &self.memory {
            let (legs, path) = (legs(*tls), path.name());
            writeln!(
                out,
                "a session's memory, {legs}, {path}: idle {idle_kib:.1} KiB, busy {busy_kib:.1} KiB"
            )?;
        }
        print_events(&mut out, "", &self.events)?;
        if let Some(cost) = &self.cost {
            print_cost(&mut out, cost)?;
        }
        for Revocation { busy, ms: Quantiles { p50, p99 } } in &self.revocations {
            writeln!(
                out,
                "access ends, {busy} sessions busy: p50 {p50:.0} ms, p99 {p99:.0} ms after the call"
            )?;
        }
        for bar in self.bars() {
            writeln!(out, "{bar}")?;
        }
        Ok(())
    }

    /// Whether each bar is met, in words.
    fn bars(&self) -> Vec<String> {
        let rows = self.rows.iter().filter(|row| row.path == Path::Direct).flat_map(|row| {
            let of = |path: Path| {
                self.rows
                    .iter()
                    .find(|other| {
                        (other.bench, other.tls, other.clients, other.path)
                            == (row.bench, row.tls, row.clients, path)
                    })
                    .map_or(f64::NAN, |other| other.ratio)
            };
            let place = format!("{}, {}, {} clients", row.bench, legs(row.tls), row.clients);
            let (audited, bare) = (of(Path::Lineal), of(Path::LinealNoaudit));
            match row.bench {
                CONNECT => vec![],
                RESULT => vec![at_least(&format!("{place}: lineal"), audited, RESULT_SHARE_MIN)],
                _ => vec![
                    at_least(&format!("{place}: lineal-noaudit, pgbouncer"), bare, of(Path::Pgbouncer)),
                    at_least(&format!("{place}: lineal by lineal-noaudit"), audited / bare, AUDIT_SHARE_MIN),
                ],
            }
        });
        let memory = self.memory.iter().filter(|(tls, memory)| !tls && memory.path == Path::Lineal);
        let memory = memory.map(|(_, Memory { idle_kib, .. })| {
            let met = *idle_kib <= IDLE_KIB_MAX;
            verdict(met, &format!("an idle session: {idle_kib:.1} KiB, at most {IDLE_KIB_MAX:.1}"))
        });
        let events = self.cost.iter().flat_map(|cost| &cost.with_jobs).flat_map(|with| {
            with.events.iter().map(|Event { name, nanoseconds, .. }| {
                let what = format!("an untagged {name}, {} jobs: {nanoseconds:.0} ns", with.jobs);
                verdict(*nanoseconds <= EVENT_NS_MAX, &format!("{what}, at most {EVENT_NS_MAX:.0}"))
            })
        });
        let revocation = self.revocations.iter().map(|Revocation { busy, ms: Quantiles { p99, .. } }| {
            let what =
                format!("access ends, {busy} sessions busy: p99 {p99:.0} ms, below {REVOCATION_MS_MAX:.0}");
            verdict(*p99 < REVOCATION_MS_MAX, &what)
        });
        rows.chain(memory).chain(events).chain(revocation).collect()
    }
}

fn event_json(event: &Event, jobs: usize) -> Value {
    let ns = rounded(event.nanoseconds, 0);
    let runs = rounded(event.runs, 1);
    json!({"bench": "kernel", "event": event.name, "jobs": jobs, "ns_per_event": ns, "events": event.count, "runs_per_event": runs})
}

fn share_json(share: &Share, jobs: usize) -> Value {
    let Share { name, mean, half_width, rounds } = share;
    let (mean, half) = (rounded(*mean, 4), rounded(*half_width, 4));
    json!({"bench": "rate", "operation": name, "jobs": jobs, "ratio": mean, "ratio_ci95": half, "rounds": rounds})
}

fn print_cost(out: &mut impl Write, cost: &Cost) -> io::Result<()> {
    for with in &cost.with_jobs {
        writeln!(out, "with {} live jobs:", with.jobs)?;
        print_events(out, "  ", &with.events)?;
        for (kind, Quantiles { p50, p99 }) in [("a job's", &with.tagged_us), ("another's", &with.untagged_us)]
        {
            writeln!(out, "  {kind} connect: p50 {p50:.0} µs, p99 {p99:.0} µs")?;
        }
        let (cpu, memory) = (with.idle_cpu_share * 100.0, with.memory_mib);
        writeln!(out, "  the agent at rest: {cpu:.2} % of a processor, {memory:.1} MiB")?;
        print_shares(out, "  ", &with.rates)?;
    }
    print_shares(out, "", &cost.rates)
}

fn print_events(out: &mut impl Write, indent: &str, events: &[Event]) -> io::Result<()> {
    for Event { name, nanoseconds, count, runs } in events {
        let each = nanoseconds / runs.max(1.0);
        writeln!(
            out,
            "{indent}an untagged {name}: {nanoseconds:.0} ns, the mean of {count}; {runs:.1} runs of a program, {each:.0} ns each"
        )?;
    }
    Ok(())
}

fn print_shares(out: &mut impl Write, indent: &str, shares: &[Share]) -> io::Result<()> {
    for Share { name, mean, half_width, rounds } in shares {
        writeln!(
            out,
            "{indent}{name}, attached by detached: {mean:.3} ± {half_width:.3} (95 %, {rounds} rounds)"
        )?;
    }
    Ok(())
}

/// What was not measured is not a number, and meets no bar.
fn at_least(what: &str, got: f64, bar: f64) -> String {
    verdict(got >= bar, &format!("{what}: {got:.3}, at least {bar:.3}"))
}

fn verdict(met: bool, text: &str) -> String {
    format!("{}  {text}", if met { "pass       " } else { "FALLS SHORT" })
}

fn legs(tls: bool) -> &'static str {
    if tls { "TLS" } else { "plain" }
}

fn rounded(value: f64, digits: i32) -> Value {
    let scale = 10_f64.powi(digits);
    json!((value * scale).round() / scale)
}
