//! How sessions end, in the words of the trail and the metrics, whatever their protocol.

/// Why a session ended, or was refused before it began.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// One side closed, in order.
    Closed,
    /// A connection broke.
    Broken,
    /// The client's connection could not be used.
    ClientFailed,
    /// The client closed, or its connection broke.
    ClientLeft,
    /// The client's TLS handshake failed.
    ClientTlsFailed,
    /// The client or the upstream broke the protocol, or asked for what is not carried.
    ProtocolViolation,
    /// The session had not begun in time.
    StartupTimedOut,
    /// One side left what was sent to it unread for too long.
    Stalled,
    /// Policy denies the session.
    Denied,
    /// The audit trail could not be written.
    Unrecorded,
    /// Policy has no way to express the session.
    Unrepresentable,
    /// The client asked at the beginning for what would change how its commands are read.
    ForbiddenOption,
    /// The bundle declares the upstream otherwise than when the client connected.
    UpstreamChanged,
    /// The upstream can't be reached.
    UpstreamUnreachable,
    /// The upstream closed.
    UpstreamClosed,
    /// The upstream's connection broke.
    UpstreamBroken,
    /// The agent's own login for the upstream can't be had.
    NoLogin,
    /// The upstream refuses the agent's own login.
    LoginFailed,
    /// It was a request to cancel another session's command, and was passed on.
    Cancelled,
    /// It was a request to cancel what is not this job's.
    CancelRefused,
    /// The job's token has expired.
    Expired,
    /// The job's access was revoked.
    Revoked,
    /// The agent stops.
    AgentStopped,
    /// A fault of lineal's own.
    Internal,
}

impl Ended {
    /// Whether the upstream may not be there any more.
    pub const fn is_upstreams_failure(self) -> bool {
        matches!(self, Self::UpstreamUnreachable | Self::UpstreamClosed | Self::UpstreamBroken)
    }

    /// The `reason` of the trail's record and of `lineal_sessions_ended_total`.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Broken => "broken",
            Self::ClientFailed => "client_failed",
            Self::ClientLeft => "client_left",
            Self::ClientTlsFailed => "client_tls_failed",
            Self::ProtocolViolation => "protocol_violation",
            Self::StartupTimedOut => "startup_timed_out",
            Self::Stalled => "stalled",
            Self::Denied => "denied",
            Self::Unrecorded => "unrecorded",
            Self::Unrepresentable => "unrepresentable",
            Self::ForbiddenOption => "forbidden_option",
            Self::UpstreamChanged => "upstream_changed",
            Self::UpstreamUnreachable => "upstream_unreachable",
            Self::UpstreamClosed => "upstream_closed",
            Self::UpstreamBroken => "upstream_broken",
            Self::NoLogin => "no_credential",
            Self::LoginFailed => "login_failed",
            Self::Cancelled => "cancelled",
            Self::CancelRefused => "cancel_refused",
            Self::Expired => "expired",
            Self::Revoked => "revoked",
            Self::AgentStopped => "agent_stopped",
            Self::Internal => "internal",
        }
    }
}

/// A session that is refused or cut. Each adapter maps `why` to its protocol's codes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// How the session ends.
    pub why: Ended,
    /// One sentence for the client.
    pub words: String,
}

impl Refusal {
    /// A refusal in these words.
    pub fn new(why: Ended, words: impl Into<String>) -> Self {
        Self { why, words: words.into() }
    }
}
