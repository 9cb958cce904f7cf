//! Promises of the crate as a whole: decisions, their cache, the test cases, and the shipped pack.

mod cache;
mod cases;
mod decisions;
mod loading;
mod observe;
mod pack;

use std::collections::BTreeMap;
use std::sync::Arc;

use agent_core::credential::Credential;
use agent_core::facts::{Access, Action, Facts, Relation, Resource, SqlFacts};
use agent_core::lineage::{Lineage, Process};

use crate::{Bundle, Principal, Protocol, Session, Source, Subject, Upstream};

/// Monday 2026-01-05, noon UTC.
const NOON: i64 = 1_767_614_400;

fn bundle(policies: &str) -> Arc<Bundle> {
    bundle_of(&[("default/x.cedar", policies)])
}

fn bundle_of(files: &[(&str, &str)]) -> Arc<Bundle> {
    let sources: Vec<_> = files.iter().map(|(path, text)| Source::new(*path, *text)).collect();
    Arc::new(Bundle::load(&sources).unwrap())
}

fn credential(groups: &[&str]) -> Credential {
    Credential {
        issuer: "https://issuer.example".to_owned(),
        subject: "contractor:dana".to_owned(),
        groups: groups.iter().map(ToString::to_string).collect(),
        claims: BTreeMap::from([("repository".to_owned(), "example/shop".to_owned())]),
        expires_unix: i64::MAX,
        acts_until_unix: i64::MAX,
    }
}

fn lineage() -> Lineage {
    let process = |pid, exe: &str| Process { pid, exe: exe.to_owned(), argv: vec![] };
    Lineage {
        process: process(3, "/usr/bin/psql"),
        cwd: "/".to_owned(),
        uid: 1000,
        container: "c0ffee".to_owned(),
        ancestry: vec![process(1, "/bin/sh"), process(2, "/usr/bin/python3"), process(3, "/usr/bin/psql")],
    }
}

fn subject(groups: &[&str]) -> Subject {
    Subject::new(Principal::Credential(&credential(groups)), "job-1", &lineage()).unwrap()
}

fn shop() -> Upstream {
    Upstream::new("shop", Protocol::Postgres)
}

fn session(bundle: &Arc<Bundle>, groups: &[&str]) -> Session {
    bundle.session(&subject(groups), &shop(), "shop", "app").unwrap()
}

fn action(name: &str) -> Action {
    *Action::ALL.iter().find(|action| action.name() == name).unwrap_or_else(|| panic!("no action {name}"))
}

/// An access from `sql:select public.orders`, `sql:select orders`, `sql:set` or `connect`.
fn access(text: &str) -> Access {
    let (name, table) = text.split_once(' ').map_or((text, None), |(name, table)| (name, Some(table)));
    let resource = match table {
        Some(table) => {
            let (schema, name) = table.split_once('.').map_or((None, table), |(s, n)| (Some(s), n));
            Resource::Table(Relation { schema: schema.map(Into::into), name: name.into() })
        }
        None if name == "connect" => Resource::Upstream,
        None => Resource::Database,
    };
    Access { action: action(name), resource }
}

fn plain_sql() -> SqlFacts {
    SqlFacts { statements: 1, has_where: true, ..SqlFacts::default() }
}

fn facts(accesses: &[&str], sql: SqlFacts) -> Facts {
    let mut accesses: Vec<_> = accesses.iter().map(|text| access(text)).collect();
    accesses.sort();
    Facts { accesses, sql: Some(sql) }
}
