//! How what policies say about each access makes the decision on a command.

use agent_core::{
    decision::Effect,
    facts::{Facts, ITEMS_MAX, SqlFacts},
    target::Scope,
};

use crate::{
    Decider, ObservedDenials,
    tests::fixtures::{NOON, bundle, decider, decision, facts, plain_sql, shop, subject},
};

/// Decides `accesses` for a member of `contractors`, and compares effect, policies and reason.
fn check(policies: &str, accesses: &[&str], sql: SqlFacts, effect: Effect, names: &[&str], reason: &str) {
    let decider = decider(&bundle(policies), &["contractors"]);
    let decision = decision(&decider, &facts(accesses, sql));
    let named: Vec<_> = decision.policies.iter().map(|name| &**name).collect();
    assert_eq!((decision.effect, &*named, &*decision.reason), (effect, names, reason), "{policies}");
}

const READ: &str =
    "@id(\"read\") permit(principal in Group::\"contractors\", action in Action::\"sql:read\", resource);";

#[test]
fn a_command_is_allowed_only_if_every_access_is() {
    let both = format!("{READ} @id(\"write\") permit(principal, action in Action::\"sql:write\", resource);");
    check(READ, &["sql:select orders"], plain_sql(), Effect::Allow, &["read"], "allowed by policy read");
    check(
        &both,
        &["sql:select orders", "sql:update orders"],
        plain_sql(),
        Effect::Allow,
        &["read", "write"],
        "allowed by policies read and write",
    );
    check(
        READ,
        &["sql:select orders", "sql:drop orders"],
        plain_sql(),
        Effect::Deny,
        &[],
        "no policy allows sql:drop on shop/shop.?.orders",
    );
}

#[test]
fn a_denial_names_every_policy_that_forbids() {
    let forbids = format!(
        "{READ} @id(\"b\") forbid(principal, action in Action::\"sql\", resource); \
         @id(\"a\") forbid(principal, action == Action::\"sql:select\", resource is Table); \
         @id(\"c\") forbid(principal, action, resource is Table) when {{ resource.name == \"orders\" }};"
    );
    check(
        &forbids,
        &["sql:select public.orders"],
        plain_sql(),
        Effect::Deny,
        &["a", "b", "c"],
        "policies a, b and c forbid sql:select on shop/shop.public.orders",
    );
    // A forbid takes precedence over a missing permit, whatever the order of the accesses.
    check(
        &forbids,
        &["sql:show", "sql:delete orders"],
        plain_sql(),
        Effect::Deny,
        &["b", "c"],
        "policy b forbids sql:show on shop/shop",
    );
}

#[test]
fn a_policy_that_cannot_be_evaluated_denies_although_others_permit() {
    let overflow = "context.sql.statements + 9223372036854775807 > 0";
    for effect in ["forbid", "permit"] {
        let policies = format!(
            "{READ} @id(\"broken\") {effect}(principal, action in Action::\"sql\", resource) \
             when {{ {overflow} }};"
        );
        let decider = decider(&bundle(&policies), &["contractors"]);
        let denied = decision(&decider, &facts(&["sql:select orders"], plain_sql()));
        assert_eq!(denied.effect, Effect::Deny);
        assert_eq!(denied.policies, ["broken".into()]);
        let start = "policy broken could not be evaluated for sql:select on shop/shop.?.orders: ";
        assert!(denied.reason.starts_with(start), "{}", denied.reason);
        assert!(denied.reason.contains("overflow"), "{}", denied.reason);
        // It does no harm to actions outside its scope.
        assert_eq!(decision(&decider, &Facts::connect()).reason, "no policy allows connect on shop".into());
    }
}

#[test]
fn commands_without_accesses_or_with_too_many_are_denied() {
    let decider = decider(&bundle("@id(\"all\") permit(principal, action, resource);"), &[]);
    let none = decision(&decider, &Facts { accesses: vec![], detail: None, barred: None });
    assert_eq!(&*none.reason, "nothing is known of what the command does");
    let many = |count: usize| {
        let names: Vec<_> = (0..count).map(|i| format!("sql:select t{i:05}")).collect();
        facts(&names.iter().map(String::as_str).collect::<Vec<_>>(), plain_sql())
    };
    for count in [512, 513, 1_024, 1_025, 2_000] {
        assert_eq!(decision(&decider, &many(count)).effect, Effect::Allow, "{count}");
    }
    let denied = decision(&decider, &many(ITEMS_MAX + 1));
    assert_eq!(denied.effect, Effect::Deny);
    assert!(denied.reason.contains(&format!("{} accesses", ITEMS_MAX + 1)), "{}", denied.reason);
}

#[test]
fn a_barred_command_is_denied_for_its_own_reason_whatever_policies_say() {
    let decider = decider(&bundle("@id(\"all\") permit (principal, action, resource);"), &["ci"]);
    let set = facts(&["sql:set"], plain_sql());
    assert_eq!(decision(&decider, &set).effect, Effect::Allow);
    let barred = decision(&decider, &Facts { barred: Some("it cannot be undone".into()), ..set });
    assert_eq!((barred.effect, barred.policies.len()), (Effect::Deny, 0));
    assert_eq!(&*barred.reason, "it cannot be undone");
}

#[test]
fn a_session_without_a_database_is_denied_every_table() {
    let bundle = bundle("@id(\"all\") permit (principal, action, resource);");
    let decider = Decider::new(&bundle, &subject(&["ci"]), &shop(), &Scope::Connection).unwrap();
    let denied = decision(&decider, &facts(&["sql:select orders"], plain_sql()));
    assert_eq!(denied.effect, Effect::Deny);
    assert!(denied.reason.contains("has chosen no database"), "{}", denied.reason);
    assert_eq!(decision(&decider, &Facts::connect()).effect, Effect::Allow);
}

#[test]
fn each_part_is_decided_and_the_judgement_is_on_the_whole() {
    let decider = decider(&bundle(READ), &["contractors"]);
    let (select, drop) = (facts(&["sql:select a"], plain_sql()), facts(&["sql:drop b"], plain_sql()));
    let mut whole = select.clone();
    whole.join(&drop);
    let judge = |parts: &[Facts]| decider.decide_parts(parts, &whole, NOON, &[], ObservedDenials::Pass);
    let judgement = judge(&[select.clone(), drop]);
    assert_eq!(&*judgement.decision.reason, "no policy allows sql:drop on shop/shop.?.b");
    assert_eq!(judgement.resources, ["shop/shop.?.a", "shop/shop.?.b"]);
    assert_eq!(judge(&[select]).decision.effect, Effect::Allow);
}
