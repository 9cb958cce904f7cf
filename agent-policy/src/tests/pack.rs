//! The shipped pack: it loads, its cases pass, and no policy is without a case.
//!
//! Here alone, and for tests alone, this crate knows `agent-sql`: a case says what a statement comes to.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use agent_core::decision::Verdict;

use super::*;
use crate::{CaseResult, Undeclared, run_cases};

fn sources() -> Vec<Source> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../policies/default");
    let mut paths: Vec<_> = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths
        .iter()
        .map(|path| {
            let name = path.file_name().unwrap().to_str().unwrap();
            Source::new(format!("policies/default/{name}"), fs::read_to_string(path).unwrap())
        })
        .collect()
}

fn pack() -> Arc<Bundle> {
    Arc::new(Bundle::load(&sources()).unwrap_or_else(|error| panic!("{error}")))
}

/// The cases' results, their statements read as the agent reads them: on a stack that the grammar can use.
fn results() -> Vec<CaseResult> {
    let run = || {
        run_cases(&pack(), &sources(), &|statement| agent_sql::analyze(statement.as_bytes()).facts)
            .unwrap_or_else(|error| panic!("{error}"))
    };
    std::thread::Builder::new().stack_size(agent_sql::STACK_BYTES_MIN).spawn(run).unwrap().join().unwrap()
}

#[test]
fn every_case_passes() {
    let results = results();
    let failed: Vec<_> = results.iter().filter(|result| !result.passed).collect();
    assert!(failed.is_empty(), "{failed:#?}");
}

#[test]
fn every_policy_has_a_case_that_names_it() {
    let results = results();
    let tried: BTreeSet<_> = results.into_iter().flat_map(|result| result.policies).collect();
    let pack = pack();
    let untried: Vec<_> = pack.policies().filter(|p| !tried.contains(&p.name)).collect();
    assert!(untried.is_empty(), "{untried:#?}");
}

#[test]
fn nothing_is_declared_and_the_undeclared_is_refused() {
    assert_eq!(pack().upstreams().count(), 0);
    assert_eq!(pack().undeclared(), Undeclared::Deny);
}

#[test]
fn every_decision_outlives_its_moment() {
    let session = session(&pack(), &["ci"]);
    for action in Action::ALL {
        let facts =
            Facts { accesses: vec![Access { action: *action, resource: Resource::Database }], sql: None };
        assert!(session.is_lasting(&facts), "{action:?}");
    }
}

#[test]
fn every_kind_of_administration_is_refused_to_everyone() {
    let session = session(&pack(), &["ci", "contractors", "migrations"]);
    for name in ["sql:unparsed", "sql:other", "sql:call", "sql:server", "sql:grant", "sql:set", "sql:notify"]
    {
        // A sql:set without settings says what is so anyway.
        let sql = SqlFacts { settings: ["work_mem".into()].into(), ..plain_sql() };
        assert_eq!(session.decide(&facts(&[name], sql), NOON, &[]).verdict, Verdict::Deny, "{name}");
    }
}
