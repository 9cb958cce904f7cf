//! The control socket: how the command line, and a job that enrols itself, speak with the agent.
//!
//! One request a connection, as a JSON object on one line; answers are JSON objects, one a line, the last of
//! them `{"done":true}` or `{"error":"…"}`. Who may ask what is decided by the peer's credentials and its kernel
//! tag, see [`peer`].

pub mod client;
pub mod peer;
pub mod server;

use serde::{Deserialize, Serialize};

use crate::jobs::Selector;

/// Longest request line, a token included.
pub const REQUEST_BYTES_MAX: usize = 64 << 10;
/// Requests served at once, but for those of root and the admins.
pub const CONNECTIONS_MAX: usize = 256;
/// Requests of one user at once; root and the admins count as one.
pub const CONNECTIONS_PER_USER_MAX: usize = 64;
/// Seconds a peer may take to send its request.
pub const REQUEST_S: u64 = 10;

/// What can be asked. No `Debug`: it can hold a token.
#[derive(Serialize, Deserialize)]
#[serde(tag = "verb", rename_all = "lowercase", deny_unknown_fields)]
pub enum Request {
    /// Puts the asking process into a new job; or another one, and all that descends from it.
    Enroll {
        /// An OIDC token.
        token: String,
        /// The job's name.
        name: Option<String>,
        /// The other one's PID, of the host.
        #[serde(default)]
        pid: Option<u32>,
    },
    /// Lists live jobs.
    Jobs,
    /// The agent's health.
    Status,
    /// Ends access.
    Revoke {
        /// Whose.
        selector: Selector,
        /// Why.
        reason: String,
        /// Whether its processes are killed, too.
        #[serde(default)]
        kill: bool,
    },
    /// Reads the policy bundle again.
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
    /// Done as asked.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub done: bool,
    /// Why not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}
