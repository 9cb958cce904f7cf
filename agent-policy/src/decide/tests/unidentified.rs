//! What a job without a credential may do.

use std::sync::Arc;

use agent_core::{decision::Effect, facts::Facts};

use crate::{
    Bundle, Decider, decide_undeclared,
    tests::fixtures::{NOON, bundle, bundle_of, decision, facts, plain_sql, scope, shop, unidentified},
};

fn decider_of_unidentified(bundle: &Arc<Bundle>) -> Decider {
    Decider::new(bundle, &unidentified(), &shop(), &scope()).unwrap()
}

#[test]
fn a_job_without_a_credential_is_granted_nothing() {
    let bundle = bundle_of(&[
        ("default/x.cedar", "@id(\"all\") permit(principal, action, resource);"),
        ("default/upstreams.toml", "undeclared = \"policy\""),
    ]);
    let decider = decider_of_unidentified(&bundle);
    let reason = "the job has no verified credential, and is granted nothing until it has one";
    let destination = "192.0.2.1:443".parse().unwrap();
    for decision in [
        decision(&decider, &Facts::connect()),
        decision(&decider, &facts(&["sql:select orders"], plain_sql())),
        decide_undeclared(&bundle, &unidentified(), destination, NOON, &[]).decision,
    ] {
        assert_eq!((decision.effect, &*decision.reason), (Effect::Deny, reason));
    }
}

#[test]
fn only_a_permit_that_names_the_unidentified_group_grants_a_connection() {
    let decide = |policies: &str, facts: &Facts| decision(&decider_of_unidentified(&bundle(policies)), facts);
    let named = "@id(\"runner\") permit(principal in Group::\"unidentified\", action, resource) when { \
                 principal.hasTag(\"rule\") && principal.getTag(\"rule\") == \"runner\" };";
    let connect = decide(named, &Facts::connect());
    assert_eq!((connect.effect, &*connect.reason), (Effect::Allow, "allowed by policy runner"));
    // Nothing else, although the policy permits it.
    assert_eq!(decide(named, &facts(&["sql:select orders"], plain_sql())).effect, Effect::Deny);
    for policies in [
        "@id(\"all\") permit(principal, action, resource);",
        "@id(\"when\") permit(principal, action, resource) when { principal in Group::\"unidentified\" };",
        "@id(\"other\") permit(principal in Group::\"unidentified\", action, resource) when { \
         principal.hasTag(\"rule\") && principal.getTag(\"rule\") == \"other\" };",
        &format!("{named} @id(\"no\") forbid(principal, action, resource);"),
    ] {
        assert_eq!(decide(policies, &Facts::connect()).effect, Effect::Deny, "{policies}");
    }
}
