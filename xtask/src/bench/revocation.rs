//! How fast access ends.

use std::time::Duration;

use anyhow::{Context, ensure};
use lineal_tests::{Lab, LabOptions, script::PYTHON, server::Server};
use serde_json::Value;

use super::Quantiles;
use crate::say;

/// Sessions that are open when their job's access ends.
const SESSIONS: usize = 1_000;
/// How long anything may take to get ready.
const PATIENCE: Duration = Duration::from_secs(300);

/// Holds sessions until they end, and says when each did, on the clock that every process shares.
const HOLD: &str = r#"
import os, resource, select, sys, time
from psycopg import pq
resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
held = [pq.PGconn.connect(b"") for _ in range(int(sys.argv[1]))]
assert all(connection.status == pq.ConnStatus.OK for connection in held)
poll, ends = select.epoll(), []
for connection in held:
    poll.register(connection.socket, select.EPOLLIN)
print("held", flush=True)
while len(ends) < len(held):
    for socket, _ in poll.poll():
        if not os.read(socket, 65536):
            ends.append(time.monotonic())
            poll.unregister(socket)
print("\n".join(map(str, ends)), flush=True)
"#;

/// From the call of `lineal revoke` to the end of each session of a job, milliseconds, over all rounds.
pub(super) fn measure(rounds: usize) -> anyhow::Result<Quantiles> {
    say(format_args!("access ends, with {SESSIONS} open sessions: {rounds} rounds"));
    let mut lab = Lab::start(&LabOptions::default())?;
    lab.allow_all()?;
    let ends: Vec<f64> = (0..rounds).map(|_| revocation(&lab)).collect::<anyhow::Result<Vec<_>>>()?.concat();
    Ok(Quantiles::of(&ends))
}

/// Milliseconds from the call to the end of each of a job's sessions.
fn revocation(lab: &Lab) -> anyhow::Result<Vec<f64>> {
    let count = SESSIONS.to_string();
    let mut job: Server = lab.converse("holder", &lab.job("holder", &[PYTHON, "-c", HOLD, &count])?)?;
    ensure!(job.line(PATIENCE)? == "held", "not every session was opened");
    let jobs: Vec<Value> = lab.ask(&["jobs", "--json"])?.json()?;
    let id = jobs.iter().find(|listed| listed.get("name") == Some(&"holder".into()));
    let id = id.and_then(|job| job.get("id")?.as_str()).context("the job is not listed")?;
    let called = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    let called = called.tv_sec as f64 + called.tv_nsec as f64 / 1e9;
    lab.ask(&["revoke", "--job", id, "--reason", "measured"])?.success()?;
    let mut ends = Vec::new();
    for _ in 0..SESSIONS {
        let ended: f64 = job.line(PATIENCE)?.parse()?;
        ends.push((ended - called) * 1e3);
    }
    job.wait(PATIENCE)?;
    Ok(ends)
}
