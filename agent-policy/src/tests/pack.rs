//! The shipped policies (`policies/default`): they load, their cases pass, and every policy has a case.
//!
//! Only here, and only for tests, this crate uses `agent-sql`: cases give statements.

use std::{collections::BTreeSet, fs, path::Path, sync::Arc};

use agent_core::{
    decision::Effect,
    facts::{Access, Action, SqlFacts, SqlResource},
};

use super::fixtures::{bare, decider, decision, facts, plain_sql};
use crate::{Bundle, CaseResult, Source, Undeclared, run_cases};

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

/// The cases' results, on a stack that is large enough for the grammar.
fn results() -> Vec<CaseResult> {
    let run = || {
        run_cases(&pack(), &sources(), &|_, statement| Some(agent_sql::analyze(statement.as_bytes()).facts))
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
fn no_upstream_is_declared_and_undeclared_destinations_are_refused() {
    assert_eq!(pack().upstreams().count(), 0);
    assert_eq!(pack().undeclared(), Undeclared::Deny);
}

#[test]
fn no_policy_reads_the_time_or_the_approvals() {
    let decider = decider(&pack(), &["ci"]);
    for action in Action::ALL {
        let access = Access { action: *action, resource: SqlResource::Database.into() };
        assert!(decider.is_lasting(&bare(access)), "{action:?}");
    }
}

#[test]
fn administration_is_denied_to_every_group() {
    let decider = decider(&pack(), &["ci", "contractors", "migrations"]);
    for name in ["sql:unparsed", "sql:other", "sql:server", "sql:grant", "sql:set"] {
        // `SET` of a setting that already has the value comes without settings, and is allowed.
        let sql = SqlFacts { settings: ["synchronous_commit".into()].into(), ..plain_sql() };
        assert_eq!(decision(&decider, &facts(&[name], sql)).effect, Effect::Deny, "{name}");
    }
}

#[test]
fn only_who_may_create_functions_may_run_code_that_no_policy_sees() {
    for (groups, effect) in [(["ci", "contractors"], Effect::Deny), (["ci", "migrations"], Effect::Allow)] {
        let decider = decider(&pack(), &groups);
        for name in ["sql:call", "sql:create"] {
            assert_eq!(decision(&decider, &facts(&[name], plain_sql())).effect, effect, "{groups:?} {name}");
        }
    }
}
