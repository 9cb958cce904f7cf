//! Measures what a host pays for lineal, with one live job and with many: in processes outside every job, in
//! jobs' connections, and for the agent at rest.

use std::{
    fs,
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use lineal_tests::{Lab, LabOptions, command::finish, script::PYTHON};

use super::{
    connect::anonymous,
    kernel::{self, Event},
    statistics::{Quantiles, mean_with_interval},
};
use crate::shell::say;

/// How many jobs are live while everything is measured.
const JOBS: [usize; 2] = [1, 10_000];
/// How long the agent is watched at rest.
const AT_REST: Duration = Duration::from_secs(10);
/// How long anything may take to get ready, or to end.
const PATIENCE: Duration = Duration::from_secs(300);

/// Runs outside every job. Prints two rates, in operations per second: fork, exec and exit; connect and
/// close.
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
/// Prints how long `connect` takes, in microseconds, again and again.
const CONNECT: &str = r#"
import socket, sys, time
for _ in range(1000):
    with socket.socket() as stream:
        begun = time.perf_counter()
        stream.connect(("127.0.0.1", int(sys.argv[1])))
        print((time.perf_counter() - begun) * 1e6)
"#;
/// Accepts connections and closes them at once.
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
/// Starts processes of which each begins a job by rule: it joins the rule's cgroup, and then executes
/// something.
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
/// What was measured with this many live jobs.
pub(super) struct WithJobs {
    pub(super) jobs: usize,
    /// What processes outside every job pay for each event.
    pub(super) events: Vec<Event>,
    /// The agent's share of one processor while nothing happens.
    pub(super) idle_cpu_share: f64,
    /// The agent's private memory while nothing happens.
    pub(super) memory_mib: f64,
    /// How long `connect` takes in a job's process, and outside every job.
    pub(super) tagged_us: Quantiles,
    pub(super) untagged_us: Quantiles,
    /// As [`Cost::rates`], but with this many live jobs, and all attached rounds before all detached ones.
    pub(super) rates: Vec<Share>,
}

/// A rate of operations with lineal attached, as a share of the rate without; with its 95 % confidence
/// interval.
pub(super) struct Share {
    pub(super) name: &'static str,
    pub(super) mean: f64,
    /// Half of the confidence interval's width.
    pub(super) half_width: f64,
    pub(super) rounds: usize,
}

/// Everything that was measured.
pub(super) struct Cost {
    pub(super) with_jobs: Vec<WithJobs>,
    /// Rates of operations outside every job, without a live job. Attached and detached rounds alternate.
    pub(super) rates: Vec<Share>,
}

/// Measures in a lab of its own, whose agent follows a unit by rule.
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

    say(format_args!("operations with lineal attached and detached: {rounds} rounds"));
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
        // Detaching ends the jobs for good, so attached and detached rounds can't alternate here.
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

/// Measures everything but the rates, which the caller fills in.
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

/// A process's share of one processor while nothing happens, and its memory in MiB.
#[expect(clippy::disallowed_methods, reason = "what is measured is a time in which nothing happens")]
fn at_rest(process: u32) -> anyhow::Result<(f64, f64)> {
    let (before, begun) = (processor_time(process)?, Instant::now());
    std::thread::sleep(AT_REST);
    let share = (processor_time(process)? - before) / begun.elapsed().as_secs_f64();
    Ok((share, anonymous(process)? / 1024.0))
}

/// User and system time in seconds: fields 14 and 15 of proc_pid_stat(5).
fn processor_time(process: u32) -> anyhow::Result<f64> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat"))?;
    let (_, fields) = stat.rsplit_once(')').context("no name in stat")?;
    let ticks: Vec<f64> = fields.split_whitespace().skip(11).take(2).filter_map(|n| n.parse().ok()).collect();
    ensure!(ticks.len() == 2, "no times in stat");
    Ok(ticks.iter().sum::<f64>() / rustix::param::clock_ticks_per_second() as f64)
}

/// Rates of operations outside every job, alternately with lineal attached and detached.
fn rates(lab: &mut Lab, rounds: usize) -> anyhow::Result<Vec<Share>> {
    let (mut attached, mut detached) = (Vec::new(), Vec::new());
    for round in 0..rounds {
        // Attached and detached take turns at being measured first.
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

/// The rates of each attached round as shares of those of the detached round with the same number.
fn shares(attached: &[[f64; 2]], detached: &[[f64; 2]]) -> Vec<Share> {
    let mut shares: [Vec<f64>; 2] = Default::default();
    for (attached, detached) in attached.iter().zip(detached) {
        for (shares, (with, without)) in shares.iter_mut().zip(attached.iter().zip(detached)) {
            shares.push(with / without);
        }
    }
    let share = |(name, shares): (&'static str, &Vec<f64>)| {
        let (mean, half_width) = mean_with_interval(shares);
        Share { name, mean, half_width, rounds: shares.len() }
    };
    ["fork+exec+exit", "connect"].into_iter().zip(&shares).map(share).collect()
}

fn rate(lab: &Lab) -> anyhow::Result<[f64; 2]> {
    let mut python = Command::new(PYTHON);
    let output = finish(&mut lab.inside(python.args(["-c", RATES])))?.success()?;
    let rates: Vec<f64> = output.split_whitespace().filter_map(|rate| rate.parse().ok()).collect();
    rates.try_into().map_err(|_| anyhow::anyhow!("no rates: {output}"))
}

/// Runs something while nothing of lineal's is attached, then starts the agent again.
fn without<T>(lab: &mut Lab, run: impl FnOnce(&Lab) -> anyhow::Result<T>) -> anyhow::Result<T> {
    lab.take_agent()?.stop()?;
    let config = lab.agent_options().config();
    let config = config.to_str().context("the lab's directory is not text")?;
    lab.ask(&["detach", "--config", config])?.success()?;
    let done = run(lab);
    lab.start_agent()?;
    done
}
