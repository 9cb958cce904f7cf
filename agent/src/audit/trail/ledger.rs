//! The trail as the ledger in which decisions are recorded before commands are permitted.

use agent_core::{audit::Record, ruling::Ledger};

use super::Trail;
use crate::audit::error::AuditError;

impl Ledger for Trail {
    type Error = AuditError;

    /// Appends the record. Where auditing is switched off, as benches do, nothing is written, and the command
    /// may pass all the same.
    fn write(&self, record: &Record<'_>) -> Result<(), AuditError> {
        self.append(record).map(drop)
    }
}
