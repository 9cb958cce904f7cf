//! Measures how fast a job's sessions end once its access is revoked.

use std::time::Duration;

use anyhow::{Context, ensure};
use lineal_tests::{Lab, LabOptions, script::PYTHON, server::Server};
use serde_json::Value;

use super::statistics::Quantiles;
use crate::shell::say;

/// How many sessions of a job are open when its access ends.
const SESSIONS: usize = 1_000;
/// How many of them run a statement at that moment: each of those takes a cancel request.
const BUSY: [usize; 2] = [0, 100];
/// How long anything may take to get ready.
const PATIENCE: Duration = Duration::from_secs(300);

/// Holds sessions open until they end, and prints when each ended, by the clock that all processes share.
const HOLD: &str = r#"
import os, resource, select, sys, time
from psycopg import pq
resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
held = [pq.PGconn.connect(b"") for _ in range(int(sys.argv[1]))]
assert all(connection.status == pq.ConnStatus.OK for connection in held)
for connection in held[:int(sys.argv[2])]:
    connection.send_query(b"SELECT pg_sleep(600)")
    connection.flush()
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

/// How fast a job's sessions end when this many of them are busy.
pub(super) struct Revocation {
    pub(super) busy: usize,
    pub(super) ms: Quantiles,
}

/// Measures the milliseconds from the call of `lineal revoke` to the end of each session of the job, over all
/// rounds.
pub(super) fn measure(rounds: usize) -> anyhow::Result<Vec<Revocation>> {
    let mut lab = Lab::start(&LabOptions::default())?;
    lab.allow_all()?;
    let mut measured: Vec<(usize, Vec<f64>)> = BUSY.map(|busy| (busy, Vec::new())).into();
    for round in 0..rounds {
        for (busy, ends) in &mut measured {
            say(format_args!("access ends, with {SESSIONS} open sessions, {busy} busy: round {}", round + 1));
            ends.extend(revocation(&lab, *busy)?);
        }
    }
    Ok(measured.into_iter().map(|(busy, ends)| Revocation { busy, ms: Quantiles::of(&ends) }).collect())
}

/// One round: the milliseconds from the call to the end of each session.
fn revocation(lab: &Lab, busy: usize) -> anyhow::Result<Vec<f64>> {
    let (count, busy) = (SESSIONS.to_string(), busy.to_string());
    let mut job: Server =
        lab.converse("holder", &lab.job("holder", &[PYTHON, "-c", HOLD, &count, &busy])?)?;
    ensure!(job.line(PATIENCE)? == "held", "not every session was opened");
    let jobs: Vec<Value> = lab.ask(&["jobs", "--json"])?.json()?;
    // The job of the round before may not have ended yet.
    let holds =
        |job: &&Value| job.get("name") == Some(&"holder".into()) && job.get("state") == Some(&"valid".into());
    let id = jobs.iter().find(holds);
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
