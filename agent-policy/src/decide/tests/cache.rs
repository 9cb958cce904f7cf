//! The cache of decisions: it answers as a decider without a cache does, and it stays small.

use std::sync::Arc;

use agent_core::facts::{Detail, Facts, SqlFacts};
use proptest::{
    prelude::*,
    sample::{select, subsequence},
};

use crate::{
    DecisionCache,
    tests::fixtures::{NOON, bundle, decider, facts, plain_sql},
};

/// Policies that together read every part of an SQL command's facts, the time and the approvals. A test's
/// bundle is any choice of them.
const POLICIES: &[&str] = &[
    r#"permit(principal, action, resource)"#,
    r#"permit(principal in Group::"ci", action in Action::"sql:read", resource)"#,
    r#"permit(principal, action in Action::"sql:write", resource) when { context.sql.hasWhere }"#,
    r#"forbid(principal, action == Action::"sql:select", resource is Table)
       when { resource.name == "secrets" }"#,
    r#"forbid(principal, action in Action::"sql", resource)
       when { context.sql.functionNames.contains("f") }"#,
    r#"forbid(principal, action in Action::"sql:write", resource) when { context.time.hour < 6 }"#,
    r#"permit(principal, action in Action::"sql:ddl", resource) when { context.approvals.contains("dba") }"#,
    r#"forbid(principal, action == Action::"sql:set", resource) when { context["time"].weekday > 5 }"#,
    r#"forbid(principal, action, resource) when
       { context has sql && context.sql.statements > 1 && context has time && context.time.minute == 0 }"#,
    r#"forbid(principal, action == Action::"sql:show", resource)
       when { (if principal.subject like "c*" then context else context).time.hour == 3 }"#,
    r#"forbid(principal, action == Action::"sql:insert", resource)
       when { context.sql.statements + 9223372036854775806 > 0 }"#,
    r#"forbid(principal, action in Action::"sql:write", resource) when { context.sql.writesInCte }"#,
    r#"forbid(principal, action == Action::"sql:set", resource)
       when { context.sql.settings.contains("timezone") }"#,
    r#"forbid(principal, action, resource)
       when { context has sql && context.sql.user == "app" && context.process.depth > 1 }"#,
    r#"forbid(principal, action in Action::"sql", resource is Table)
       when { resource.schema == "public" || resource.tags.contains("pii") }"#,
    r#"@mode("observe") forbid(principal, action in Action::"sql:read", resource)
       when { context.sql.statements > 1 }"#,
    r#"@mode("observe") forbid(principal, action in Action::"sql", resource)
       when { context.time.weekday == 1 }"#,
];

/// Accesses that the policies tell apart.
const ACCESSES: &[&str] = &[
    "connect",
    "sql:select orders",
    "sql:select secrets",
    "sql:select public.secrets",
    "sql:show",
    "sql:update orders",
    "sql:insert orders",
    "sql:drop orders",
    "sql:set",
];

/// Facts of one or two accesses, with or without SQL's detail, and barred or not.
fn any_facts() -> impl Strategy<Value = Facts> {
    let names = (subsequence(vec!["f", "now"], 0..=2), subsequence(vec!["role", "timezone"], 0..=2));
    let barred = select(vec![None, Some("for one reason"), Some("for another")]);
    let flags = (any::<bool>(), any::<bool>(), any::<bool>());
    let sql = (1..3_u32, flags, names);
    (subsequence(ACCESSES, 1..=2), proptest::option::of(sql), barred).prop_map(|(accesses, sql, barred)| {
        let sql = sql.map(|(statements, (has_where, writes_in_cte, locks_tables), (functions, settings))| {
            SqlFacts {
                statements,
                non_transaction_statements: statements,
                has_where,
                functions: functions.into_iter().map(Into::into).collect(),
                settings: settings.into_iter().map(Into::into).collect(),
                writes_in_cte,
                locks_tables,
                ..SqlFacts::default()
            }
        });
        let Facts { accesses, .. } = facts(&accesses, SqlFacts::default());
        Facts { accesses, detail: sql.map(Detail::Sql), barred: barred.map(Into::into) }
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_remembered_decision_is_the_decision_that_would_be_made_now(
        chosen in subsequence(POLICIES, 1..=6),
        pool in proptest::collection::vec(any_facts(), 1..6),
        asked in proptest::collection::vec(
            (
                any::<prop::sample::Index>(),
                select(vec![NOON, NOON + 1, NOON + 54_000, NOON + 5 * 86_400, NOON - 32_400]),
                subsequence(vec!["dba", "lead"], 0..=2),
            ),
            1..24,
        ),
    ) {
        let named = chosen.iter().enumerate().map(|(i, policy)| format!("@id(\"p{i}\") {policy};\n"));
        let text: String = named.collect();
        let bundle = bundle(&text);
        let mut cache = DecisionCache::new(decider(&bundle, &["ci"]));
        let engine = decider(&bundle, &["ci"]);
        for (index, now_unix, approvals) in asked {
            let facts = index.get(&pool);
            let remembered = cache.decide(facts, now_unix, &approvals);
            prop_assert_eq!(&*remembered, &engine.decide(facts, now_unix, &approvals));
        }
    }
}

fn select_from(table: &str) -> Facts {
    facts(&[&format!("sql:select {table}")], plain_sql())
}

#[test]
fn a_decision_is_made_once_for_equal_facts() {
    let bundle = bundle("@id(\"all\") permit(principal, action, resource);");
    let mut cache = DecisionCache::new(decider(&bundle, &[]));
    let first = cache.decide(&select_from("orders"), NOON, &[]);
    let second = cache.decide(&select_from("orders"), NOON + 9, &["dba"]);
    assert!(Arc::ptr_eq(&first, &second));
    assert!(!Arc::ptr_eq(&first, &cache.decide(&select_from("customers"), NOON, &[])));
}

#[test]
fn a_decision_that_may_read_the_time_is_made_each_time() {
    let bundle = bundle(
        "@id(\"all\") permit(principal, action, resource);\n\
         @id(\"nights\") forbid(principal, action in Action::\"sql:write\", resource)\n\
         when { context.time.hour < 6 };",
    );
    let mut cache = DecisionCache::new(decider(&bundle, &[]));
    let update = facts(&["sql:update orders"], plain_sql());
    let first = cache.decide(&update, NOON, &[]);
    assert!(!Arc::ptr_eq(&first, &cache.decide(&update, NOON, &[])));
    assert_eq!(cache.decide(&update, NOON + 14 * 3_600, &[]).decision.policies, ["nights".into()]);
    let first = cache.decide(&select_from("orders"), NOON, &[]);
    assert!(Arc::ptr_eq(&first, &cache.decide(&select_from("orders"), NOON, &[])));
}

#[test]
fn the_cache_is_bounded_and_keeps_decisions_in_use() {
    let bundle = bundle("@id(\"all\") permit(principal, action, resource);");
    let mut cache = DecisionCache::new(decider(&bundle, &[]));
    let used = cache.decide(&select_from("used"), NOON, &[]);
    for i in 0..600 {
        cache.decide(&select_from(&format!("t{i}")), NOON, &[]);
        assert!(Arc::ptr_eq(&used, &cache.decide(&select_from("used"), NOON, &[])), "after {i}");
        assert!(cache.len() <= 256, "{} decisions", cache.len());
    }
    // The 600 tables of the loop, and `used`.
    assert_eq!(601, cache.forgotten() + cache.len() as u64);
    // A dropped decision is made again, and kept again.
    let lost = cache.decide(&select_from("t0"), NOON, &[]);
    assert!(Arc::ptr_eq(&lost, &cache.decide(&select_from("t0"), NOON, &[])));
}

#[test]
fn facts_too_large_to_keep_are_decided_each_time() {
    let bundle = bundle("@id(\"all\") permit(principal, action, resource);");
    let mut cache = DecisionCache::new(decider(&bundle, &[]));
    let long = select_from(&"x".repeat(2_049));
    let functions = (0..65).map(|i| format!("f{i:02}").into()).collect();
    let many = facts(&["sql:select orders"], SqlFacts { functions, ..plain_sql() });
    for large in [long, many] {
        assert_eq!(*cache.decide(&large, NOON, &[]), cache.decider().decide(&large, NOON, &[]));
        assert_eq!(cache.len(), 0);
    }
}
