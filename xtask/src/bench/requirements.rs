//! How fast lineal must be, and whether it is.

use super::{
    connect::Memory,
    contenders::Path,
    kernel::Event,
    report::{CONNECT, RESULT, Report, Row},
    revocation::Revocation,
    statistics::Quantiles,
};

/// The share of `lineal-noaudit`'s throughput that `lineal` must reach.
const AUDIT_SHARE_MIN: f64 = 0.9;
/// The share of the direct path's throughput that `lineal` must reach with a large result.
const RESULT_SHARE_MIN: f64 = 0.8;
/// The most memory that an idle session without TLS may take, in KiB.
const IDLE_KIB_MAX: f64 = 32.0;
/// The most time that an event may cost a process outside every job, in nanoseconds.
const EVENT_NS_MAX: f64 = 150.0;
/// The most time that a session may go on after a revocation, in milliseconds.
const REVOCATION_MS_MAX: f64 = 250.0;

/// For everything that was measured, whether it is as good as it must be: a line each.
pub(super) fn check(report: &Report) -> Vec<String> {
    let direct = report.rows.iter().filter(|row| row.path == Path::Direct);
    let throughput = direct.flat_map(|row| throughput(report, row));
    let memory = report.memory.iter().filter(|(tls, memory)| !tls && memory.path == Path::Lineal);
    let memory = memory.map(|(_, Memory { idle_kib, .. })| {
        let what = format!("an idle session: {idle_kib:.1} KiB, at most {IDLE_KIB_MAX:.1}");
        line(*idle_kib <= IDLE_KIB_MAX, &what)
    });
    let events = report.cost.iter().flat_map(|cost| &cost.with_jobs).flat_map(|with| {
        with.events.iter().map(|Event { name, nanoseconds, .. }| {
            let what = format!("an untagged {name}, {} jobs: {nanoseconds:.0} ns", with.jobs);
            line(*nanoseconds <= EVENT_NS_MAX, &format!("{what}, at most {EVENT_NS_MAX:.0}"))
        })
    });
    let revocations = report.revocations.iter().map(|Revocation { busy, ms: Quantiles { p99, .. } }| {
        let what =
            format!("access ends, {busy} sessions busy: p99 {p99:.0} ms, below {REVOCATION_MS_MAX:.0}");
        line(*p99 < REVOCATION_MS_MAX, &what)
    });
    throughput.chain(memory).chain(events).chain(revocations).collect()
}

/// The requirements of one load, given by the direct path's row.
fn throughput(report: &Report, direct: &Row) -> Vec<String> {
    let load = |row: &Row| (row.bench, row.tls, row.clients);
    let ratio = |path: Path| {
        let row = report.rows.iter().find(|row| load(row) == load(direct) && row.path == path);
        row.map_or(f64::NAN, |row| row.ratio)
    };
    let legs = if direct.tls { "TLS" } else { "plain" };
    let what = format!("{}, {legs}, {} clients", direct.bench, direct.clients);
    let (audited, bare) = (ratio(Path::Lineal), ratio(Path::LinealNoaudit));
    match direct.bench {
        CONNECT => vec![],
        RESULT => vec![at_least(&format!("{what}: lineal"), audited, RESULT_SHARE_MIN)],
        _ => vec![
            at_least(&format!("{what}: lineal-noaudit, pgbouncer"), bare, ratio(Path::Pgbouncer)),
            at_least(&format!("{what}: lineal by lineal-noaudit"), audited / bare, AUDIT_SHARE_MIN),
        ],
    }
}

/// A value that was not measured is NaN, and meets no requirement.
fn at_least(what: &str, got: f64, least: f64) -> String {
    line(got >= least, &format!("{what}: {got:.3}, at least {least:.3}"))
}

fn line(met: bool, what: &str) -> String {
    format!("{}  {what}", if met { "pass       " } else { "FALLS SHORT" })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::report::Costs;

    fn check(rows: &[(&'static str, Path, f64)], expect: &[&str]) {
        let row = |(bench, path, ratio): &(&'static str, Path, f64)| {
            let costs = Costs::CpuPerQuery { us: 0.0 };
            Row { bench, tls: false, clients: 1, path: *path, ratio: *ratio, costs }
        };
        let report = Report { rows: rows.iter().map(row).collect(), ..Report::default() };
        let words: Vec<String> =
            super::check(&report).iter().map(|line| line.split("  ").next().unwrap().to_owned()).collect();
        assert_eq!(words, expect);
    }

    #[test]
    fn a_path_that_was_not_measured_meets_no_requirement() {
        check(&[("result", Path::Direct, 1.0), ("result", Path::Lineal, 0.9)], &["pass"]);
        check(&[("result", Path::Direct, 1.0), ("result", Path::Lineal, 0.7)], &["FALLS SHORT"]);
        check(&[("result", Path::Direct, 1.0)], &["FALLS SHORT"]);
        check(
            &[("simple", Path::Direct, 1.0), ("simple", Path::Lineal, 0.9)],
            &["FALLS SHORT", "FALLS SHORT"],
        );
        check(&[("connect", Path::Direct, 1.0)], &[]);
    }
}
