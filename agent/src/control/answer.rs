//! What the agent answers, as the agent writes it and as the command line reads it.
//!
//! The names of the fields are what `lineal … --json` prints, and scripts rely on them: a field may be added,
//! never renamed or removed.

use std::{collections::BTreeMap, path::PathBuf};

use serde::{Deserialize, Serialize};

/// One object of an answer; a request decides which kind it gets.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub enum Answer {
    /// To [`super::Request::Enroll`]: one.
    Enrolled(Enrolled),
    /// To [`super::Request::Jobs`]: one for each job.
    Job(LiveJob),
    /// To [`super::Request::Status`]: one.
    Status(Box<Status>),
    /// To [`super::Request::Revoke`]: one for each job whose access ended.
    Revoked(Revoked),
    /// To [`super::Request::Rotate`]: one.
    Rotated(Rotated),
    /// To [`super::Request::Reload`]: one.
    Reloaded(Reloaded),
}

/// A process, or a tree of them, has become a job.
#[derive(Debug, Serialize, Deserialize)]
pub struct Enrolled {
    /// The job's id.
    pub id: String,
    /// How many processes it has.
    pub processes: usize,
    /// The certificate files that its clients are to trust.
    pub trust: TrustFiles,
    /// Whether a login of its clients' may be relayed between two TLS connections, so that they must bind it
    /// to neither.
    #[serde(default = "yes")]
    pub relays_logins_over_tls: bool,
}

/// What an agent that does not tell would say.
fn yes() -> bool {
    true
}

/// Files of certificate authorities.
#[derive(Debug, Serialize, Deserialize)]
pub struct TrustFiles {
    /// Only this host's own.
    pub authority: PathBuf,
    /// The system's and this host's own.
    pub all: PathBuf,
}

/// A live job.
#[derive(Debug, Serialize, Deserialize)]
pub struct LiveJob {
    /// Its id.
    pub id: String,
    /// The name its starter gave it.
    pub name: String,
    /// Its standing in one word: `unidentified`, `valid`, `expiring`, `expired` or `revoked`.
    pub state: String,
    /// The identity it acts under; `None` while it is unidentified.
    pub credential: Option<JobCredential>,
    /// Host PID of its root process.
    pub root_pid: u32,
    /// Live processes.
    pub processes: usize,
    /// Open sessions.
    pub flows: usize,
}

/// The identity that a job acts under.
#[derive(Debug, Serialize, Deserialize)]
pub struct JobCredential {
    /// The issuer's URL.
    pub issuer: String,
    /// The token's subject.
    pub subject: String,
    /// Groups, sorted.
    pub groups: Vec<String>,
    /// The token's claims, as text.
    pub claims: BTreeMap<String, String>,
}

/// A job's access has ended.
#[derive(Debug, Serialize, Deserialize)]
pub struct Revoked {
    /// The job's id.
    pub id: String,
}

/// The host's certificate authority was replaced.
#[derive(Debug, Serialize, Deserialize)]
pub struct Rotated {
    /// The file of the new one.
    pub authority: PathBuf,
}

/// The policy bundle was read again.
#[derive(Debug, Serialize, Deserialize)]
pub struct Reloaded {
    /// Version of the bundle in force.
    pub bundle: String,
}

/// The agent's health.
#[derive(Debug, Serialize, Deserialize)]
pub struct Status {
    /// The agent's version.
    pub version: String,
    /// This host's name in the trail.
    pub host: String,
    /// Seconds since the agent started.
    pub uptime_s: u64,
    /// Version of the policy bundle in force.
    pub bundle: String,
    /// Why a newer bundle was refused.
    pub bundle_error: Option<String>,
    /// Why a newer list of revocations was refused.
    pub revocations_error: Option<String>,
    /// Live jobs.
    pub jobs: usize,
    /// Their live processes.
    pub processes: usize,
    /// Nodes of their lineages that the agent keeps.
    pub places: usize,
    /// Open sessions.
    pub sessions: usize,
    /// The cgroup that the agent's programs are attached to.
    pub cgroup: String,
    /// Where Prometheus scrapes.
    pub metrics: String,
    /// Kernel events that were lost because their ring was full.
    pub events_lost: u64,
    /// Connections that the kernel side has redirected.
    pub redirected: u64,
    /// The trail's directory; `None` when auditing is off, and from an agent that does not tell.
    #[serde(default)]
    pub audit_dir: Option<PathBuf>,
    /// Records written to the trail.
    pub audit_records: u64,
    /// Records that could not be written.
    pub audit_errors: u64,
    /// Why the last one could not be written; `None` while they can be.
    pub audit_error: Option<String>,
}
