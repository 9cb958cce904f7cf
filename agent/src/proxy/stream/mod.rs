//! Bytes between a client and an upstream: buffers within bounds, and how a connection is kept alive and
//! closed. Nothing here knows what the bytes say.

mod copy;
mod linger;
mod side;

use std::time::Duration;

pub use copy::copy_both_ways;
pub use linger::{linger, reset};
pub use side::{BUFFER_BYTES, Client, Side, Upstream};
use socket2::{SockRef, TcpKeepalive};

use crate::config::Limits;

/// Makes the kernel probe a peer that has been silent for `limits.keepalive_s`, and end the connection if the
/// peer stays silent for as long again (four seconds at least).
pub fn keep_alive(socket: SockRef<'_>, limits: &Limits) -> std::io::Result<()> {
    const PROBES: u32 = 4;
    let silence = Duration::from_secs(limits.keepalive_s.max(1));
    let between = (silence / PROBES).max(Duration::from_secs(1));
    let keepalive = TcpKeepalive::new().with_time(silence).with_interval(between).with_retries(PROBES);
    socket.set_tcp_keepalive(&keepalive)
}
