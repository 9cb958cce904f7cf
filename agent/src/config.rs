//! The agent's configuration file. Unknown fields are refused: a misspelt limit must not be no limit.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
};

use serde::Deserialize;
use thiserror::Error;

use crate::{
    audit::AuditConfig,
    credentials::CredentialConfig,
    identity::config::IssuerConfig,
    jobs::RevocationsConfig,
    kernel::{EnrolRule, KernelConfig},
    tls::TlsConfig,
};

/// Where everything looks for the configuration unless told otherwise.
pub const DEFAULT_PATH: &str = "/etc/lineal/agent.toml";
/// Where the control socket is unless told otherwise.
pub const DEFAULT_CONTROL: &str = "/run/lineal/control.sock";

/// `agent.toml`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The control socket.
    #[serde(default = "default_control")]
    pub control: PathBuf,
    /// What must survive a restart: revocations, used tokens, the audit key.
    #[serde(default = "default_state")]
    pub state_dir: PathBuf,
    /// The policy bundle: `default/` and `hosts/<hostname>/`.
    #[serde(default = "default_policies")]
    pub policy_dir: PathBuf,
    /// This host's name in the trail and in `hosts/`; the system's own unless given.
    pub hostname: Option<String>,
    /// User ids that may administer the agent besides root.
    #[serde(default)]
    pub admins: Vec<u32>,
    /// The kernel side.
    #[serde(default)]
    pub kernel: KernelConfig,
    /// The audit trail.
    #[serde(default)]
    pub audit: AuditConfig,
    /// Metrics.
    #[serde(default)]
    pub metrics: MetricsConfig,
    /// Bounds.
    #[serde(default)]
    pub limits: Limits,
    /// What jobs are to trust.
    #[serde(default)]
    pub tls: TlsConfig,
    /// Whose access has ended, as others say.
    #[serde(default)]
    pub revocations: RevocationsConfig,
    /// Who is followed without having asked for it.
    #[serde(default, rename = "enrol")]
    pub rules: Vec<EnrolRule>,
    /// What the agent itself logs in with, by the names that upstreams use.
    #[serde(default, rename = "credential")]
    pub credentials: Vec<CredentialConfig>,
    /// Who issues the tokens that jobs start under.
    #[serde(default, rename = "issuer")]
    pub issuers: Vec<IssuerConfig>,
}

/// `[metrics]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct MetricsConfig {
    /// Where Prometheus scrapes.
    pub listen: SocketAddr,
}

impl Default for MetricsConfig {
    fn default() -> Self {
        Self { listen: SocketAddr::from(([127, 0, 0, 1], 9464)) }
    }
}

/// `[limits]`: every one is counted where it is reached.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Live jobs on this host.
    pub jobs_max: usize,
    /// Open sessions on this host.
    pub sessions_max: usize,
    /// Open sessions of one job.
    pub sessions_per_job_max: usize,
    /// Threads that serve sessions.
    pub session_threads: usize,
    /// Seconds a dial of an upstream may take.
    pub dial_s: u64,
    /// Seconds a client may take from its connect to the end of authentication.
    pub startup_s: u64,
    /// Seconds that a peer may leave written bytes unread before the session is closed.
    pub stalled_write_s: u64,
    /// Seconds of silence after which a peer is asked whether it is still there; one that does not answer for as
    /// long again is gone.
    pub keepalive_s: u64,
    /// Seconds that SIGTERM waits for open sessions.
    pub drain_s: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            jobs_max: 4_096,
            sessions_max: 16_384,
            sessions_per_job_max: 8_192,
            session_threads: half_the_processors(),
            dial_s: 10,
            startup_s: 60,
            stalled_write_s: 300,
            keepalive_s: 60,
            drain_s: 30,
        }
    }
}

/// The other half is the jobs'. A thread that has more to do at each wake-up also sleeps and wakes less often.
fn half_the_processors() -> usize {
    std::thread::available_parallelism().map_or(1, |processors| (processors.get() / 2).max(1))
}

/// Why there is no configuration.
#[derive(Debug, Error)]
pub enum ConfigError {
    /// The file can't be read.
    #[error("cannot read {path}: {source}; name the agent's configuration with --config")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The file isn't a valid configuration.
    #[error("{path}: {reason}")]
    Invalid {
        /// The file.
        path: PathBuf,
        /// Where and why.
        reason: String,
    },
}

impl Config {
    /// Reads and checks a configuration file.
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path)
            .map_err(|source| ConfigError::Unreadable { path: path.to_owned(), source })?;
        let invalid = |reason: String| ConfigError::Invalid { path: path.to_owned(), reason };
        toml::from_str(&text).map_err(|error| invalid(error.to_string()))
    }

    /// This host's name.
    pub fn hostname(&self) -> String {
        self.hostname
            .clone()
            .unwrap_or_else(|| rustix::system::uname().nodename().to_string_lossy().into_owned())
    }
}

fn default_control() -> PathBuf {
    DEFAULT_CONTROL.into()
}

fn default_state() -> PathBuf {
    "/var/lib/lineal".into()
}

fn default_policies() -> PathBuf {
    "/etc/lineal/policies".into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str) -> Result<Config, String> {
        toml::from_str(text).map_err(|error| error.to_string())
    }

    #[test]
    fn an_empty_file_is_the_defaults() {
        let config = check("").unwrap();
        assert_eq!(config.control, Path::new(DEFAULT_CONTROL));
        assert_eq!(config.limits.jobs_max, 4_096);
    }

    #[test]
    fn an_unknown_field_is_refused_by_name() {
        for text in ["contrl = '/x'", "[limits]\njob_max = 1", "[kernel]\ncgrp = '/x'", "[metrics]\nport = 1"]
        {
            let error = check(text).unwrap_err();
            assert!(error.contains("unknown field"), "{text}: {error}");
        }
    }
}
