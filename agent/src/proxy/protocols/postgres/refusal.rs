//! How a client of PostgreSQL's protocol is told that its session is refused or cut: SQLSTATE and words.

use agent_core::postgres::fatal_error;
use tokio::io::AsyncWriteExt;

use crate::{
    proxy::{
        session::ended::{Ended, Refusal},
        stream::linger,
    },
    tls::Stream,
};

/// The SQLSTATE for a session's end (the manual, appendix A).
const fn sqlstate(why: Ended) -> [u8; 5] {
    *match why {
        Ended::Denied | Ended::ForbiddenOption => b"42501",
        Ended::Expired | Ended::Revoked | Ended::LoginFailed => b"28000",
        Ended::AgentStopped => b"57P01",
        Ended::UpstreamChanged => b"57P03",
        Ended::UpstreamUnreachable | Ended::UpstreamClosed | Ended::UpstreamBroken => b"08001",
        Ended::Stalled => b"08006",
        Ended::ProtocolViolation => b"08P01",
        Ended::Unrecorded => b"58030",
        Ended::NoLogin | Ended::Unrepresentable => b"58000",
        // The client is told nothing of these: it has gone, or ended the session itself.
        Ended::Closed
        | Ended::Broken
        | Ended::ClientFailed
        | Ended::ClientLeft
        | Ended::ClientTlsFailed
        | Ended::StartupTimedOut
        | Ended::Cancelled
        | Ended::CancelRefused
        | Ended::Internal => b"XX000",
    }
}

/// The SQLSTATE that the client is told: the server's own, where there is one.
pub fn code(refusal: &Refusal) -> [u8; 5] {
    refusal.code.unwrap_or_else(|| sqlstate(refusal.why))
}

/// What the client reads.
pub fn message(refusal: &Refusal) -> String {
    format!("lineal: {}", refusal.words)
}

/// Tells a client whose session has not begun why it won't, as the server would.
pub async fn refuse(client: &mut Stream, refusal: &Refusal) {
    let error = fatal_error(code(refusal), &message(refusal));
    if client.write_all(&error).await.is_ok() && client.flush().await.is_ok() {
        linger(client).await;
    }
}
