//! The `[audit]` table of the agent's configuration.

use std::path::PathBuf;

use serde::Deserialize;

use super::error::AuditError;

/// Where the trail is, unless configured.
const DIR: &str = "/var/log/lineal/audit";
/// The longest that records may stay unsynced: what a host crash can cost.
const FDATASYNC_MS_MAX: u64 = 60_000;
/// Most records between two checkpoints: `verify` takes more for a trail whose checkpoints were taken out.
pub(super) const CHECKPOINT_RECORDS_MAX: u64 = 10_000;
/// The longest that outcomes may wait in memory: what a killed agent can cost.
const DEFERRED_MS_MAX: u64 = 1_000;
/// The smallest segment worth a file.
const ROTATE_BYTES_MIN: u64 = 4_096;

/// How the trail is kept.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct AuditConfig {
    /// False only to measure what auditing costs: nothing is recorded, and commands are forwarded all the same.
    pub(crate) enabled: bool,
    /// The trail's directory.
    pub(crate) dir: PathBuf,
    /// Where the checkpoint key is kept, the agent's own `state_dir` unless given: not with the trail, so that who gets
    /// the one has not got the other.
    pub(crate) state_dir: Option<PathBuf>,
    /// `fdatasync` at most every so many milliseconds.
    pub(crate) fdatasync_ms: u64,
    /// Outcomes are written with the next record, or after so many milliseconds.
    pub(crate) deferred_ms: u64,
    /// A new segment begins once one has this many bytes.
    pub(crate) rotate_bytes: u64,
    /// A signed checkpoint stands at least every so many records.
    pub(crate) checkpoint_records: u64,
    /// Whether literals and parameters of statements are kept.
    pub(crate) literals: Literals,
}

/// What becomes of literals and parameters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Literals {
    /// They are recorded.
    #[default]
    Keep,
    /// They are replaced before the record is made.
    Redact,
}

impl Default for AuditConfig {
    fn default() -> Self {
        Self {
            enabled: true,
            dir: DIR.into(),
            state_dir: None,
            fdatasync_ms: 100,
            deferred_ms: 20,
            rotate_bytes: 64 * 1024 * 1024,
            checkpoint_records: 1_000,
            literals: Literals::Keep,
        }
    }
}

impl AuditConfig {
    /// Refuses values that would switch a promise off.
    pub(super) fn check(&self) -> Result<(), AuditError> {
        let within = |name, value, least, most| {
            if (least..=most).contains(&value) {
                Ok(())
            } else {
                Err(AuditError::Config { name, value, least, most })
            }
        };
        within("fdatasync_ms", self.fdatasync_ms, 1, FDATASYNC_MS_MAX)?;
        within("deferred_ms", self.deferred_ms, 1, DEFERRED_MS_MAX)?;
        within("rotate_bytes", self.rotate_bytes, ROTATE_BYTES_MIN, u64::MAX)?;
        within("checkpoint_records", self.checkpoint_records, 1, CHECKPOINT_RECORDS_MAX)
    }
}
