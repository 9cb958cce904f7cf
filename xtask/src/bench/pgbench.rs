//! Measures pgbench's throughput, and the processor time that the whole machine spends on each of its
//! transactions. Each transaction here is one query.

use std::{fs, process::Command};

use anyhow::{Context, ensure};
use lineal_tests::{command::finish, postgres::program};

use super::contenders::{Contenders, Path};

/// A tick, in which the kernel counts processor time: `sysconf(_SC_CLK_TCK)` is 100 a second on every usual
/// Linux.
const TICK_US: f64 = 10_000.0;

/// How pgbench sends its queries.
#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Mode {
    /// As text, each in one message.
    Simple,
    /// Parsed once, then bound and executed.
    Prepared,
}

impl Mode {
    /// All that are measured.
    pub(super) const ALL: [Self; 2] = [Self::Simple, Self::Prepared];

    /// pgbench's own word for it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Simple => "simple",
            Self::Prepared => "prepared",
        }
    }
}

/// The result of one run.
pub(super) struct Run {
    /// Queries a second, the time for connecting not included.
    pub(super) per_second: f64,
    /// Processor time of the whole machine for one query.
    pub(super) cpu_us_per_query: f64,
}

/// Small queries, by this many clients at the same time.
pub(super) fn queries(
    contenders: &Contenders,
    path: Path,
    mode: Mode,
    clients: u32,
    seconds: u32,
) -> anyhow::Result<Run> {
    let (clients, threads) = (clients.to_string(), clients.min(2).to_string());
    let seconds = seconds.to_string();
    let load = ["--select-only", "--protocol", mode.name(), "--time", &seconds];
    pgbench(contenders, path, &[&load[..], &["--client", &clients, "--jobs", &threads]].concat())
}

/// One large result again and again: all accounts, which are a million rows at pgbench's scale of ten.
pub(super) fn result(contenders: &Contenders, path: Path, seconds: u32) -> anyhow::Result<Run> {
    let script = contenders.lab().directory().join("result.sql");
    fs::write(&script, "SELECT * FROM pgbench_accounts;\n")?;
    let script = script.to_str().context("the lab's directory is not text")?;
    pgbench(contenders, path, &["--file", script, "--time", &seconds.to_string()])
}

fn pgbench(contenders: &Contenders, path: Path, load: &[&str]) -> anyhow::Result<Run> {
    let pgbench = program("pgbench")?;
    let program = pgbench.to_str().context("pgbench's path is not text")?;
    let mut command = contenders.command(path, &[&[program, "--no-vacuum"], load].concat())?;
    measure(&mut command).with_context(|| format!("pgbench through {}", path.name()))
}

/// Runs a pgbench command and reads its figures.
fn measure(command: &mut Command) -> anyhow::Result<Run> {
    let before = busy_ticks()?;
    let output = finish(command)?.success()?;
    let busy = busy_ticks()? - before;
    let number = |label: &str| {
        let line = output.lines().find_map(|line| line.strip_prefix(label));
        let number = line.and_then(|rest| rest.trim().split(['/', ' ']).next()?.parse::<f64>().ok());
        number.with_context(|| format!("pgbench printed no {label:?}:\n{output}"))
    };
    let queries = number("number of transactions actually processed:")?;
    ensure!(queries > 0.0, "pgbench did nothing:\n{output}");
    Ok(Run { per_second: number("tps =")?, cpu_us_per_query: busy * TICK_US / queries })
}

/// Ticks since boot in which a processor worked, over all processors.
fn busy_ticks() -> anyhow::Result<f64> {
    let stat = fs::read_to_string("/proc/stat")?;
    let line =
        stat.lines().next().and_then(|line| line.strip_prefix("cpu ")).context("/proc/stat has no total")?;
    // proc_stat(5): user nice system idle iowait irq softirq steal.
    let fields: Vec<f64> = line.split_whitespace().filter_map(|field| field.parse().ok()).collect();
    match fields.as_slice() {
        [user, nice, system, _idle, _iowait, irq, softirq, ..] => Ok(user + nice + system + irq + softirq),
        _ => anyhow::bail!("/proc/stat is too short"),
    }
}
