//! Turns records into lines at the end of the chain, and makes the two kinds of record that only the writer
//! makes: checkpoints and gaps. It never touches a file.

use std::{
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use agent_core::audit::{
    Host,
    chain::{RecordError, hex},
    record::{AgentRecord, AgentState, CheckpointRecord, CheckpointUpto, Detail, Details, Record},
};

use super::{keys::CheckpointKey, metrics::AuditMetrics, state::Unwritten};

/// What is the same for every line of one agent.
pub(super) struct Encoder {
    pub(super) host: Host,
    pub(super) key: CheckpointKey,
    pub(super) metrics: Arc<AuditMetrics>,
}

impl Encoder {
    /// Appends `record` to the unwritten lines.
    pub(super) fn record(&self, unwritten: &mut Unwritten, record: &Record<'_>) -> Result<(), RecordError> {
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let unix_us = u64::try_from(since_epoch.as_micros()).unwrap_or(u64::MAX);
        unwritten.chain.append(record, unix_us, &self.host, &mut unwritten.buffer)?;
        unwritten.records += 1;
        unwritten.since_checkpoint = unwritten.since_checkpoint.saturating_add(1);
        Ok(())
    }

    /// Appends a `gap`: something that the trail should hold is missing or in doubt.
    pub(super) fn gap(
        &self,
        unwritten: &mut Unwritten,
        reason: &str,
        detail: (&str, Detail<'_>),
    ) -> Result<(), RecordError> {
        let details = [detail];
        let gap = AgentRecord { state: AgentState::Gap, reason, details: Details(&details) };
        self.record(unwritten, &Record::Agent(gap))
    }

    /// Appends a signed checkpoint for everything before it.
    pub(super) fn checkpoint(&self, unwritten: &mut Unwritten) -> Result<(), RecordError> {
        let checkpoint = unwritten.chain.checkpoint();
        let hash = hex(&checkpoint.hash);
        let signature: String = self.key.sign(&checkpoint).iter().map(|byte| format!("{byte:02x}")).collect();
        let upto = CheckpointUpto { seq: checkpoint.seq, hash: std::str::from_utf8(&hash).unwrap_or("") };
        let record = CheckpointRecord { upto, key: self.key.fingerprint(), signature: &signature };
        self.record(unwritten, &Record::Checkpoint(record))?;
        unwritten.since_checkpoint = 0;
        AuditMetrics::add(&self.metrics.checkpoints, 1);
        Ok(())
    }
}
