//! `NAME.cases.toml`: what the author of `NAME.cedar` expects of it, tried on the bundle as a whole through the
//! code that enforces. A case that names no real thing is an error with its line, never a pass.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use agent_core::credential::Credential;
use agent_core::decision::{Decision, Verdict};
use agent_core::facts::{Access, Action, Facts, Relation, Resource, SqlFacts};
use agent_core::lineage::{Lineage, Process};
use serde::{Deserialize, Serialize};
use toml::Spanned;

use crate::bundle::Bundle;
use crate::schema::is_sql;
use crate::source::{BundleError, Kind, Source};
use crate::subject::{Principal, Subject};
use crate::time::unix_of;
use crate::upstreams::{Protocol, Upstream};

/// When a case happens that does not say: Monday 2026-01-05, noon UTC.
const NOON_UNIX: i64 = 1_767_614_400;

/// How one case went.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CaseResult {
    /// The file that holds the case.
    pub file: String,
    /// The line its name stands in.
    pub line: usize,
    /// Its name.
    pub name: String,
    /// True when it went as expected.
    pub passed: bool,
    /// What was expected and what came instead, in one line; empty when it passed.
    pub difference: String,
    /// What was decided.
    pub decision: Verdict,
    /// The policies that decided.
    pub policies: Vec<Box<str>>,
    /// The sentence that the client would read.
    pub reason: Box<str>,
}

/// Runs every case of every `*.cases.toml` among the sources.
///
/// `analyze` makes facts of a statement: the analysis lives in another crate, and the caller brings the one
/// that enforces.
pub fn run_cases(
    bundle: &Arc<Bundle>,
    sources: &[Source],
    analyze: &dyn Fn(&str) -> Facts,
) -> Result<Vec<CaseResult>, BundleError> {
    let mut results = Vec::new();
    for source in sources.iter().filter(|source| source.kind() == Some(Kind::Cases)) {
        let file: File = toml::from_str(&source.text).map_err(|error| source.refuse_toml(&error))?;
        for case in file.case {
            let at = case.name.span().start;
            let name = case.name.get_ref().clone();
            let decision = case
                .decide(bundle, analyze)
                .map_err(|wrong| source.refuse_at(at, format_args!("the case \"{name}\" {wrong}")))?;
            let difference = case.difference(&decision);
            results.push(CaseResult {
                file: source.path.clone(),
                line: crate::source::line_of(&source.text, at),
                name,
                passed: difference.is_empty(),
                difference,
                decision: decision.verdict,
                policies: decision.policies,
                reason: decision.reason,
            });
        }
    }
    Ok(results)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    case: Vec<Case>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    name: Spanned<String>,
    principal: CasePrincipal,
    upstream: Option<String>,
    protocol: Option<Protocol>,
    database: Option<String>,
    user: Option<String>,
    statement: Option<String>,
    actions: Option<Vec<CaseAccess>>,
    sql: Option<CaseSql>,
    destination: Option<SocketAddr>,
    #[serde(default)]
    process: CaseProcess,
    time: Option<toml::value::Datetime>,
    #[serde(default)]
    approvals: Vec<String>,
    expect: Expect,
    policies: Option<Vec<String>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CasePrincipal {
    #[serde(default)]
    issuer: String,
    #[serde(default)]
    subject: String,
    #[serde(default)]
    groups: Vec<String>,
    #[serde(default)]
    claims: BTreeMap<String, String>,
    #[serde(default)]
    unidentified: bool,
    /// The rule that enrolled an unidentified one.
    #[serde(default)]
    rule: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CaseAccess {
    action: String,
    schema: Option<String>,
    table: Option<String>,
}

/// The names are those of `context.sql`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
struct CaseSql {
    statements: u32,
    has_where: bool,
    writes_in_cte: bool,
    functions: Vec<String>,
    settings: Vec<String>,
}

impl Default for CaseSql {
    fn default() -> Self {
        Self { statements: 1, has_where: true, writes_in_cte: false, functions: vec![], settings: vec![] }
    }
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct CaseProcess {
    exe: Option<String>,
    uid: Option<u32>,
    container: String,
    ancestry: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Expect {
    Allow,
    Deny,
    Hold,
}

impl Case {
    /// The decision on what the case describes; otherwise what is wrong with it, in words that follow its name.
    fn decide(&self, bundle: &Arc<Bundle>, analyze: &dyn Fn(&str) -> Facts) -> Result<Decision, String> {
        let now_unix = match &self.time {
            None => NOON_UNIX,
            Some(time) => unix_of(time).ok_or("has a time that is not like 2026-01-05T12:00:00Z")?,
        };
        let approvals: Vec<&str> = self.approvals.iter().map(String::as_str).collect();
        let subject = self.subject().map_err(|error| format!("has an impossible principal: {error}"))?;
        let declared = self.destination.and_then(|destination| bundle.upstream_for(destination).cloned());
        let (upstream, facts) = match (&self.destination, &self.statement, &self.actions) {
            (Some(destination), None, None) => match declared {
                Some(upstream) => (upstream, Facts::connect()),
                None => return Ok(bundle.decide_undeclared(&subject, *destination, now_unix, &approvals)),
            },
            (None, Some(statement), None) => (self.upstream(bundle)?, analyze(statement)),
            (None, None, Some(actions)) => (self.upstream(bundle)?, self.facts(actions)?),
            _ => return Err("must have exactly one of statement, actions and destination".to_owned()),
        };
        let database = self.database.as_deref().unwrap_or("app");
        let session = bundle
            .session(&subject, &upstream, database, self.user.as_deref().unwrap_or("app"))
            .map_err(|error| error.to_string())?;
        Ok(session.decide(&facts, now_unix, &approvals))
    }

    /// The bundle's upstream of that name, or, for packs that declare none, one made up for the case.
    fn upstream(&self, bundle: &Bundle) -> Result<Upstream, String> {
        let name = self.upstream.as_deref().ok_or("must name an upstream")?;
        match (bundle.upstream_named(name), self.protocol) {
            (Some(upstream), Some(protocol)) if protocol != upstream.protocol => {
                Err(format!("gives the upstream \"{name}\" a protocol that upstreams.toml does not"))
            }
            (Some(upstream), _) => Ok(upstream.clone()),
            (None, protocol) => Ok(Upstream::new(name, protocol.unwrap_or(Protocol::Postgres))),
        }
    }

    fn facts(&self, actions: &[CaseAccess]) -> Result<Facts, String> {
        let mut accesses = actions.iter().map(CaseAccess::access).collect::<Result<Vec<_>, _>>()?;
        accesses.sort();
        accesses.dedup();
        let default = CaseSql::default();
        let sql = accesses.iter().any(|access| is_sql(access.action)).then(|| {
            let sql = self.sql.as_ref().unwrap_or(&default);
            SqlFacts {
                statements: sql.statements,
                has_where: sql.has_where,
                functions: sql.functions.iter().map(|name| name.as_str().into()).collect(),
                settings: sql.settings.iter().map(|name| name.as_str().into()).collect(),
                alters_reading: None,
                writes_in_cte: sql.writes_in_cte,
            }
        });
        if sql.is_none() && self.sql.is_some() {
            return Err("describes sql, but has no sql action".to_owned());
        }
        Ok(Facts { accesses, sql })
    }

    fn subject(&self) -> Result<Subject, crate::EngineError> {
        let credential = Credential {
            issuer: self.principal.issuer.clone(),
            subject: self.principal.subject.clone(),
            groups: self.principal.groups.clone(),
            claims: self.principal.claims.clone(),
            expires_unix: i64::MAX,
            acts_until_unix: i64::MAX,
        };
        let principal = if self.principal.unidentified {
            Principal::Unidentified { rule: &self.principal.rule }
        } else {
            Principal::Credential(&credential)
        };
        Subject::new(principal, "case", &self.process.lineage())
    }

    /// What did not go as expected, or the empty string.
    fn difference(&self, decision: &Decision) -> String {
        let expect = match self.expect {
            Expect::Allow => Verdict::Allow,
            Expect::Deny => Verdict::Deny,
            Expect::Hold => Verdict::Hold,
        };
        if decision.verdict != expect {
            return format!("expected {}, got {}: {}", name(expect), name(decision.verdict), decision.reason);
        }
        let mut wanted = self.policies.clone().unwrap_or_default();
        wanted.sort();
        let got: Vec<String> = decision.policies.iter().map(ToString::to_string).collect();
        if self.policies.is_some() && wanted != got {
            return format!("expected the policies {wanted:?}, got {got:?}: {}", decision.reason);
        }
        String::new()
    }
}

const fn name(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Allow => "allow",
        Verdict::Deny => "deny",
        Verdict::Hold => "hold",
    }
}

impl CaseAccess {
    fn access(&self) -> Result<Access, String> {
        let action = Action::ALL.iter().find(|action| action.name() == self.action);
        let action = *action.ok_or_else(|| format!("has no action that exists: {:?}", self.action))?;
        let resource = match (&self.table, &self.schema) {
            (Some(table), schema) => Resource::Table(Relation {
                schema: schema.as_deref().map(Into::into),
                name: table.as_str().into(),
            }),
            (None, Some(_)) => return Err("gives a schema without a table".to_owned()),
            (None, None) if is_sql(action) => Resource::Database,
            (None, None) => Resource::Upstream,
        };
        Ok(Access { action, resource })
    }
}

impl CaseProcess {
    /// `ancestry` without the process itself, which `exe` names.
    fn lineage(&self) -> Lineage {
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
