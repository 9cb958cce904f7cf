//! The `[audit]` table of the agent's configuration, its defaults and its bounds.

use std::path::PathBuf;

use serde::Deserialize;

use super::error::AuditError;

/// Where the trail is unless the configuration says otherwise.
const DIR: &str = "/var/log/lineal/audit";
/// The longest that records may stay unsynced, in milliseconds: what a crash of the host can cost.
const FDATASYNC_MS_MAX: u64 = 60_000;
/// Most records between two checkpoints. `verify` reports a longer run without one as a break.
pub(super) const CHECKPOINT_RECORDS_MAX: u64 = 10_000;
/// The longest that outcomes may wait in memory, in milliseconds: what a killed agent can cost.
const DEFERRED_MS_MAX: u64 = 1_000;
/// Segments smaller than this would fill the directory with files.
const ROTATE_BYTES_MIN: u64 = 4_096;

/// How the trail is kept.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct AuditConfig {
    /// False only to measure what auditing costs: commands are then forwarded without a record.
    pub(crate) enabled: bool,
    /// The trail's directory.
    pub(crate) dir: PathBuf,
    /// The directory of the checkpoint key; the agent's own `state_dir` unless given. It is not the trail's
    /// directory, so that access to the trail does not include the key that signs it.
    pub(crate) state_dir: Option<PathBuf>,
    /// Milliseconds between two `fdatasync` calls, at least.
    pub(crate) fdatasync_ms: u64,
    /// Milliseconds that an outcome waits for another record to be written with, at most.
    pub(crate) deferred_ms: u64,
    /// A segment that has this many bytes is followed by a new one.
    pub(crate) rotate_bytes: u64,
    /// Records between two signed checkpoints, at most.
    pub(crate) checkpoint_records: u64,
    /// Whether literals and parameters of statements are recorded.
    pub(crate) literals: Literals,
}

/// What happens to the literals and parameters of statements.
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
    /// Refuses values that would break a promise, such as never syncing.
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
