//! The agent's configuration file, `agent.toml`. Every setting but the issuers has a default. Unknown fields
//! are refused: a misspelt limit must not go unnoticed and leave its default in force.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
};

use serde::Deserialize;
use thiserror::Error;

use crate::{
    audit::AuditConfig,
    identity::config::IssuerConfig,
    jobs::RevocationsConfig,
    kernel::{EnrolRule, KernelConfig},
    logins::LoginConfig,
    tls::TlsConfig,
};

/// The configuration file, unless the command line names another.
pub const DEFAULT_PATH: &str = "/etc/lineal/agent.toml";
/// The control socket, unless the configuration names another.
pub const DEFAULT_CONTROL: &str = "/run/lineal/control.sock";

/// `agent.toml`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The control socket. Default: `/run/lineal/control.sock`.
    #[serde(default = "default_control")]
    pub control: PathBuf,
    /// The directory of what must survive a restart: revocations, used tokens, the keys of the trail and of
    /// the host's authority. Default: `/var/lib/lineal`.
    #[serde(default = "default_state")]
    pub state_dir: PathBuf,
    /// The directory of the policy bundle: `default/` and `hosts/<hostname>/`. Default:
    /// `/etc/lineal/policies`.
    #[serde(default = "default_policies")]
    pub policy_dir: PathBuf,
    /// This host's name in the trail and in `hosts/`. Default: the system's.
    pub hostname: Option<String>,
    /// The ids of users that may administer the agent, besides root. Default: none.
    #[serde(default)]
    pub admins: Vec<u32>,
    /// `[kernel]`: where the kernel side attaches, and its bounds.
    #[serde(default)]
    pub kernel: KernelConfig,
    /// `[audit]`: the audit trail.
    #[serde(default)]
    pub audit: AuditConfig,
    /// `[metrics]`.
    #[serde(default)]
    pub metrics: MetricsConfig,
    /// `[limits]`: bounds of the agent itself.
    #[serde(default)]
    pub limits: Limits,
    /// `[tls]`: what jobs are told to trust.
    #[serde(default)]
    pub tls: TlsConfig,
    /// `[revocations]`: a revocation file maintained outside lineal, and what becomes of a revoked job's
    /// processes.
    #[serde(default)]
    pub revocations: RevocationsConfig,
    /// Each `[[enrol]]`: a rule by which processes are followed that have not asked for it. Default: none.
    #[serde(default, rename = "enrol")]
    pub rules: Vec<EnrolRule>,
    /// Each `[[credential]]`: what the agent itself logs in to servers with, by the name that upstreams use.
    /// Default: none.
    #[serde(default, rename = "credential")]
    pub logins: Vec<LoginConfig>,
    /// Each `[[issuer]]`: who issues the tokens that jobs start under. 1 to 16; without one the agent does
    /// not start.
    #[serde(default, rename = "issuer")]
    pub issuers: Vec<IssuerConfig>,
}

/// `[metrics]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct MetricsConfig {
    /// Where `GET /metrics` is served. Default: `127.0.0.1:9464`.
    pub listen: SocketAddr,
}

impl Default for MetricsConfig {
    fn default() -> Self {
        Self { listen: SocketAddr::from(([127, 0, 0, 1], 9464)) }
    }
}

/// `[limits]`. Reaching one is counted in a metric. None has a bound of its own: any number that fits is
/// accepted.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Live jobs on this host; one more is refused. Default: 4096.
    pub jobs_max: usize,
    /// Open sessions on this host; one more is reset. Default: 16384.
    pub sessions_max: usize,
    /// Open sessions of one job; one more is reset. Default: 8192.
    pub sessions_per_job_max: usize,
    /// Threads that serve sessions. Default: half as many as there are processors, and at least 1.
    pub session_threads: usize,
    /// Seconds that dialling an upstream may take. Default: 10.
    pub dial_s: u64,
    /// Seconds that a client may take from its connect to the end of authentication. Default: 60.
    pub startup_s: u64,
    /// Seconds that a client or an upstream may leave bytes unread before the session is closed. Default:
    /// 300.
    pub stalled_write_s: u64,
    /// Seconds of silence after which a client or an upstream is probed; as many again without an answer end
    /// the session. Default: 60.
    pub keepalive_s: u64,
    /// Seconds that open sessions are given to end after SIGTERM. Default: 30.
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

/// Half the processors are left to the jobs. Fewer threads also cost less: each finds more to do when it
/// wakes, and wakes less often.
fn half_the_processors() -> usize {
    std::thread::available_parallelism().map_or(1, |processors| (processors.get() / 2).max(1))
}

/// Why a configuration can't be used.
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
    /// The file is not TOML, or not a configuration.
    #[error("{path}: {reason}")]
    Invalid {
        /// The file.
        path: PathBuf,
        /// Where in the file, and what is wrong.
        reason: String,
    },
}

impl Config {
    /// Reads a configuration file. Its parts check their values when they are made of it.
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path)
            .map_err(|source| ConfigError::Unreadable { path: path.to_owned(), source })?;
        let invalid = |reason: String| ConfigError::Invalid { path: path.to_owned(), reason };
        toml::from_str(&text).map_err(|error| invalid(error.to_string()))
    }

    /// This host's name: the configured one, or the system's.
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
    fn an_empty_file_gives_the_defaults() {
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
