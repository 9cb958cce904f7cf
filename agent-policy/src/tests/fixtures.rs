//! Bundles, subjects and facts that the tests of this crate share: a job of `contractor:dana` in a session
//! with the database `shop/shop` as the role `app`.

use std::{collections::BTreeMap, sync::Arc};

use agent_core::{
    credential::Credential,
    decision::Decision,
    facts::{Access, Action, Detail, Facts, Relation, Resource, SqlFacts, SqlResource},
    lineage::{Lineage, Process},
    target::Scope,
};

use crate::{Bundle, Decider, Principal, Protocol, Source, Subject, Upstream};

/// Monday 2026-01-05, noon UTC.
pub(crate) const NOON: i64 = 1_767_614_400;

pub(crate) fn bundle(policies: &str) -> Arc<Bundle> {
    bundle_of(&[("default/x.cedar", policies)])
}

pub(crate) fn bundle_of(files: &[(&str, &str)]) -> Arc<Bundle> {
    let sources: Vec<_> = files.iter().map(|(path, text)| Source::new(*path, *text)).collect();
    Arc::new(Bundle::load(&sources).unwrap())
}

pub(crate) fn credential(groups: &[&str]) -> Credential {
    Credential {
        issuer: "https://issuer.example".to_owned(),
        subject: "contractor:dana".to_owned(),
        groups: groups.iter().map(ToString::to_string).collect(),
        claims: BTreeMap::from([("repository".to_owned(), "example/shop".to_owned())]),
        expires_unix: i64::MAX,
        acts_until_unix: i64::MAX,
    }
}

pub(crate) fn lineage() -> Lineage {
    let process = |pid, exe: &str| Process { pid, exe: exe.to_owned(), argv: vec![] };
    Lineage {
        process: process(3, "/usr/bin/psql"),
        cwd: "/".to_owned(),
        uid: 1000,
        container: "c0ffee".to_owned(),
        ancestry: vec![process(1, "/bin/sh"), process(2, "/usr/bin/python3"), process(3, "/usr/bin/psql")],
    }
}

pub(crate) fn subject(groups: &[&str]) -> Subject {
    Subject::new(Principal::Credential(&credential(groups)), "job-1", &lineage()).unwrap()
}

pub(crate) fn shop() -> Upstream {
    Upstream::new("shop", Protocol::Postgres)
}

/// The scope that sessions of tests have chosen.
pub(crate) fn scope() -> Scope {
    Scope::sql("shop", "app")
}

pub(crate) fn decider(bundle: &Arc<Bundle>, groups: &[&str]) -> Decider {
    Decider::new(bundle, &subject(groups), &shop(), &scope()).unwrap()
}

/// What is decided at noon, without approvals.
pub(crate) fn decision(decider: &Decider, facts: &Facts) -> Decision {
    decider.decide(facts, NOON, &[]).decision
}

/// The subject of a job without a credential, which the rule `runner` enrolled.
pub(crate) fn unidentified() -> Subject {
    Subject::new(Principal::Unidentified { rule: "runner" }, "job-1", &lineage()).unwrap()
}

pub(crate) fn action(name: &str) -> Action {
    *Action::ALL.iter().find(|action| action.name() == name).unwrap_or_else(|| panic!("no action {name}"))
}

/// An access from `sql:select public.orders`, `sql:select orders`, `sql:set` or `connect`.
pub(crate) fn access(text: &str) -> Access {
    let (name, table) = text.split_once(' ').map_or((text, None), |(name, table)| (name, Some(table)));
    let resource = match table {
        Some(table) => match table.split_once('.') {
            Some((schema, name)) => self::table(Some(schema), name),
            None => self::table(None, table),
        },
        None if name == "connect" => Resource::Upstream,
        None => SqlResource::Database.into(),
    };
    Access { action: action(name), resource }
}

pub(crate) fn table(schema: Option<&str>, name: &str) -> Resource {
    Relation { schema: schema.map(Into::into), name: name.into() }.into()
}

pub(crate) fn plain_sql() -> SqlFacts {
    SqlFacts::one_statement()
}

pub(crate) fn facts(accesses: &[&str], sql: SqlFacts) -> Facts {
    let mut accesses: Vec<_> = accesses.iter().map(|text| access(text)).collect();
    accesses.sort();
    Facts { accesses, detail: Some(Detail::Sql(sql)), barred: None }
}

/// The facts of an access of which the protocol tells nothing more.
pub(crate) fn bare(access: Access) -> Facts {
    Facts { accesses: vec![access], detail: None, barred: None }
}
