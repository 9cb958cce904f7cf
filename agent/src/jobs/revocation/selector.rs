//! Revocations: whose access has ended, why, and since when.

use std::time::{SystemTime, UNIX_EPOCH};

use agent_core::credential::Credential;
use serde::{Deserialize, Serialize};

use crate::ids::Id;

/// Whose access ends.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Selector {
    /// One job, by its id.
    Job(String),
    /// Every job of a subject, now and later.
    Subject(String),
    /// Every job whose credential has this claim, now and later.
    Claim {
        /// The claim.
        key: String,
        /// Its value.
        value: String,
    },
}

impl Selector {
    /// Every selector that matches a job. `job` is `None` for a credential that has no job yet; `credential`
    /// is `None` for an unidentified job.
    pub fn matching(job: Option<Id>, credential: Option<&Credential>) -> impl Iterator<Item = Self> {
        let subject = credential.map(|credential| Self::Subject(credential.subject.clone()));
        let claims = credential.into_iter().flat_map(|credential| &credential.claims);
        let claims = claims.map(|(key, value)| Self::Claim { key: key.clone(), value: value.clone() });
        job.map(|job| Self::Job(job.to_string())).into_iter().chain(subject).chain(claims)
    }
}

/// One revocation, made on this host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Revocation {
    /// Whose access ended.
    pub selector: Selector,
    /// Why.
    pub reason: String,
    /// When, microseconds since the Unix epoch.
    pub time_us: u64,
    /// User id of whoever ended it; 0 for the agent itself.
    pub by_uid: u32,
}

impl Revocation {
    /// A revocation that begins now.
    pub fn now(selector: Selector, reason: String, by_uid: u32) -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        Self { selector, reason, time_us: since.map_or(0, |since| since.as_micros() as u64), by_uid }
    }
}

/// An entry of the revocation file that is maintained outside lineal.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Listed {
    /// Whose access has ended.
    pub selector: Selector,
    /// Why.
    pub reason: String,
}
