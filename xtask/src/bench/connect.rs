//! Measures how long a session takes to begin, and how much of a proxy's memory it takes.

use std::{fs, time::Duration};

use anyhow::{Context, ensure};
use lineal_tests::{command::finish, script::PYTHON};

use super::contenders::{Contenders, Path};

/// How many sessions begin one after another in one measurement.
const CONNECTS: usize = 200;
/// Prints the microseconds from no connection to ReadyForQuery, by libpq itself, without what a driver adds.
const CONNECT: &str = r#"
import sys, time
from psycopg import pq
for _ in range(int(sys.argv[1])):
    begun = time.perf_counter()
    connection = pq.PGconn.connect(b"")
    took = time.perf_counter() - begun
    if connection.status != pq.ConnStatus.OK:
        sys.exit(connection.error_message.decode())
    connection.finish()
    print(round(took * 1e6))
"#;
/// Half of the sessions that are open at the end. The first half uses up memory that the proxy had allocated
/// already, so an idle session's memory is measured on the second half only. A large result's is measured on
/// both.
const HALF: usize = 500;
/// Holds sessions open: first half of them idle, then all idle, then each with a large result that nobody
/// reads.
const HOLD: &str = r#"
import select, sys
from psycopg import pq
def begin():
    connection = pq.PGconn.connect(b"")
    if connection.status != pq.ConnStatus.OK:
        sys.exit(connection.error_message.decode())
    connection.exec_(b"SELECT 1")
    return connection
def hold(word):
    print(word, flush=True)
    sys.stdin.readline()
held = [begin() for _ in range(int(sys.argv[1]))]
hold("half")
held += [begin() for _ in range(int(sys.argv[1]))]
hold("idle")
for connection in held:
    connection.send_query(b"SELECT * FROM pgbench_accounts")
for connection in held:
    # The beginning of its result has arrived.
    select.select([connection.socket], [], [])
hold("busy")
"#;
/// The time between two samples of a process's memory.
const SAMPLE: Duration = Duration::from_millis(200);
/// How long each step of the program that holds the sessions may take.
const PATIENCE: Duration = Duration::from_secs(120);

/// Begins sessions one after another, and returns the microseconds that each took.
pub(super) fn connect(contenders: &Contenders, path: Path) -> anyhow::Result<Vec<f64>> {
    let count = CONNECTS.to_string();
    let mut command = contenders.command(path, &[PYTHON, "-c", CONNECT, &count])?;
    let output = finish(&mut command)?.success().with_context(|| format!("connecting: {}", path.name()))?;
    let times: Vec<f64> = output.lines().filter_map(|line| line.parse().ok()).collect();
    ensure!(times.len() == CONNECTS, "not every connection was timed:\n{output}");
    Ok(times)
}

/// A proxy's memory for one session, in KiB.
pub(super) struct Memory {
    pub(super) path: Path,
    /// While the session does nothing.
    pub(super) idle_kib: f64,
    /// While its client leaves a large result unread.
    pub(super) busy_kib: f64,
}

/// Opens many sessions, and returns how much the proxy's memory grew for each.
pub(super) fn memory(contenders: &mut Contenders, path: Path) -> anyhow::Result<Memory> {
    let proxy = contenders.proxy(path)?;
    let count = HALF.to_string();
    let command = contenders.command(path, &[PYTHON, "-c", HOLD, &count])?;
    let mut holder = contenders.lab().converse("holder", &command)?;
    let mut after = |word: &str| {
        let said = holder.line(PATIENCE)?;
        ensure!(said == word, "{said:?} instead of {word:?}");
        let kib = settled(proxy)?;
        holder.say("")?;
        anyhow::Ok(kib)
    };
    let (half, idle, busy) = (after("half")?, after("idle")?, after("busy")?);
    holder.wait(PATIENCE)?;
    let half_count = HALF as f64;
    let idle_kib = (idle - half) / half_count;
    Ok(Memory { path, idle_kib, busy_kib: idle_kib + (busy - idle) / (2.0 * half_count) })
}

/// A process's private memory in KiB, once it neither grows nor shrinks.
#[expect(clippy::disallowed_methods, reason = "nothing announces that memory has settled, so it is sampled")]
fn settled(process: u32) -> anyhow::Result<f64> {
    let mut last = anonymous(process)?;
    let mut same = 0;
    while same < 5 {
        std::thread::sleep(SAMPLE);
        let now = anonymous(process)?;
        same = if now == last { same + 1 } else { 0 };
        last = now;
    }
    Ok(last)
}

/// `RssAnon` of proc_pid_status(5), in KiB.
pub(super) fn anonymous(process: u32) -> anyhow::Result<f64> {
    let status = fs::read_to_string(format!("/proc/{process}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"));
    line.and_then(|rest| rest.trim().strip_suffix(" kB")?.parse().ok()).context("no RssAnon")
}
