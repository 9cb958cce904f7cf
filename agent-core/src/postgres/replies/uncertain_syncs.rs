//! Syncs that the upstream may or may not answer, after a `COPY … FROM STDIN` that failed.
//!
//! When such a COPY fails, nothing tells how far it had read. A Sync that was sent before CopyDone is
//! answered if the COPY had not read it, and not answered if it had. While nothing but Syncs is concerned,
//! only the number of ReadyForQuery messages depends on that, and [`UncertainSyncs`] keeps its bounds.

/// Syncs whose number of answers is known only within bounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::postgres) struct UncertainSyncs {
    /// How many Syncs the COPY may have dropped.
    pub(super) dropped_max: u32,
    /// How many Syncs will be answered for certain.
    pub(super) certain: u32,
    /// Whether the upstream may be skipping until a Sync that has not been sent yet.
    pub(super) skipping: bool,
}

impl UncertainSyncs {
    /// A ReadyForQuery came.
    pub(super) fn answered(&mut self) {
        // While `skipping`, no Sync was sent after the failure. So this answers one that was sent before, and
        // the skipping is over.
        self.skipping = false;
        if self.certain > 0 {
            self.certain -= 1;
        } else {
            self.dropped_max = self.dropped_max.saturating_sub(1);
        }
    }

    /// Whether the next reply may belong to the entry behind.
    pub(super) fn may_be_over(self) -> bool {
        self.certain == 0 && !self.skipping
    }

    /// Whether no further ReadyForQuery can come.
    pub(super) fn is_over(self) -> bool {
        self.certain == 0 && self.dropped_max == 0
    }
}
