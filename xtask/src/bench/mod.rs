//! `cargo xtask bench`: what lineal costs, against no proxy and against other proxies, in one run.
//!
//! Machines are noisy: paths take turns within each round, a path's ratio is that of its own round, and the
//! median of the rounds is told.

mod connect;
mod contenders;
mod cost;
mod kernel;
mod pgbench;
mod revocation;
mod rows;

use clap::{Args, ValueEnum};
use contenders::{Contenders, Path};
use pgbench::{Mode, Run};
use rows::{Costs, Report, Row};

use crate::{
    build::{self, Profile},
    setup::Purpose,
    shell::say,
};

/// How long and how often to measure.
#[derive(Args)]
pub(crate) struct BenchArgs {
    /// Print one JSON object a row.
    #[arg(long)]
    json: bool,
    /// Rounds; each runs every path once in every row.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Seconds of one measurement.
    #[arg(long, default_value_t = 4)]
    seconds: u32,
    /// Only these measurements.
    #[arg(long, value_enum, value_delimiter = ',')]
    only: Vec<Measurement>,
    /// Only with these legs.
    #[arg(long, value_enum)]
    legs: Option<Legs>,
    /// Only this way of sending queries.
    #[arg(long, value_enum)]
    mode: Option<Mode>,
    /// Only so many clients.
    #[arg(long)]
    clients: Option<u32>,
    /// Only these ways to the server, beside the direct one.
    #[arg(long, value_enum, value_delimiter = ',')]
    paths: Vec<Path>,
}

/// What can be measured.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Measurement {
    /// What processes of no job pay in the kernel.
    Kernel,
    /// Small queries.
    Queries,
    /// A result of a million rows.
    Result,
    /// How long a session takes to begin.
    Connect,
    /// What a session's memory comes to.
    Memory,
    /// What a host pays, with one live job and with 10,000: some minutes.
    Cost,
    /// How fast access ends, with 1,000 open sessions.
    Revocation,
}

/// Whether a path's legs are encrypted.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Legs {
    /// None is.
    Plain,
    /// All are.
    Tls,
}

/// Clients at a time.
const CLIENTS: [u32; 2] = [1, 8];

impl BenchArgs {
    fn wants(&self, measurement: Measurement) -> bool {
        self.only.is_empty() || self.only.contains(&measurement)
    }

    fn paths(&self, tls: bool) -> Vec<Path> {
        let all = if tls { &Path::TLS[..] } else { &Path::ALL };
        let asked =
            |path: &&Path| **path == Path::Direct || self.paths.is_empty() || self.paths.contains(path);
        all.iter().filter(asked).copied().collect()
    }
}

/// Measures and prints.
pub(crate) fn bench(args: &BenchArgs) -> anyhow::Result<()> {
    build::agent(Purpose::Bench, Profile::Release)?;
    let mut report = Report::default();
    if args.wants(Measurement::Cost) {
        report.cost = Some(cost::measure(args.rounds.max(2))?);
    }
    if args.wants(Measurement::Revocation) {
        report.revocations = revocation::measure(args.rounds)?;
    }
    let alone = [Measurement::Cost, Measurement::Revocation];
    if !args.only.is_empty() && args.only.iter().all(|wanted| alone.contains(wanted)) {
        return Ok(report.print_as(args.json)?);
    }
    for (legs, tls) in [(Legs::Plain, false), (Legs::Tls, true)] {
        if args.legs.is_none_or(|only| only == legs) {
            measure(args, tls, &mut report)?;
        }
    }
    Ok(report.print_as(args.json)?)
}

/// Everything that was asked for, with these legs.
fn measure(args: &BenchArgs, tls: bool, report: &mut Report) -> anyhow::Result<()> {
    let mut contenders = Contenders::start(tls)?;
    if args.wants(Measurement::Kernel) && !tls {
        say(format_args!("kernel side: untagged forks, execs and connects"));
        report.events = kernel::measure(contenders.lab())?;
    }
    let paths = args.paths(tls);
    if args.wants(Measurement::Memory) {
        // First: what a load leaves behind in an allocator is not a session's.
        for path in [Path::Lineal, Path::Pgbouncer].into_iter().filter(|path| paths.contains(path)) {
            say(format_args!("memory: {}", path.name()));
            report.memory.push((tls, connect::memory(&mut contenders, path)?));
        }
    }
    let rounds = args.rounds;
    if args.wants(Measurement::Queries) {
        let clients = args.clients.map_or(CLIENTS.to_vec(), |clients| vec![clients]);
        for mode in Mode::ALL.into_iter().filter(|mode| args.mode.is_none_or(|only| only == *mode)) {
            for &clients in &clients {
                say(format_args!("{}, {clients} clients: {rounds} rounds", mode.name()));
                let runs = in_turn(&paths, rounds, |path| {
                    pgbench::queries(&contenders, path, mode, clients, args.seconds)
                })?;
                report.rows.extend(throughput(mode.name(), tls, clients, &runs));
            }
        }
    }
    if args.wants(Measurement::Result) {
        say(format_args!("a result of a million rows: {rounds} rounds"));
        let runs = in_turn(&paths, rounds, |path| pgbench::result(&contenders, path, args.seconds))?;
        report.rows.extend(throughput(rows::RESULT, tls, 1, &runs));
    }
    if args.wants(Measurement::Connect) {
        say(format_args!("sessions that begin: {rounds} rounds"));
        let runs = in_turn(&paths, rounds, |path| connect::connect(&contenders, path))?;
        report.rows.extend(beginnings(tls, &runs));
    }
    Ok(())
}

/// Each path, and what it came to in each round. Paths take turns, and another begins each round, so that none always
/// follows the same one.
fn in_turn<T>(
    paths: &[Path],
    rounds: usize,
    mut run: impl FnMut(Path) -> anyhow::Result<T>,
) -> anyhow::Result<Vec<(Path, Vec<T>)>> {
    let mut runs: Vec<(Path, Vec<T>)> = paths.iter().map(|path| (*path, Vec::new())).collect();
    for round in 0..rounds {
        for turn in 0..paths.len() {
            if let Some((path, runs)) = runs.get_mut((round + turn) % paths.len()) {
                runs.push(run(*path)?);
            }
        }
    }
    Ok(runs)
}

fn throughput(bench: &'static str, tls: bool, clients: u32, runs: &[(Path, Vec<Run>)]) -> Vec<Row> {
    let direct = runs.first().map(|(_, runs)| runs.as_slice()).unwrap_or_default();
    let row = |(path, runs): &(Path, Vec<Run>)| Row {
        bench,
        tls,
        clients,
        path: *path,
        ratio: median(runs.iter().zip(direct).map(|(run, direct)| run.per_second / direct.per_second)),
        costs: Costs::CpuPerQuery { us: median(runs.iter().map(|run| run.cpu_us_per_query)) },
    };
    runs.iter().map(row).collect()
}

fn beginnings(tls: bool, runs: &[(Path, Vec<Vec<f64>>)]) -> Vec<Row> {
    let middle = |run: &Vec<f64>| median(run.iter().copied());
    let direct = runs.first().map(|(_, runs)| runs.as_slice()).unwrap_or_default();
    let row = |(path, runs): &(Path, Vec<Vec<f64>>)| {
        let all = || runs.iter().flatten().copied();
        Row {
            bench: rows::CONNECT,
            tls,
            clients: 1,
            path: *path,
            ratio: median(runs.iter().zip(direct).map(|(run, direct)| middle(direct) / middle(run))),
            costs: Costs::Latency { p50_us: quantile(all(), 0.5), p99_us: quantile(all(), 0.99) },
        }
    };
    runs.iter().map(row).collect()
}

/// The middle and the slow end.
struct Quantiles {
    p50: f64,
    p99: f64,
}

impl Quantiles {
    fn of(values: &[f64]) -> Self {
        let at = |share| quantile(values.iter().copied(), share);
        Self { p50: at(0.5), p99: at(0.99) }
    }
}

/// The smallest value that this share of all values does not exceed.
fn quantile(values: impl Iterator<Item = f64>, share: f64) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    let rank = (share * values.len() as f64).ceil() as usize;
    values.get(rank.saturating_sub(1)).copied().unwrap_or(f64::NAN)
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    let at = |index: usize| values.get(index).copied().unwrap_or(f64::NAN);
    if values.len().is_multiple_of(2) { (at(middle.wrapping_sub(1)) + at(middle)) / 2.0 } else { at(middle) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle_or_the_mean_of_the_two_in_the_middle() {
        let check = |values: &[f64], expect: f64| assert_eq!(median(values.iter().copied()), expect);
        check(&[3.0, 1.0, 2.0], 2.0);
        check(&[4.0, 1.0, 2.0, 3.0], 2.5);
        check(&[7.0], 7.0);
        assert!(median([].into_iter()).is_nan());
    }

    #[test]
    fn a_quantile_is_one_of_the_values() {
        let values = || (1..=200).rev().map(f64::from);
        assert_eq!(quantile(values(), 0.5), 100.0);
        assert_eq!(quantile(values(), 0.99), 198.0);
        assert_eq!(quantile([7.0].into_iter(), 0.99), 7.0);
        assert!(quantile([].into_iter(), 0.5).is_nan());
    }
}
