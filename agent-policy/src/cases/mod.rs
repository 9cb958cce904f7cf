//! `NAME.cases.toml`: what the author of `NAME.cedar` expects of it, tried on the whole bundle by the code
//! that enforces. A case that names something that does not exist is an error with its line, and never
//! passes.

mod format;
mod sql;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use agent_core::{
    credential::Credential,
    decision::{Decision, Effect},
    facts::{Access, Action, Facts, Family, Resource},
    target::Scope,
};
use serde::Serialize;

use self::format::{Case, CaseAccess, File};
use crate::{
    bundle::{
        Bundle,
        source::{BundleError, Kind, Source, line_of},
        upstreams::{Protocol, Upstream},
    },
    decide::{Decider, decide_undeclared},
    subject::{Principal, Subject},
    time::unix_of,
    vocabulary::value::EngineError,
};

/// The time of a case that gives none: Monday 2026-01-05, noon UTC.
const NOON_UNIX: i64 = 1_767_614_400;

/// The result of one case.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CaseResult {
    /// The file that holds the case.
    pub file: String,
    /// The line of its name.
    pub line: usize,
    /// Its name.
    pub name: String,
    /// True if it went as expected.
    pub passed: bool,
    /// What was expected and what came instead, in one line; empty when it passed.
    pub difference: String,
    /// What was decided.
    pub decision: Effect,
    /// The policies that decided.
    pub policies: Vec<Box<str>>,
    /// The sentence that the client would read.
    pub reason: Box<str>,
}

/// Makes facts of a statement in a protocol.
type Analyze<'a> = &'a dyn Fn(Protocol, &str) -> Option<Facts>;

/// Runs every case of every `*.cases.toml` among the sources.
///
/// `analyze` makes facts of a statement; `None` for a protocol whose commands are not read. Analysis is in
/// other crates: the caller must pass the one that the agent enforces with.
pub fn run_cases(
    bundle: &Arc<Bundle>,
    sources: &[Source],
    analyze: Analyze<'_>,
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
                line: line_of(&source.text, at),
                name,
                passed: difference.is_empty(),
                difference,
                decision: decision.effect,
                policies: decision.policies,
                reason: decision.reason,
            });
        }
    }
    Ok(results)
}

impl Case {
    /// The decision on what the case describes; otherwise what is wrong with it, in words that follow its
    /// name.
    fn decide(&self, bundle: &Arc<Bundle>, analyze: Analyze<'_>) -> Result<Decision, String> {
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
                None => {
                    return Ok(
                        decide_undeclared(bundle, &subject, *destination, now_unix, &approvals).decision
                    );
                }
            },
            (None, Some(statement), None) => {
                let upstream = self.upstream(bundle)?;
                let facts = analyze(upstream.protocol, statement).ok_or_else(|| {
                    format!("has a statement, and of {} no command is read", upstream.protocol.name())
                })?;
                (upstream, facts)
            }
            (None, None, Some(actions)) => (self.upstream(bundle)?, self.facts(actions)?),
            _ => return Err("must have exactly one of statement, actions and destination".to_owned()),
        };
        let decider = Decider::new(bundle, &subject, &upstream, &self.scope(upstream.protocol));
        let decider = decider.map_err(|error| error.to_string())?;
        Ok(decider.decide(&facts, now_unix, &approvals).decision)
    }

    /// The bundle's upstream of that name; in a bundle that declares no such upstream, one made up for the
    /// case.
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

    /// What the session has chosen within its upstream.
    fn scope(&self, protocol: Protocol) -> Scope {
        match protocol {
            Protocol::Postgres => sql::scope(self.database.as_deref(), self.user.as_deref()),
            Protocol::Tcp => Scope::Connection,
        }
    }

    fn facts(&self, actions: &[CaseAccess]) -> Result<Facts, String> {
        let mut accesses = actions.iter().map(CaseAccess::access).collect::<Result<Vec<_>, _>>()?;
        accesses.sort();
        accesses.dedup();
        let detail = sql::detail(self.sql.as_ref(), &accesses)?;
        Ok(Facts { accesses, detail, barred: None })
    }

    fn subject(&self) -> Result<Subject, EngineError> {
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
        let expect = Effect::from(self.expect);
        if decision.effect != expect {
            let (expect, effect) = (expect.name(), decision.effect.name());
            return format!("expected {expect}, got {effect}: {}", decision.reason);
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

impl CaseAccess {
    fn access(&self) -> Result<Access, String> {
        let action = Action::ALL.iter().find(|action| action.name() == self.action);
        let action = *action.ok_or_else(|| format!("has no action that exists: {:?}", self.action))?;
        let table = (self.schema.as_deref(), self.table.as_deref());
        let resource = match (action.family(), table) {
            (Family::Sql, (schema, table)) => sql::resource(schema, table)?,
            (Family::Connection, (None, None)) => Resource::Upstream,
            (Family::Connection, _) => return Err(format!("gives the action {} a table", self.action)),
        };
        Ok(Access { action, resource })
    }
}
