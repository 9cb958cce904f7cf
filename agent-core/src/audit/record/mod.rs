//! The records of the audit trail, borrowed from the code that writes them.
//!
//! A record here has only its own fields; [`Chain::append`](super::Chain::append) puts the common ones (`v,
//! seq, time, host, kind`) before them and the hash after them. Fields are written in the order of their
//! declaration, which is part of the format: the line's bytes are hashed. docs/audit.schema.json describes
//! the same shapes.
//!
//! No record implements `Debug`: statements and arguments can hold what must not reach a log.

#[cfg(test)]
mod tests;

use std::{borrow::Cow, collections::BTreeMap};

use serde::{Serialize, Serializer, ser::SerializeSeq};

use crate::{credential::Credential, decision::Effect, facts::Action, target::Target};

/// One record of the trail.
#[derive(Clone, Copy, Serialize)]
#[serde(untagged)]
pub enum Record<'a> {
    /// A job was enrolled, was adopted, or ended.
    Job(JobRecord<'a>),
    /// A process of a job took on an image.
    Process(ProcessRecord<'a>),
    /// A session opened or closed.
    Session(SessionRecord<'a>),
    /// A decision about one command.
    Decision(DecisionRecord<'a>),
    /// How a command ended.
    Outcome(OutcomeRecord<'a>),
    /// A held command was requested, answered, or expired.
    Approval(ApprovalRecord<'a>),
    /// Access was ended.
    Revocation(RevocationRecord<'a>),
    /// A policy bundle was loaded or refused.
    Bundle(BundleRecord<'a>),
    /// The agent did something that concerns the trail as a whole; see [`AgentState`].
    Agent(AgentRecord<'a>),
    /// A signature over the chain up to here.
    Checkpoint(CheckpointRecord<'a>),
}

impl Record<'_> {
    /// The record's `kind` in the trail.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Job(_) => "job",
            Self::Process(_) => "process",
            Self::Session(_) => "session",
            Self::Decision(_) => "decision",
            Self::Outcome(_) => "outcome",
            Self::Approval(_) => "approval",
            Self::Revocation(_) => "revocation",
            Self::Bundle(_) => "bundle",
            Self::Agent(_) => "agent",
            Self::Checkpoint(_) => "checkpoint",
        }
    }
}

/// A job in a record.
#[derive(Clone, Copy, Serialize)]
pub struct JobRef<'a> {
    /// The job's id, which no other job ever has.
    pub id: &'a str,
    /// The name its starter gave it.
    pub name: &'a str,
}

/// The identity that a job acts under: a [`Credential`] without its expiry.
#[derive(Clone, Copy, Serialize)]
pub struct CredentialRef<'a> {
    /// The issuer's URL.
    pub issuer: &'a str,
    /// The token's subject.
    pub subject: &'a str,
    /// Groups, sorted.
    pub groups: &'a [String],
    /// Claims, as text.
    pub claims: &'a BTreeMap<String, String>,
}

impl<'a> From<&'a Credential> for CredentialRef<'a> {
    fn from(credential: &'a Credential) -> Self {
        let Credential { issuer, subject, groups, claims, expires_unix: _, acts_until_unix: _ } = credential;
        Self { issuer, subject, groups, claims }
    }
}

/// A job's state.
#[derive(Clone, Copy, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum JobState {
    /// Its root process was enrolled.
    Enrolled,
    /// An agent took it over from an earlier one when it started.
    Adopted,
    /// Its last process ended.
    Ended,
}

/// A job was enrolled, changed hands or ended.
#[derive(Clone, Copy, Serialize)]
pub struct JobRecord<'a> {
    /// What happened to it.
    pub state: JobState,
    /// The job.
    pub job: JobRef<'a>,
    /// The identity that it acts under; `null` while the job is unidentified.
    pub credential: Option<CredentialRef<'a>>,
    /// Host PID of the job's root process.
    pub root_pid: u32,
}

/// A process took on an image: at the enrolment of the root, or by exec.
#[derive(Clone, Copy, Serialize)]
pub struct ProcessRecord<'a> {
    /// The node's id, unique within its job. A node is one image of one process.
    pub process: u64,
    /// The job's id.
    pub job: &'a str,
    /// Host PID.
    pub pid: u32,
    /// Path of the executable.
    pub exe: &'a str,
    /// Arguments as at exec, through the redactor ([`super::redact::argv`]).
    pub argv: &'a [String],
    /// Working directory.
    pub cwd: &'a str,
    /// User id, in the host's user namespace.
    pub uid: u32,
    /// Container id, or empty.
    pub container: &'a str,
    /// The node that created this one: the image that the parent process had at the fork, or this process's
    /// image before the exec. `null` for the job's root.
    pub parent: Option<u64>,
}

/// The server that a session is meant for.
#[derive(Clone, Copy, Serialize)]
pub struct UpstreamRef<'a> {
    /// Its name in the policy bundle; empty for a destination that is not declared there.
    pub name: &'a str,
    /// The original destination, `address:port`.
    pub address: &'a str,
    /// The database, or empty where the protocol has none.
    pub database: &'a str,
    /// The user at the upstream, or empty.
    pub user: &'a str,
}

impl<'a> From<&'a Target> for UpstreamRef<'a> {
    fn from(target: &'a Target) -> Self {
        let Target { upstream, address, scope } = target;
        Self { name: upstream, address, database: scope.database(), user: scope.role() }
    }
}

/// A session opened or closed.
#[derive(Clone, Copy, Serialize)]
#[serde(tag = "state", rename_all = "lowercase")]
pub enum SessionRecord<'a> {
    /// The protocol of a flow is known.
    Opened {
        /// The session's id.
        session: &'a str,
        /// The job's id.
        job: &'a str,
        /// The connecting process's node.
        process: u64,
        /// `postgres`, `ssh`, `http`, or `tcp` where nothing more is known.
        protocol: &'a str,
        /// The server that the client connected to.
        upstream: UpstreamRef<'a>,
    },
    /// The session is over.
    Closed {
        /// The session's id.
        session: &'a str,
        /// The job's id.
        job: &'a str,
        /// Why it ended, in one word.
        reason: &'a str,
        /// The error by which the upstream refused or ended it; absent if it did not.
        #[serde(skip_serializing_if = "Option::is_none")]
        error: Option<OutcomeError<'a>>,
    },
}

/// A command's text. The caller has redacted it where the configuration says so.
#[derive(Clone, Copy, Serialize)]
pub struct StatementRef<'a> {
    /// The statement.
    pub text: &'a str,
    /// Equal for statements that differ in their literals only; empty where the protocol has no fingerprints.
    pub fingerprint: &'a str,
    /// Parameter values in order; `null` is SQL's null.
    pub parameters: &'a [Option<Cow<'a, str>>],
    /// What `text` is the beginning of; absent if it is the whole.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub whole: Option<WholeText<'a>>,
}

/// A statement's text that is too long to be recorded in full. It is described as it would have been
/// recorded, so without its literals where the configuration says so.
#[derive(Clone, Copy, Serialize)]
pub struct WholeText<'a> {
    /// Its length.
    pub bytes: u64,
    /// Its SHA-256, hex.
    pub sha256: &'a str,
}

/// A list of text in any of the forms that its owners keep.
#[derive(Clone, Copy)]
pub enum Texts<'a> {
    /// Borrowed pieces.
    Strs(&'a [&'a str]),
    /// Owned strings.
    Strings(&'a [String]),
    /// Boxed strings.
    Boxed(&'a [Box<str>]),
}

impl<'a> From<&'a [&'a str]> for Texts<'a> {
    fn from(texts: &'a [&'a str]) -> Self {
        Self::Strs(texts)
    }
}

impl<'a> From<&'a [String]> for Texts<'a> {
    fn from(texts: &'a [String]) -> Self {
        Self::Strings(texts)
    }
}

impl<'a> From<&'a [Box<str>]> for Texts<'a> {
    fn from(texts: &'a [Box<str>]) -> Self {
        Self::Boxed(texts)
    }
}

impl Serialize for Texts<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        fn list<S: Serializer>(
            serializer: S,
            texts: impl ExactSizeIterator<Item: AsRef<str>>,
        ) -> Result<S::Ok, S::Error> {
            let mut seq = serializer.serialize_seq(Some(texts.len()))?;
            for text in texts {
                seq.serialize_element(text.as_ref())?;
            }
            seq.end()
        }
        match self {
            Self::Strs(texts) => list(serializer, texts.iter()),
            Self::Strings(texts) => list(serializer, texts.iter()),
            Self::Boxed(texts) => list(serializer, texts.iter()),
        }
    }
}

/// A decision about one command.
#[derive(Clone, Copy, Serialize)]
pub struct DecisionRecord<'a> {
    /// The session's id.
    pub session: &'a str,
    /// The command's number within the session.
    pub command: u64,
    /// The protocol.
    pub protocol: &'a str,
    /// The command's actions.
    pub actions: &'a [Action],
    /// What each action is on, as policies spell it, such as `upstream/database.schema.table`.
    pub resources: Texts<'a>,
    /// The command's text; `null` where it has none, as for opening a connection.
    pub statement: Option<StatementRef<'a>>,
    /// What was decided.
    pub decision: Effect,
    /// The policies that decided it.
    pub policies: Texts<'a>,
    /// Why, in one sentence.
    pub reason: &'a str,
    /// The masked columns.
    pub masked: Texts<'a>,
    /// True when policy only observes: the command passed, whatever the decision says. Absent when false.
    #[serde(skip_serializing_if = "is_false")]
    pub observed: bool,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes the field by reference")]
fn is_false(value: &bool) -> bool {
    !value
}

/// The upstream's error.
#[derive(Clone, Copy, Serialize)]
pub struct OutcomeError<'a> {
    /// The protocol's code: SQLSTATE, exit status, HTTP status.
    pub code: &'a str,
    /// Its message.
    pub message: &'a str,
}

/// How a command ended.
#[derive(Clone, Copy, Serialize)]
pub struct OutcomeRecord<'a> {
    /// The session's id.
    pub session: &'a str,
    /// The command's number within the session.
    pub command: u64,
    /// Rows returned or affected; `null` where the command has none or they are not known.
    pub rows: Option<u64>,
    /// Bytes sent to the client.
    pub bytes: u64,
    /// The error, if it failed.
    pub error: Option<OutcomeError<'a>>,
    /// Microseconds from forwarding the command to the last byte of the reply.
    pub duration_us: u64,
}

/// A held command's state.
#[derive(Clone, Copy, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ApprovalState {
    /// It waits for an answer.
    Requested,
    /// Someone approved it.
    Approved,
    /// Someone denied it.
    Denied,
    /// Nobody answered in time.
    Expired,
}

/// A held command was requested, answered, or expired.
#[derive(Clone, Copy, Serialize)]
pub struct ApprovalRecord<'a> {
    /// The approval's id.
    pub id: &'a str,
    /// The new state.
    pub state: ApprovalState,
    /// The session's id.
    pub session: &'a str,
    /// The held command.
    pub command: u64,
    /// The group that is asked.
    pub group: &'a str,
    /// Who answered; `null` until then.
    pub by: Option<&'a str>,
    /// The reason they gave; `null` until then.
    pub reason: Option<&'a str>,
}

/// Access was ended by an operator or by a revocation file. One of `job`, `subject` and `claim` is given.
#[derive(Clone, Copy, Serialize)]
pub struct RevocationRecord<'a> {
    /// The job's id.
    pub job: Option<&'a str>,
    /// The credential's subject.
    pub subject: Option<&'a str>,
    /// `name=value` of a claim.
    pub claim: Option<&'a str>,
    /// The reason that was given.
    pub reason: &'a str,
    /// Who revoked: the user of the control socket's peer, or the revocation file.
    pub by: &'a str,
    /// The ids of the live jobs it ended.
    pub jobs: Texts<'a>,
}

/// Whether a bundle came into force.
#[derive(Clone, Copy, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum BundleState {
    /// It is in force.
    Loaded,
    /// It was refused; the last good one stays in force.
    Refused,
}

/// A policy bundle was loaded or refused.
#[derive(Clone, Copy, Serialize)]
pub struct BundleRecord<'a> {
    /// Whether it came into force.
    pub state: BundleState,
    /// The bundle's version.
    pub version: &'a str,
    /// Why it was refused, with file and line; `null` otherwise.
    pub reason: Option<&'a str>,
}

/// What happened to the agent.
#[derive(Clone, Copy, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum AgentState {
    /// It started.
    Start,
    /// It stopped in order.
    Stop,
    /// Its programs were detached: no process is followed any more.
    Detach,
    /// Something the trail should hold is missing: `reason` and `details` say what.
    Gap,
    /// A key of its own was replaced.
    Rotate,
}

/// The agent started, stopped, replaced a key, or found that something is missing from the trail.
#[derive(Clone, Copy, Serialize)]
pub struct AgentRecord<'a> {
    /// What happened.
    pub state: AgentState,
    /// Why, in one sentence.
    pub reason: &'a str,
    /// Details by name, such as `version`, `key`, `torn_bytes`, `lost_events`.
    pub details: Details<'a>,
}

/// Details by name; written as a JSON object, in the given order.
#[derive(Clone, Copy)]
pub struct Details<'a>(pub &'a [(&'a str, Detail<'a>)]);

/// One detail's value.
#[derive(Clone, Copy, Serialize)]
#[serde(untagged)]
pub enum Detail<'a> {
    /// Text.
    Text(&'a str),
    /// A number.
    Count(u64),
}

impl Serialize for Details<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().copied())
    }
}

/// A signature over the chain up to the record before this one.
#[derive(Clone, Copy, Serialize)]
pub struct CheckpointRecord<'a> {
    /// The last record that is signed for: the one before this.
    pub upto: CheckpointUpto<'a>,
    /// Fingerprint of the public key.
    pub key: &'a str,
    /// Ed25519 over [`super::Checkpoint::bytes_to_sign`], hex.
    pub signature: &'a str,
}

/// The last record that a checkpoint signs for.
#[derive(Clone, Copy, Serialize)]
pub struct CheckpointUpto<'a> {
    /// Its number; 0 before a trail's first record.
    pub seq: u64,
    /// Its hash, hex; zeros before a trail's first record.
    pub hash: &'a str,
}
