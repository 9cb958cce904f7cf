//! Attribution: which job and which process opened a connection, with that process's lineage on record.

use agent_abi::Flow;
use agent_core::{
    audit::record::{ProcessRecord, Record},
    lineage::Lineage,
};
use thiserror::Error;

use super::{
    job::SessionSlot,
    lineage::Unattributable,
    registry::{Inner, Registry},
};
use crate::audit::AuditError;

/// Why a connection isn't attributed.
#[derive(Debug, Error)]
pub enum AttributionError {
    /// The chain of processes can't be followed to the job's root.
    #[error(transparent)]
    Lineage(Unattributable),
    /// The chain of processes can't be recorded.
    #[error("the lineage cannot be recorded: {0}")]
    Audit(#[from] AuditError),
}

impl Registry {
    /// Who opened a redirected connection, and a slot among the job's open sessions. When this returns the
    /// trail holds every process of the lineage.
    pub fn attribute(&self, flow: &Flow) -> Result<(SessionSlot, Lineage), AttributionError> {
        let mut inner = self.locked();
        let inner = &mut *inner;
        let job = self
            .find_or_register(inner, flow.job)
            .ok_or(AttributionError::Lineage(Unattributable::NoJob { pid: flow.tgid }))?;
        let (lineage, unrecorded) = inner
            .nodes
            .trace(&self.kernel, flow.job, flow.node, flow.tgid, flow.uid)
            .map_err(AttributionError::Lineage)?;
        self.record_nodes(inner, &job.id.to_string(), &unrecorded)?;
        // Under the lock: from here on the job is not ended while the slot is held.
        Ok((SessionSlot::take(&job), lineage))
    }

    /// Writes a job's processes to the trail, by their nodes. A node that isn't known is left out.
    pub(super) fn record_nodes(&self, inner: &mut Inner, job: &str, nodes: &[u64]) -> Result<(), AuditError> {
        for id in nodes {
            let Some(node) = inner.nodes.known(*id) else { continue };
            self.trail.append(&Record::Process(ProcessRecord {
                process: *id,
                job,
                pid: node.pid,
                exe: &node.text.exe,
                argv: &node.text.argv,
                cwd: &node.cwd,
                uid: node.uid,
                container: &node.container,
                parent: (node.parent != 0).then_some(node.parent),
            }))?;
            inner.nodes.mark_recorded(&self.kernel, *id);
        }
        Ok(())
    }
}
