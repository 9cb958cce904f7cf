//! Records as a search reads them back: owned, and only the fields that it needs. No `Debug`: statements can
//! hold what must not reach a log.

use std::{borrow::Cow, collections::BTreeMap, rc::Rc};

use serde::{Deserialize, Serialize};

/// The common fields that a search needs of every line.
#[derive(Deserialize)]
pub(super) struct Head<'a> {
    #[serde(borrow)]
    pub(super) kind: Cow<'a, str>,
    #[serde(borrow)]
    pub(super) time: Cow<'a, str>,
}

#[derive(Clone, Deserialize, Serialize)]
pub(super) struct Job {
    pub(super) id: String,
    pub(super) name: String,
}

#[derive(Clone, Deserialize, Serialize)]
pub(super) struct Credential {
    pub(super) issuer: String,
    pub(super) subject: String,
    pub(super) groups: Vec<String>,
    pub(super) claims: BTreeMap<String, String>,
}

#[derive(Deserialize)]
pub(super) struct JobRow {
    pub(super) state: String,
    pub(super) job: Job,
    pub(super) credential: Option<Credential>,
}

#[derive(Deserialize)]
pub(super) struct ProcessRow {
    pub(super) process: u64,
    pub(super) job: String,
    pub(super) pid: u32,
    pub(super) exe: String,
    pub(super) argv: Vec<String>,
    pub(super) cwd: String,
    pub(super) uid: u32,
    pub(super) container: String,
    pub(super) parent: Option<u64>,
}

#[derive(Clone, Deserialize, Serialize)]
pub(super) struct Upstream {
    pub(super) name: String,
    pub(super) address: String,
    pub(super) database: String,
    pub(super) user: String,
}

#[derive(Deserialize)]
#[serde(tag = "state", rename_all = "lowercase")]
pub(super) enum SessionRow {
    Opened { session: String, job: String, process: u64, upstream: Upstream },
    Closed { session: String },
}

#[derive(Deserialize, Serialize)]
pub(super) struct Statement {
    pub(super) text: String,
    pub(super) fingerprint: String,
    pub(super) parameters: Vec<Option<String>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) whole: Option<WholeText>,
}

#[derive(Deserialize, Serialize)]
pub(super) struct WholeText {
    pub(super) bytes: u64,
    pub(super) sha256: String,
}

#[derive(Deserialize, Serialize)]
pub(super) struct DecisionRow {
    pub(super) v: u64,
    pub(super) seq: u64,
    pub(super) time: String,
    pub(super) host: String,
    pub(super) kind: String,
    pub(super) session: String,
    pub(super) command: u64,
    pub(super) protocol: String,
    pub(super) actions: Vec<String>,
    pub(super) resources: Vec<String>,
    pub(super) statement: Option<Statement>,
    pub(super) decision: String,
    pub(super) policies: Vec<String>,
    pub(super) reason: String,
    pub(super) masked: Vec<String>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) observed: bool,
    pub(super) hash: String,
}

#[derive(Deserialize, Serialize)]
pub(super) struct OutcomeError {
    pub(super) code: String,
    pub(super) message: String,
}

/// An outcome. Its session and command are printed with the decision that it is joined to, and not again.
#[derive(Deserialize, Serialize)]
pub(super) struct OutcomeRow {
    #[serde(skip_serializing)]
    pub(super) session: String,
    #[serde(skip_serializing)]
    pub(super) command: u64,
    pub(super) rows: Option<u64>,
    pub(super) bytes: u64,
    pub(super) error: Option<OutcomeError>,
    pub(super) duration_us: u64,
}

/// One process of an ancestry.
#[derive(Serialize)]
pub(super) struct Ancestor {
    pub(super) pid: u32,
    pub(super) exe: String,
    pub(super) argv: Vec<String>,
}

/// The connecting process.
#[derive(Serialize)]
pub(super) struct Process {
    pub(super) pid: u32,
    pub(super) exe: String,
    pub(super) argv: Vec<String>,
    pub(super) cwd: String,
    pub(super) uid: u32,
    pub(super) container: String,
    /// From the job's root to the process itself, both included.
    pub(super) ancestry: Vec<Ancestor>,
}

/// Where a session comes from and where it goes; what the trail does not hold is `None`, and printed as
/// `null`.
#[derive(Default, Serialize)]
pub(super) struct Origin {
    pub(super) job: Option<Job>,
    pub(super) credential: Option<Credential>,
    pub(super) process: Option<Process>,
    pub(super) upstream: Option<Upstream>,
}

/// A decision with everything that is joined to it.
pub(super) struct Joined {
    pub(super) decision: DecisionRow,
    pub(super) origin: Rc<Origin>,
    pub(super) outcome: Option<OutcomeRow>,
}

/// A joined decision as `audit query --json` prints it.
#[derive(Serialize)]
pub(super) struct JoinedJson<'a> {
    #[serde(flatten)]
    decision: &'a DecisionRow,
    #[serde(flatten)]
    origin: &'a Origin,
    outcome: Option<&'a OutcomeRow>,
}

impl Joined {
    pub(super) fn json(&self) -> JoinedJson<'_> {
        JoinedJson { decision: &self.decision, origin: &self.origin, outcome: self.outcome.as_ref() }
    }
}
