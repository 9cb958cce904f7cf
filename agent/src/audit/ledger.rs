//! The trail as the ledger that permits rest on.

use agent_core::{audit::Record, ruling::Ledger};

use super::{error::AuditError, writer::Trail};

impl Ledger for Trail {
    type Error = AuditError;

    /// Appends the record. Where auditing is switched off, which only benches do, nothing is written and all passes.
    fn write(&self, record: &Record<'_>) -> Result<(), AuditError> {
        self.append(record).map(drop)
    }
}
