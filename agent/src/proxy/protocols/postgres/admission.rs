//! Whether a client gets its session: decided and recorded before anything is dialled, then the upstream is
//! dialled and, where the agent has a login of its own for it, logged in to.

use std::{borrow::Cow, collections::BTreeSet};

use agent_core::{
    facts::{Action, Detail, Facts, SqlFacts},
    postgres::{Session as Machine, Setting, Startup, Violation, decides_reading, keeps_reading},
    ruling::Admission,
    target::{Scope, Target},
};
use agent_policy::{TlsMode, Upstream};

use super::{
    dial::{DialError, dial},
    login::{LoginError, login},
    names::joined,
    route::Route,
    schemas::Schemas,
    statements::Statements,
};
use crate::{
    logins::LoginsError,
    proxy::{
        session::{
            Session,
            ended::{Ended, Refusal},
            judge::{Beginning, Judge},
        },
        stream::{self, Side},
    },
};

/// A session that may begin.
pub struct Admitted {
    /// Decides what the client sends.
    pub statements: Statements,
    /// The upstream's connection.
    pub upstream: Side<stream::Upstream>,
    /// How it was reached.
    pub route: Route,
}

/// Asks policy, dials the upstream and, where the agent has a login for it, logs in.
pub async fn admit(
    session: &mut Session,
    upstream: &Upstream,
    startup: &Startup,
    machine: &mut Machine,
    command: u64,
) -> Result<Admitted, Refusal> {
    let groups = session.job.credential.as_ref().map_or(&[][..], |credential| &credential.groups);
    let login_name = upstream.leg.login_for(groups);
    let own = match login_name {
        // Nobody is asked for a secret on behalf of a job that may not act.
        Some(name) if session.objection().is_none() => {
            let own = session.proxy.parts.logins.fetch(name).await;
            Some(own.map_err(|error| no_login(upstream, &error))?)
        }
        _ => None,
    };
    let lends_login = login_name.is_some();
    let role = own.as_ref().and_then(|own| own.user.clone()).unwrap_or_else(|| startup.user.clone());
    let (statements, admission) = decide(session, upstream, startup, &role, lends_login)?;
    let identity = own.as_ref().and_then(|own| own.identity.clone());
    let route = Route { leg: upstream.leg.clone(), lends_login, identity, admission };
    let mut stream = dial(session, &route).await.map_err(|error| unreachable(session, upstream, &error))?;
    if stream.is_encrypted() {
        machine.upstream_encrypted();
    }
    let greeting = match &own {
        // The machine forwards the startup message itself, as the first thing of the session.
        None => {
            machine.admit(command, &route.admission).map_err(internal)?;
            Vec::new()
        }
        Some(own) => {
            let verified = route.leg.tls == TlsMode::VerifyFull;
            let greeting = login(&mut stream, startup, &role, own, verified).await;
            let greeting = greeting.map_err(|error| not_logged_in(upstream, &error))?;
            machine.admit_logged_in(command, &route.admission).map_err(internal)?;
            greeting
        }
    };
    Ok(Admitted { statements, upstream: Side::new(stream, greeting), route })
}

/// Decides whether the job may have this session. It is on record before anything is dialled.
fn decide(
    session: &mut Session,
    upstream: &Upstream,
    startup: &Startup,
    role: &str,
    lends_login: bool,
) -> Result<(Statements, Admission), Refusal> {
    let scope = Scope::sql(&startup.database, role);
    let address = session.destination.to_string().into();
    let target = Target { upstream: upstream.name.clone(), address, scope };
    session.record_open(&target)?;
    let settings =
        startup.settings().map_err(|error| Refusal::new(Ended::ForbiddenOption, error.to_string()))?;
    if let Some(setting) = forbidden_setting(&settings) {
        let words =
            format!("the startup option {setting} is not carried: it changes how statements are read");
        return Err(Refusal::new(Ended::ForbiddenOption, words));
    }
    let mut schemas = Schemas::new(role);
    let beginning = beginning(&settings, &schemas);
    schemas.add(&beginning.whole);
    let (judge, admission) = Judge::begin(session, upstream, target.scope, beginning, lends_login)?;
    Ok((Statements::new(session, judge, schemas), admission))
}

/// What a session's beginning does: the connection, and each setting that its startup message makes, as
/// `SET`.
fn beginning(settings: &[Setting], schemas: &Schemas) -> Beginning {
    let mut parts = vec![Facts::connect()];
    let set = settings.iter().filter(|(name, _)| !decides_reading(name));
    let names: BTreeSet<Box<str>> = set.map(|(name, _)| name.clone()).collect();
    if !names.is_empty() {
        let paths = settings.iter().filter(|(name, _)| **name == *"search_path");
        let search_path: BTreeSet<_> = paths.flat_map(|(_, value)| agent_sql::search_path(value)).collect();
        let sql = SqlFacts {
            settings: names.into_iter().collect(),
            search_path: search_path.into_iter().collect(),
            ..SqlFacts::one_statement()
        };
        let facts = Facts { detail: Some(Detail::Sql(sql)), ..Facts::of_sql(Action::SqlSet) };
        parts.push(schemas.locate(Cow::Owned(facts)).into_owned());
    }
    Beginning { whole: joined(&parts), parts }
}

/// A setting that no startup message may make: the upstream would read text in another way than the analysis.
fn forbidden_setting(settings: &[Setting]) -> Option<&str> {
    let forbidden = |(name, value): &&Setting| decides_reading(name) && !keeps_reading(name, value);
    settings.iter().find(forbidden).map(|(name, _)| &**name)
}

fn internal(violation: Violation) -> Refusal {
    Refusal::new(Ended::Internal, violation.to_string())
}

fn no_login(upstream: &Upstream, error: &LoginsError) -> Refusal {
    tracing::error!(upstream = &*upstream.name, %error, "there is no login for the upstream");
    let words = format!("the agent's login for {} cannot be had: see the agent's log", upstream.name);
    Refusal::new(Ended::NoLogin, words)
}

fn unreachable(session: &Session, upstream: &Upstream, error: &DialError) -> Refusal {
    let (name, at) = (&upstream.name, session.destination);
    Refusal::new(Ended::UpstreamUnreachable, format!("cannot reach {name} at {at}: {error}"))
}

/// What the server says of the role and its password is for the administrator to know; what it says of the
/// database or of its own state is for the client.
fn not_logged_in(upstream: &Upstream, error: &LoginError) -> Refusal {
    tracing::error!(upstream = &*upstream.name, %error, "the agent could not log in");
    let told = match error {
        LoginError::Refused { sqlstate, message } if !sqlstate.starts_with("28") => message.as_str(),
        _ => "see the agent's log",
    };
    let words = format!("cannot log in to {} with the agent's own login: {told}", upstream.name);
    Refusal::new(Ended::LoginFailed, words)
}
