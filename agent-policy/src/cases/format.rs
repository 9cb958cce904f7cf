//! The format of `NAME.cases.toml`: every key that a case can have. Unknown keys are refused.

use std::{collections::BTreeMap, net::SocketAddr};

use agent_core::{
    decision::Effect,
    lineage::{Lineage, Process},
};
use serde::Deserialize;
use toml::{Spanned, value::Datetime};

use super::sql::SqlKeys;
use crate::bundle::upstreams::Protocol;

/// A file of cases.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct File {
    pub(super) case: Vec<Case>,
}

/// A `[[case]]`: who does what, and what is expected of it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Case {
    pub(super) name: Spanned<String>,
    pub(super) principal: CasePrincipal,
    pub(super) upstream: Option<String>,
    pub(super) protocol: Option<Protocol>,
    // What an SQL session has chosen, and what SQL adds to `actions`.
    pub(super) database: Option<String>,
    pub(super) user: Option<String>,
    pub(super) sql: Option<SqlKeys>,
    // What is done: exactly one of these three.
    pub(super) statement: Option<String>,
    pub(super) actions: Option<Vec<CaseAccess>>,
    pub(super) destination: Option<SocketAddr>,
    #[serde(default)]
    pub(super) process: CaseProcess,
    pub(super) time: Option<Datetime>,
    #[serde(default)]
    pub(super) approvals: Vec<String>,
    pub(super) expect: Expect,
    pub(super) policies: Option<Vec<String>>,
}

/// The credential of the job; or no credential.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct CasePrincipal {
    #[serde(default)]
    pub(super) issuer: String,
    #[serde(default)]
    pub(super) subject: String,
    #[serde(default)]
    pub(super) groups: Vec<String>,
    #[serde(default)]
    pub(super) claims: BTreeMap<String, String>,
    /// The job has no credential.
    #[serde(default)]
    pub(super) unidentified: bool,
    /// The rule that enrolled a job without a credential.
    #[serde(default)]
    pub(super) rule: String,
}

/// One of `actions`: an action by its name, and its resource.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct CaseAccess {
    pub(super) action: String,
    pub(super) schema: Option<String>,
    pub(super) table: Option<String>,
}

/// The process that connects.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct CaseProcess {
    exe: Option<String>,
    uid: Option<u32>,
    container: String,
    /// Executables from the job's root down, without the process itself, which `exe` names.
    ancestry: Vec<String>,
}

impl CaseProcess {
    pub(super) fn lineage(&self) -> Lineage {
        let exe = self.exe.as_deref().unwrap_or("/usr/bin/psql");
        let process = |pid, exe: &str| Process { pid, exe: exe.to_owned(), argv: Vec::new() };
        Lineage {
            process: process(0, exe),
            cwd: "/".to_owned(),
            uid: self.uid.unwrap_or(1000),
            container: self.container.clone(),
            ancestry: self.ancestry.iter().map(|exe| process(0, exe)).chain([process(0, exe)]).collect(),
        }
    }
}

/// The expected effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Expect {
    Allow,
    Deny,
    Hold,
}

impl From<Expect> for Effect {
    fn from(expect: Expect) -> Self {
        match expect {
            Expect::Allow => Self::Allow,
            Expect::Deny => Self::Deny,
            Expect::Hold => Self::Hold,
        }
    }
}
