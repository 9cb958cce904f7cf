//! The stream of held connections.

use std::io;

use agent_abi::Hold;
use aya::maps::{MapData, RingBuf};

use super::events::{record_from, watched};

/// The ring of held connections.
pub struct HoldStream {
    ring: RingBuf<MapData>,
}

impl HoldStream {
    pub(super) fn new(ring: RingBuf<MapData>) -> Self {
        Self { ring }
    }

    /// Calls `handle` for each connection that is held or is not held any more, in order, until the future is
    /// dropped.
    pub async fn run(self, mut handle: impl FnMut(&Hold)) -> io::Result<()> {
        let mut ring = watched(self.ring)?;
        loop {
            let mut ready = ring.readable_mut().await?;
            while let Some(item) = ready.get_inner_mut().next() {
                if let Some(hold) = record_from::<Hold>(&item) {
                    handle(&hold);
                }
            }
            ready.clear_ready();
        }
    }
}
