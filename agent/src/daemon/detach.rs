//! `lineal detach`, for when all else fails: detaches every program and lets go of every process, while no
//! agent runs.

use std::path::Path;

use agent_abi::Unidentified;
use agent_core::audit::record::{
    AgentRecord, AgentState, Detail, Details, JobRecord, JobRef, JobState, Record,
};
use anyhow::{Context, bail};

use crate::{
    audit::Trail,
    config::Config,
    ids::Id,
    jobs::{JobStore, rule_of},
    kernel::Pins,
};

/// What a detachment has done.
pub struct Detached {
    /// Processes that were followed until then.
    pub processes: usize,
    /// Why it is not on record, if it is not.
    pub unrecorded: Option<String>,
}

/// Detaches every program that an agent left attached, and lets go of every process. No agent may run. The
/// detachment is recorded first; if that fails, nothing is detached, unless `unrecorded` is set.
pub fn detach(config_path: &Path, reason: &str, unrecorded: bool) -> anyhow::Result<Detached> {
    if !rustix::process::geteuid().is_root() {
        bail!("only root can detach: run it as root");
    }
    let config = Config::read(config_path);
    if let (Err(error), false) = (&config, unrecorded) {
        bail!("nothing was detached (--unrecorded does without the configuration): {error:#}");
    }
    let bpffs = config.as_ref().ok().and_then(|config| config.kernel.bpffs.clone());
    let pins = Pins::hold(bpffs.as_deref()).context("stop the agent first")?;
    let processes = pins.followed()?;
    let begun = pins.unidentified();
    let recorded = config.map_err(Into::into).and_then(|config| record(&config, reason, processes, &begun));
    if let (Err(error), false) = (&recorded, unrecorded) {
        bail!(
            "nothing was detached, as it cannot be recorded (--unrecorded does it all the same): {error:#}"
        );
    }
    pins.remove();
    Ok(Detached { processes, unrecorded: recorded.err().map(|error| format!("{error:#}")) })
}

/// Records who detached, and the end of every job: lineal follows none of them any more.
fn record(
    config: &Config,
    reason: &str,
    processes: usize,
    unidentified: &[(u64, Unidentified)],
) -> anyhow::Result<()> {
    let trail = Trail::open(&config.audit, &config.state_dir, &config.hostname())?;
    let details = [
        ("version", Detail::Text(env!("CARGO_PKG_VERSION"))),
        ("login_uid", Detail::Count(login_uid())),
        ("processes", Detail::Count(processes as u64)),
    ];
    let record = AgentRecord { state: AgentState::Detach, reason, details: Details(&details) };
    trail.append(&Record::Agent(record))?;
    let store = JobStore::open(&config.state_dir)?;
    for (id, job) in store.all()? {
        let text = id.to_string();
        trail.append(&Record::Job(JobRecord {
            state: JobState::Ended,
            job: JobRef { id: &text, name: &job.name },
            credential: Some((&job.credential).into()),
            root_pid: job.root_pid,
        }))?;
        store.forget(id);
    }
    for (id, begun) in unidentified {
        trail.append(&Record::Job(JobRecord {
            state: JobState::Ended,
            job: JobRef { id: &Id(*id).to_string(), name: &rule_of(begun) },
            credential: None,
            root_pid: begun.tgid,
        }))?;
    }
    trail.close()?;
    Ok(())
}

/// The user id of the login that this process descends from, whatever user it has become since
/// (proc_pid_loginuid(5)); 4294967295 without a login.
fn login_uid() -> u64 {
    std::fs::read_to_string("/proc/self/loginuid")
        .ok()
        .and_then(|text| text.trim().parse().ok())
        .unwrap_or(u32::MAX.into())
}
