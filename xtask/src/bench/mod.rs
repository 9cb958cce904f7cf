//! `cargo xtask bench`: what lineal costs, compared with no proxy and with other proxies, in one run.
//!
//! Machines are noisy. So the paths to the server take turns within each round, each is compared with the
//! direct path of the same round, and the median over all rounds is reported.

mod connect;
mod contenders;
mod cost;
mod json;
mod kernel;
mod pgbench;
mod report;
mod requirements;
mod revocation;
mod statistics;
mod tables;

use clap::{Args, ValueEnum};
use contenders::{Contenders, Path};
use pgbench::{Mode, Run};
use report::{Costs, Report, Row};
use statistics::{median, quantile};

use crate::{
    build::{self, Profile},
    setup::Purpose,
    shell::say,
};

/// How long and how often to measure.
#[derive(Args)]
pub(crate) struct BenchArgs {
    /// Print one JSON object for each row.
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
    /// Only with legs of this kind.
    #[arg(long, value_enum)]
    legs: Option<Legs>,
    /// Only this way of sending queries.
    #[arg(long, value_enum)]
    mode: Option<Mode>,
    /// Only with this many clients.
    #[arg(long)]
    clients: Option<u32>,
    /// Only these paths to the server, and the direct one.
    #[arg(long, value_enum, value_delimiter = ',')]
    paths: Vec<Path>,
}

/// What can be measured.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Measurement {
    /// What processes outside every job pay in the kernel.
    Kernel,
    /// Small queries.
    Queries,
    /// A result of a million rows.
    Result,
    /// How long a session takes to begin.
    Connect,
    /// How much memory a session takes.
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

/// How many clients send queries at the same time.
const CLIENTS: [u32; 2] = [1, 8];

impl BenchArgs {
    fn wants(&self, measurement: Measurement) -> bool {
        self.only.is_empty() || self.only.contains(&measurement)
    }

    fn print(&self, report: &Report) -> anyhow::Result<()> {
        Ok(if self.json { json::print(report) } else { tables::print(report) }?)
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
        return args.print(&report);
    }
    for (legs, tls) in [(Legs::Plain, false), (Legs::Tls, true)] {
        if args.legs.is_none_or(|only| only == legs) {
            measure(args, tls, &mut report)?;
        }
    }
    args.print(&report)
}

/// Runs every wanted measurement that compares paths, with legs of this kind.
fn measure(args: &BenchArgs, tls: bool, report: &mut Report) -> anyhow::Result<()> {
    let mut contenders = Contenders::start(tls)?;
    if args.wants(Measurement::Kernel) && !tls {
        say(format_args!("in the kernel: forks, execs and connects outside every job"));
        report.events = kernel::measure(contenders.lab())?;
    }
    let paths = args.paths(tls);
    if args.wants(Measurement::Memory) {
        // First: memory that an earlier load left in the allocator is not part of a session's.
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
        report.rows.extend(throughput(report::RESULT, tls, 1, &runs));
    }
    if args.wants(Measurement::Connect) {
        say(format_args!("sessions that begin: {rounds} rounds"));
        let runs = in_turn(&paths, rounds, |path| connect::connect(&contenders, path))?;
        report.rows.extend(beginnings(tls, &runs));
    }
    Ok(())
}

/// Runs each path once in each round, and returns the results by path. Another path begins each round, so
/// that none always follows the same one.
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
            bench: report::CONNECT,
            tls,
            clients: 1,
            path: *path,
            ratio: median(runs.iter().zip(direct).map(|(run, direct)| middle(direct) / middle(run))),
            costs: Costs::Latency { p50_us: quantile(all(), 0.5), p99_us: quantile(all(), 0.99) },
        }
    };
    runs.iter().map(row).collect()
}
