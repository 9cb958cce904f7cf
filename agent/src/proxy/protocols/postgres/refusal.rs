//! How a client of PostgreSQL's protocol is told that its session is refused or cut: SQLSTATE and words.

use agent_core::postgres::fatal_error;
use tokio::io::AsyncWriteExt;

use crate::{
    proxy::{
        session::ended::{Ended, Refusal},
        stream::{linger, reset},
    },
    tls::Stream,
};

/// The SQLSTATE for a session's end (the manual, appendix A).
pub const fn sqlstate(why: Ended) -> [u8; 5] {
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

/// A session that does not begin.
pub struct Refused {
    /// How it ends, and why.
    pub refusal: Refusal,
    /// What the client is told of it.
    pub told: Told,
}

/// What a client whose session does not begin is told.
pub enum Told {
    /// The refusal's own words.
    Words,
    /// What the upstream said: one ErrorResponse, whole.
    Upstream(Vec<u8>),
    /// Nothing, and its connection is closed: the upstream has closed, and said nothing either.
    Closed,
    /// Nothing, and its connection is reset: the upstream can't be reached.
    Reset,
}

impl From<Refusal> for Refused {
    fn from(refusal: Refusal) -> Self {
        Self { refusal, told: Told::Words }
    }
}

/// What the client reads.
pub fn message(refusal: &Refusal) -> String {
    format!("lineal: {}", refusal.words)
}

/// Tells a client whose session has not begun that it won't, as the server would.
pub async fn refuse(client: &mut Stream, refused: Refused) {
    let error = match refused.told {
        Told::Words => fatal_error(sqlstate(refused.refusal.why), &message(&refused.refusal)),
        Told::Upstream(error) => error,
        Told::Closed => return linger(client).await,
        Told::Reset => return reset(client.tcp()),
    };
    if client.write_all(&error).await.is_ok() && client.flush().await.is_ok() {
        linger(client).await;
    }
}
