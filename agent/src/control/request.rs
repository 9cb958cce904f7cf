//! What can be asked, how an answer ends, and the bounds of both. Shared by the agent's side and the command
//! line's.

use serde::{Deserialize, Serialize};

use crate::jobs::Selector;

/// Longest request line in bytes, a token included.
pub const REQUEST_BYTES_MAX: usize = 64 << 10;
/// Connections at once, without those of root and the admins.
pub const CONNECTIONS_MAX: usize = 256;
/// Connections of one user at once; root and the admins together count as one user.
pub const CONNECTIONS_PER_USER_MAX: usize = 64;
/// Seconds that a peer may take to send its request, and again to take the answer.
pub const REQUEST_S: u64 = 10;

/// A request. No `Debug`: it can hold a token.
#[derive(Serialize, Deserialize)]
#[serde(tag = "verb", rename_all = "lowercase", deny_unknown_fields)]
pub enum Request {
    /// Puts the asking process into a new job; with `pid`, another process and all its descendants.
    Enroll {
        /// An OIDC token.
        token: String,
        /// The job's name.
        name: Option<String>,
        /// The other process, as the host numbers it.
        #[serde(default)]
        pid: Option<u32>,
    },
    /// Lists live jobs.
    Jobs,
    /// Tells the agent's health.
    Status,
    /// Ends access.
    Revoke {
        /// Whose access ends.
        selector: Selector,
        /// Why, for the trail and for those who lose access.
        reason: String,
        /// Whether the processes are killed too.
        #[serde(default)]
        kill: bool,
    },
    /// Reads the policy bundle and the list of revocations again.
    Reload,
    /// Replaces the host's certificate authority.
    Rotate,
}

impl Request {
    /// The verb, for logs.
    pub fn verb(&self) -> &'static str {
        match self {
            Self::Enroll { .. } => "enroll",
            Self::Jobs => "jobs",
            Self::Status => "status",
            Self::Revoke { .. } => "revoke",
            Self::Reload => "reload",
            Self::Rotate => "rotate",
        }
    }
}

/// The last line of an answer.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct End {
    /// True if the request was carried out.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub done: bool,
    /// Why it was not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}
