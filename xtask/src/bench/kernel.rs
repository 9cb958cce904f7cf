//! Measures what lineal's programs cost processes outside every job, by the kernel's own count of their run
//! time.

use std::{collections::BTreeMap, fs, process::Command};

use anyhow::Context;
use lineal_tests::{Lab, command::finish, script::PYTHON};
use serde_json::Value;

/// While this file holds 1, the kernel counts and times the runs of every eBPF program.
const SWITCH: &str = "/proc/sys/kernel/bpf_stats_enabled";
/// An event, and the programs that the kernel runs for it: the first one once, others perhaps more often.
const EVENTS: [(&str, &[&str]); 8] = [
    ("fork", &["lineal_fork"]),
    ("exec", &["lineal_exec"]),
    ("exit", &["lineal_exit"]),
    ("socket", &["lineal_sock_create"]),
    ("bind", &["lineal_bind4"]),
    ("setsockopt", &["lineal_setsockopt"]),
    ("connect", &["lineal_connect4", "lineal_publish"]),
    ("getpeername", &["lineal_getpeername4"]),
];
/// Causes all these events outside every job.
const LOAD: &str = r#"
import os, socket
for _ in range(1000):
    os.waitpid(os.posix_spawn("/bin/true", ["true"], {}), 0)
with socket.create_server(("127.0.0.1", 0)) as server:
    for _ in range(3000):
        with socket.create_connection(server.getsockname()) as client:
            client.getpeername()
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            server.accept()[0].close()
for _ in range(1000):
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
"#;

/// What one kind of event costs.
pub(super) struct Event {
    pub(super) name: &'static str,
    pub(super) nanoseconds: f64,
    pub(super) count: u64,
    /// How many programs run for one such event.
    pub(super) runs: f64,
}

/// Runs the load in the lab, outside every job, and reads what its programs took.
pub(super) fn measure(lab: &Lab) -> anyhow::Result<Vec<Event>> {
    let counting = Counting::start()?;
    let before = programs()?;
    let mut load = Command::new(PYTHON);
    load.args(["-c", LOAD]);
    finish(&mut lab.inside(&load))?.success()?;
    let after = programs()?;
    drop(counting);
    let spent = |program: &str| {
        let (mut time, mut runs) = (0, 0);
        for (key, (time_after, runs_after)) in after.iter().filter(|((name, _), _)| name == program) {
            let (time_before, runs_before) = before.get(key).copied().unwrap_or_default();
            time += time_after.saturating_sub(time_before);
            runs += runs_after.saturating_sub(runs_before);
        }
        (time as f64, runs)
    };
    Ok(EVENTS
        .into_iter()
        .map(|(name, programs)| {
            let spent: Vec<(f64, u64)> = programs.iter().map(|program| spent(program)).collect();
            let time: f64 = spent.iter().map(|(time, _)| time).sum();
            let count = spent.first().map_or(0, |(_, runs)| *runs);
            let runs: u64 = spent.iter().map(|(_, runs)| runs).sum();
            let each = |total: f64| total / count.max(1) as f64;
            Event { name, nanoseconds: each(time), count, runs: each(runs as f64) }
        })
        .collect())
}

/// Nanoseconds and runs of each of lineal's programs, by name and id.
fn programs() -> anyhow::Result<BTreeMap<(String, u64), (u64, u64)>> {
    let shown = finish(Command::new("bpftool").args(["--json", "prog", "show"]))?.success()?;
    let shown: Vec<Value> = serde_json::from_str(&shown).context("bpftool prints no JSON")?;
    let number = |program: &Value, name: &str| program.get(name).and_then(Value::as_u64).unwrap_or_default();
    Ok(shown
        .iter()
        .filter_map(|program| {
            let name =
                program.get("name").and_then(Value::as_str).filter(|name| name.starts_with("lineal_"))?;
            let key = (name.to_owned(), number(program, "id"));
            Some((key, (number(program, "run_time_ns"), number(program, "run_cnt"))))
        })
        .collect())
}

/// Counting is on. Dropping this sets the switch back to what it was.
struct Counting {
    before: String,
}

impl Counting {
    fn start() -> anyhow::Result<Self> {
        let before = fs::read_to_string(SWITCH).with_context(|| format!("cannot read {SWITCH}"))?;
        fs::write(SWITCH, "1").with_context(|| format!("cannot write {SWITCH}: are you root?"))?;
        Ok(Self { before })
    }
}

impl Drop for Counting {
    fn drop(&mut self) {
        let _ = fs::write(SWITCH, self.before.trim());
    }
}
