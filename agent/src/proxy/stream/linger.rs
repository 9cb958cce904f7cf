//! How a connection is closed: so that the other end can still read what it was told, or so that it can't.

use std::time::Duration;

use socket2::SockRef;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::tls::Stream;

/// How long the other end may go on sending after it was told the end.
const LINGER: Duration = Duration::from_secs(2);
/// How much of what it still sends is read, and dropped, at once.
const DROPPED_BYTES: usize = 8 << 10;

/// Shuts down our direction, then reads and drops what still comes, for a bounded time. Closing with unread
/// bytes would send a reset, which takes from the other end what it was told last.
pub async fn linger(stream: &mut Stream) {
    let drained = async {
        let _ = stream.shutdown().await;
        // On the heap: inside the future, every session would hold it from its first moment on.
        let mut dropped = vec![0; DROPPED_BYTES];
        while matches!(stream.read(&mut dropped).await, Ok(bytes) if bytes > 0) {}
    };
    let _ = tokio::time::timeout(LINGER, drained).await;
}

/// Makes the coming close of a connection a reset: what was refused must not look like an orderly end, and
/// what is on its way must not arrive.
pub fn reset<'a>(stream: impl Into<SockRef<'a>>) {
    let _ = stream.into().set_linger(Some(Duration::ZERO));
}
