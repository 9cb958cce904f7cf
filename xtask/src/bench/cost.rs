//! What a host pays for lineal: its processes that are in no job, its jobs' connections, the agent at rest, with one live
//! job and with many.

use std::{
    fs,
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use lineal_tests::{Lab, LabOptions, command::finish, script::PYTHON};

use super::{
    Quantiles,
    kernel::{self, Event},
};
use crate::shell::say;

/// Live jobs while everything is measured.
const JOBS: [usize; 2] = [1, 10_000];
/// How long the agent is watched at rest.
const AT_REST: Duration = Duration::from_secs(10);
/// How long anything may take to get ready.
const PATIENCE: Duration = Duration::from_secs(300);

/// Whole operations a second, by processes of no job.
const RATES: &str = r#"
import os, socket, time
begun = time.perf_counter()
for _ in range(1000):
    os.waitpid(os.posix_spawn("/bin/true", ["true"], {}), 0)
spawned = time.perf_counter()
with socket.create_server(("127.0.0.1", 0)) as server:
    address = server.getsockname()
    for _ in range(5000):
        with socket.create_connection(address):
            server.accept()[0].close()
print(1000 / (spawned - begun), 5000 / (time.perf_counter() - spawned))
"#;
/// How long `connect` takes, in microseconds, one after another.
const CONNECT: &str = r#"
import socket, sys, time
for _ in range(1000):
    with socket.socket() as stream:
        begun = time.perf_counter()
        stream.connect(("127.0.0.1", int(sys.argv[1])))
        print((time.perf_counter() - begun) * 1e6)
"#;
/// Accepts and closes.
const ACCEPT: &str = r#"
import socket, sys, threading
server = socket.create_server(("127.0.0.1", 0), backlog=1024)
print(server.getsockname()[1], flush=True)
def accept():
    while True:
        server.accept()[0].close()
threading.Thread(target=accept, daemon=True).start()
sys.stdin.read()
"#;
/// Processes that each begin a job in a cgroup: they join it before they execute.
const MANY: &str = r#"
import os, signal, sys
cgroup, count = sys.argv[1], int(sys.argv[2])
children = []
for _ in range(count):
    child = os.fork()
    if child == 0:
        with open(cgroup + "/cgroup.procs", "w") as procs:
            procs.write("0")
        os.execv("/bin/sleep", ["sleep", "infinity"])
    children.append(child)
print("begun", flush=True)
sys.stdin.read()
for child in children:
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
"#;
/// Everything, with so many live jobs.
pub(super) struct WithJobs {
    pub(super) jobs: usize,
    /// What processes of no job pay for each event.
    pub(super) events: Vec<Event>,
    /// Of one processor, while nothing happens.
    pub(super) idle_cpu_share: f64,
    pub(super) memory_mib: f64,
    /// `connect` of a job's process, and of one of no job.
    pub(super) tagged_us: Quantiles,
    pub(super) untagged_us: Quantiles,
    /// As [`Cost::rates`], with so many live jobs.
    pub(super) rates: Vec<Share>,
}

/// A rate with lineal attached as a share of that without, with the half-width of its 95 % interval.
pub(super) struct Share {
    pub(super) name: &'static str,
    pub(super) mean: f64,
    pub(super) half_width: f64,
    pub(super) rounds: usize,
}

/// All of it.
pub(super) struct Cost {
    pub(super) with_jobs: Vec<WithJobs>,
    pub(super) rates: Vec<Share>,
}

/// Measures on a lab of its own, whose agent follows a unit by rule.
pub(super) fn measure(rounds: usize) -> anyhow::Result<Cost> {
    let unit = format!("lineal-bench-{}.service", std::process::id());
    let agent_config = format!("[[enrol]]\nname = \"runner\"\nunit = \"{unit}\"\n");
    let mut lab = Lab::start(&LabOptions { agent_config, ..LabOptions::default() })?;
    let mut server = lab.converse("accept", Command::new(PYTHON).args(["-c", ACCEPT]))?;
    let port = server.line(PATIENCE)?;
    lab.set_upstreams(&format!(
        "[[upstream]]\nname = \"accept\"\nprotocol = \"tcp\"\naddresses = [\"127.0.0.1:{port}\"]\n{}",
        lab.shop()
    ))?;
    lab.allow_all()?;
    let cgroup = lab.cgroup().path().join(&unit);
    fs::create_dir(&cgroup)?;

    say(format_args!("whole operations, attached and detached: {rounds} rounds"));
    let rates = rates(&mut lab, rounds)?;
    let mut with_jobs = Vec::new();
    for jobs in JOBS {
        say(format_args!("with {jobs} live jobs"));
        let mut many = Command::new(PYTHON);
        many.args(["-c", MANY]).arg(&cgroup).arg(jobs.to_string());
        let mut many = lab.converse("many", &many)?;
        ensure!(many.line(PATIENCE)? == "begun", "not every job has begun");
        lab.agent()?.wait_for_status(|status| status.get("jobs") == Some(&jobs.into()))?;
        let mut measured = with(&mut lab, jobs, &port)?;
        // Detached, what they are is no job any more, and can't be again: so one after the other, not in turn.
        let attached = (0..rounds).map(|_| rate(&lab)).collect::<anyhow::Result<Vec<_>>>()?;
        let detached = without(&mut lab, |lab| {
            let detached = (0..rounds).map(|_| rate(lab)).collect::<anyhow::Result<Vec<_>>>()?;
            many.hang_up();
            many.wait(PATIENCE)?;
            Ok(detached)
        })?;
        measured.rates = shares(&attached, &detached);
        with_jobs.push(measured);
    }
    Ok(Cost { with_jobs, rates })
}

fn with(lab: &mut Lab, jobs: usize, port: &str) -> anyhow::Result<WithJobs> {
    let events = kernel::measure(lab)?;
    let agent = lab.agent()?.pid();
    let (idle_cpu_share, memory_mib) = at_rest(agent)?;
    let connect = ["-c", CONNECT, port];
    let mut untagged = Command::new(PYTHON);
    let untagged_us = times(&mut lab.inside(untagged.args(connect)))?;
    let tagged_us = times(&mut lab.job("connects", &[&[PYTHON], &connect[..]].concat())?)?;
    Ok(WithJobs { jobs, events, idle_cpu_share, memory_mib, tagged_us, untagged_us, rates: Vec::new() })
}

fn times(command: &mut Command) -> anyhow::Result<Quantiles> {
    let output = finish(command)?.success()?;
    let times: Vec<f64> = output.lines().filter_map(|line| line.parse().ok()).collect();
    ensure!(!times.is_empty(), "nothing was timed:\n{output}");
    Ok(Quantiles::of(&times))
}

/// The share of one processor that a process takes, and its memory in MiB.
#[expect(clippy::disallowed_methods, reason = "rest is what is measured")]
fn at_rest(process: u32) -> anyhow::Result<(f64, f64)> {
    let (before, begun) = (processor_time(process)?, Instant::now());
    std::thread::sleep(AT_REST);
    let share = (processor_time(process)? - before) / begun.elapsed().as_secs_f64();
    Ok((share, super::connect::anonymous(process)? / 1024.0))
}

/// User and system time in seconds: fields 14 and 15 of proc_pid_stat(5).
fn processor_time(process: u32) -> anyhow::Result<f64> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat"))?;
    let (_, fields) = stat.rsplit_once(')').context("no name in stat")?;
    let ticks: Vec<f64> = fields.split_whitespace().skip(11).take(2).filter_map(|n| n.parse().ok()).collect();
    ensure!(ticks.len() == 2, "no times in stat");
    Ok(ticks.iter().sum::<f64>() / rustix::param::clock_ticks_per_second() as f64)
}

/// Whole operations of no job, with lineal attached and not, in turn.
fn rates(lab: &mut Lab, rounds: usize) -> anyhow::Result<Vec<Share>> {
    let (mut attached, mut detached) = (Vec::new(), Vec::new());
    for round in 0..rounds {
        // Another one begins each round.
        for turn in 0..2 {
            if (round + turn) % 2 == 0 {
                attached.push(rate(lab)?);
            } else {
                detached.push(without(lab, rate)?);
            }
        }
    }
    Ok(shares(&attached, &detached))
}

/// Rates attached as shares of those detached, round by round.
fn shares(attached: &[[f64; 2]], detached: &[[f64; 2]]) -> Vec<Share> {
    let mut shares: [Vec<f64>; 2] = Default::default();
    for (attached, detached) in attached.iter().zip(detached) {
        for (shares, (with, without)) in shares.iter_mut().zip(attached.iter().zip(detached)) {
            shares.push(with / without);
        }
    }
    let names = ["fork+exec+exit", "connect"];
    names.into_iter().zip(&shares).map(|(name, shares)| interval(name, shares)).collect()
}

fn rate(lab: &Lab) -> anyhow::Result<[f64; 2]> {
    let mut python = Command::new(PYTHON);
    let output = finish(&mut lab.inside(python.args(["-c", RATES])))?.success()?;
    let rates: Vec<f64> = output.split_whitespace().filter_map(|rate| rate.parse().ok()).collect();
    rates.try_into().map_err(|_| anyhow::anyhow!("no rates: {output}"))
}

/// What something comes to while nothing of lineal's is attached.
fn without<T>(lab: &mut Lab, run: impl FnOnce(&Lab) -> anyhow::Result<T>) -> anyhow::Result<T> {
    lab.take_agent()?.stop()?;
    let config = lab.agent_options().config();
    let config = config.to_str().context("the lab's directory is not text")?;
    lab.ask(&["detach", "--config", config])?.success()?;
    let done = run(lab);
    lab.start_agent()?;
    done
}

/// The mean and its 95 % interval by Student's t.
fn interval(name: &'static str, shares: &[f64]) -> Share {
    /// The 97.5 % quantile for 1, 2, … degrees of freedom.
    const T: [f64; 20] = [
        12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145,
        2.131, 2.120, 2.110, 2.101, 2.093, 2.086,
    ];
    let count = shares.len() as f64;
    let mean = shares.iter().sum::<f64>() / count;
    let variance = shares.iter().map(|share| (share - mean).powi(2)).sum::<f64>() / (count - 1.0);
    let t = T.get(shares.len().saturating_sub(2)).copied().unwrap_or(1.96);
    Share { name, mean, half_width: t * (variance / count).sqrt(), rounds: shares.len() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interval_is_students() {
        let share = interval("x", &[0.9, 1.0, 1.1]);
        assert!((share.mean - 1.0).abs() < 1e-9);
        // s = 0.1, t = 4.303 with two degrees of freedom.
        assert!((share.half_width - 4.303 * 0.1 / 3f64.sqrt()).abs() < 1e-9);
    }
}
