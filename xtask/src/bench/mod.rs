//! `cargo xtask bench`: what lineal costs, against no proxy and against other proxies, in one run.
//!
//! Machines are noisy: paths take turns within each round, a path's ratio is that of its own round, and the
//! median of the rounds is told.

mod contenders;
mod kernel;
mod pgbench;

use std::io::{self, Write};

use clap::Args;
use lineal_tests::{Lab, LabOptions};
use serde_json::json;

use crate::{
    build::{self, Profile},
    say,
    setup::Purpose,
};
use contenders::{Contenders, Path};
use pgbench::{Mode, Run};

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

/// What `lineal` must reach of `lineal-noaudit`'s throughput.
const AUDIT_SHARE_MIN: f64 = 0.9;
/// Clients at a time.
const CLIENTS: [u32; 2] = [1, 8];

/// One row of the result.
struct Row {
    mode: Mode,
    clients: u32,
    path: Path,
    ratio: f64,
    cpu_us_per_query: f64,
}

/// Measures and prints.
pub(crate) fn bench(args: &BenchArgs) -> anyhow::Result<()> {
    build::agent(Purpose::Bench, Profile::Release)?;
    let lab = Lab::start(&LabOptions::default())?;
    say(format_args!("kernel side: untagged forks, execs and connects"));
    let events = kernel::measure(&lab)?;
    say(format_args!("pgbench: {} rounds of {} s, every path in each", args.rounds, args.seconds));
    let contenders = Contenders::start(lab)?;
    let mut rows = Vec::new();
    let clients = args.clients.map_or(CLIENTS.to_vec(), |clients| vec![clients]);
    for mode in Mode::ALL.into_iter().filter(|mode| args.mode.is_none_or(|only| only == *mode)) {
        for &clients in &clients {
            rows.extend(compare(&contenders, mode, clients, args)?);
        }
    }
    let mut out = io::stdout().lock();
    if args.json {
        for row in &rows {
            let Row { mode, clients, path, ratio, cpu_us_per_query } = row;
            let ratio = rounded(*ratio, 3);
            let cpu = rounded(*cpu_us_per_query, 1);
            writeln!(
                out,
                "{}",
                json!({"bench": mode.name(), "clients": clients, "path": path.name(), "ratio": ratio, "cpu_us_per_query": cpu})
            )?;
        }
        for event in &events {
            let ns = rounded(event.nanoseconds, 0);
            writeln!(
                out,
                "{}",
                json!({"bench": "kernel", "event": event.name, "ns_per_event": ns, "events": event.count})
            )?;
        }
        return Ok(());
    }
    writeln!(
        out,
        "{:<10} {:>7}  {:<16} {:>6} {:>14}",
        "pgbench -S", "clients", "path", "ratio", "CPU µs/query"
    )?;
    for row in &rows {
        writeln!(
            out,
            "{:<10} {:>7}  {:<16} {:>6.3} {:>14.1}",
            row.mode.name(),
            row.clients,
            row.path.name(),
            row.ratio,
            row.cpu_us_per_query
        )?;
    }
    writeln!(out, "\n{:<18} {:>9} {:>9}", "untagged event", "ns/event", "events")?;
    for event in &events {
        writeln!(out, "{:<18} {:>9.0} {:>9}", event.name, event.nanoseconds, event.count)?;
    }
    writeln!(out)?;
    for verdict in verdicts(&rows) {
        writeln!(out, "{verdict}")?;
    }
    Ok(())
}

/// All paths in one row, taking turns.
fn compare(contenders: &Contenders, mode: Mode, clients: u32, args: &BenchArgs) -> anyhow::Result<Vec<Row>> {
    let asked = |path: &Path| *path == Path::Direct || args.paths.is_empty() || args.paths.contains(path);
    let paths: Vec<Path> = Path::ALL.into_iter().filter(asked).collect();
    let mut runs: Vec<Vec<Run>> = paths.iter().map(|_| Vec::new()).collect();
    for round in 0..args.rounds {
        say(format_args!("{}, {clients} clients: round {} of {}", mode.name(), round + 1, args.rounds));
        for turn in 0..paths.len() {
            // Another path begins each round, so that none always follows the same one.
            let index = (round + turn) % paths.len();
            if let (Some(path), Some(runs)) = (paths.get(index), runs.get_mut(index)) {
                runs.push(contenders.run(*path, mode, clients, args.seconds)?);
            }
        }
    }
    let direct: Vec<f64> = runs.first().into_iter().flatten().map(|run| run.per_second).collect();
    Ok(paths
        .into_iter()
        .zip(&runs)
        .map(|(path, runs)| Row {
            mode,
            clients,
            path,
            ratio: median(runs.iter().zip(&direct).map(|(run, direct)| run.per_second / direct)),
            cpu_us_per_query: median(runs.iter().map(|run| run.cpu_us_per_query)),
        })
        .collect())
}

/// Whether each row meets its bars.
fn verdicts(rows: &[Row]) -> Vec<String> {
    let find = |row: &Row, path: Path| {
        rows.iter()
            .find(|other| other.mode == row.mode && other.clients == row.clients && other.path == path)
            .map_or(f64::NAN, |other| other.ratio)
    };
    let tell = |row: &Row, what: &str, got: f64, bar: f64| {
        let place = format!("{}, {} clients", row.mode.name(), row.clients);
        // Not `got < bar`: what was not measured does not pass.
        if got >= bar {
            format!("pass         {place}: {what} {got:.3}, bar {bar:.3}")
        } else {
            format!(
                "FALLS SHORT  {place}: {what} {got:.3}, bar {bar:.3}, by {:.1} %",
                (1.0 - got / bar) * 100.0
            )
        }
    };
    rows.iter()
        .filter(|row| row.path == Path::Direct)
        .flat_map(|row| {
            let (audited, bare) = (find(row, Path::Lineal), find(row, Path::LinealNoaudit));
            [
                tell(row, "lineal-noaudit against pgbouncer:", bare, find(row, Path::Pgbouncer)),
                tell(row, "lineal against lineal-noaudit:", audited / bare, AUDIT_SHARE_MIN),
            ]
        })
        .collect()
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    let at = |index: usize| values.get(index).copied().unwrap_or(f64::NAN);
    if values.len().is_multiple_of(2) { (at(middle.wrapping_sub(1)) + at(middle)) / 2.0 } else { at(middle) }
}

fn rounded(value: f64, digits: i32) -> f64 {
    let scale = 10_f64.powi(digits);
    (value * scale).round() / scale
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
}
