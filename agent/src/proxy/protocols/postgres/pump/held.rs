//! What a session holds for a long message.

use std::pin::Pin;

use tokio::sync::OwnedSemaphorePermit;

use super::super::later::Done;
use crate::proxy::aside::AsideError;

/// Work that is being done for the question at hand.
pub(super) type Working = Pin<Box<dyn Future<Output = Result<Done, AsideError>> + Send>>;

/// A wait for room; `None` if there can be none.
type Waiting = Pin<Box<dyn Future<Output = Option<OwnedSemaphorePermit>> + Send>>;

/// Room for a long message, of which the sessions of a job have so much together: from the first bytes of the
/// message until it is on its way.
#[derive(Default)]
pub(super) struct Room {
    pub(super) held: Option<OwnedSemaphorePermit>,
    /// The wait for room, and for how many KiB.
    pub(super) wait: Option<(u32, Waiting)>,
}
