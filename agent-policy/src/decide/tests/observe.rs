//! Observe mode: a denial is recorded, and the command passes.

use agent_core::{decision::Effect, facts::Facts, target::Scope};

use crate::{
    Bundle, BundleError, Decider, Source, decide_undeclared,
    tests::fixtures::{
        NOON, bundle_of, decider, decision, facts, plain_sql, scope, shop, subject, unidentified,
    },
};

const ALL: &str = "@id(\"all\") permit(principal, action, resource);";
const NO_DROP: &str =
    "@id(\"no-drop\") @mode(\"observe\") forbid(principal, action == Action::\"sql:drop\", resource);";
const OBSERVE: (&str, &str) = ("default/upstreams.toml", "mode = \"observe\"");

/// Decides one access, and compares the effect, whether the access passes, and the policies named.
fn check(files: &[(&str, &str)], access: &str, effect: Effect, passes: bool, names: &[&str]) {
    let decider = decider(&bundle_of(files), &["ci"]);
    let facts = facts(&[access], plain_sql());
    let decision = decision(&decider, &facts);
    let named: Vec<_> = decision.policies.iter().map(|name| &**name).collect();
    assert_eq!((decision.effect, decision.passes(), &*named), (effect, passes, names), "{files:?} {access}");
    // An explanation tells the same.
    let explained = decider.explain(&facts, NOON, &[]);
    assert_eq!((explained.decision, explained.observed), (effect, decision.observed));
}

#[test]
fn an_observed_policy_denies_nothing_and_is_named() {
    let policies = format!("{ALL}\n{NO_DROP}");
    check(&[("default/x.cedar", &policies)], "sql:drop orders", Effect::Deny, true, &["no-drop"]);
    check(&[("default/x.cedar", &policies)], "sql:select orders", Effect::Allow, true, &["all"]);
}

#[test]
fn an_observed_policy_does_not_lift_another_denial() {
    check(&[("default/x.cedar", NO_DROP)], "sql:drop orders", Effect::Deny, false, &[]);
    let enforced = format!(
        "{ALL}\n{NO_DROP}\n@id(\"no-ddl\") forbid(principal, action in Action::\"sql:ddl\", resource);"
    );
    check(&[("default/x.cedar", &enforced)], "sql:drop orders", Effect::Deny, false, &["no-ddl"]);
}

#[test]
fn an_observed_bundle_denies_nothing_that_policies_decide() {
    let forbid = "@id(\"no-drop\") forbid(principal, action == Action::\"sql:drop\", resource);";
    for (policies, names) in [("", &[][..]), (forbid, &["no-drop"])] {
        check(&[("default/x.cedar", policies), OBSERVE], "sql:drop orders", Effect::Deny, true, names);
    }
    let enforcing = ("hosts/lab/upstreams.toml", "mode = \"enforce\"");
    check(&[("default/x.cedar", ""), OBSERVE, enforcing], "sql:drop orders", Effect::Deny, false, &[]);
}

#[test]
fn an_observed_bundle_still_denies_barred_commands_and_jobs_without_a_credential() {
    let bundle = bundle_of(&[("default/x.cedar", ALL), OBSERVE]);
    let barred = Facts { barred: Some("barred".into()), ..facts(&["sql:set"], plain_sql()) };
    assert!(!decision(&decider(&bundle, &["ci"]), &barred).passes());
    let decider = Decider::new(&bundle, &unidentified(), &shop(), &scope()).unwrap();
    assert!(!decision(&decider, &facts(&["sql:select orders"], plain_sql())).passes());
}

#[test]
fn connections_to_undeclared_destinations_are_observed_too() {
    let destination = "192.0.2.1:443".parse().unwrap();
    let decide = |files: &[(&str, &str)]| {
        let decision =
            decide_undeclared(&bundle_of(files), &subject(&["ci"]), destination, NOON, &[]).decision;
        (decision.effect, decision.passes())
    };
    assert_eq!(decide(&[("default/x.cedar", ALL)]), (Effect::Deny, false));
    assert_eq!(decide(&[("default/x.cedar", ALL), OBSERVE]), (Effect::Deny, true));
    let policies = format!(
        "{ALL}\n@id(\"no-web\") @mode(\"observe\") \
         forbid(principal, action == Action::\"connect\", resource is Endpoint);"
    );
    let undeclared = ("default/upstreams.toml", "undeclared = \"policy\"");
    assert_eq!(decide(&[("default/x.cedar", &policies), undeclared]), (Effect::Deny, true));
}

#[test]
fn an_observed_permit_and_an_unknown_mode_are_refused() {
    let refused = |policies: &str| -> BundleError {
        Bundle::load(&[Source::new("default/x.cedar", policies)]).unwrap_err()
    };
    let permit = refused("@id(\"a\") @mode(\"observe\") permit(principal, action, resource);");
    assert!(permit.to_string().contains("only a forbid can have"), "{permit}");
    let misspelt = refused("@id(\"a\") @mode(\"observed\") forbid(principal, action, resource);");
    assert!(misspelt.to_string().contains("not \"observed\""), "{misspelt}");
}

#[test]
fn an_observed_policy_is_named_for_jobs_without_a_credential_too() {
    let policies = "@id(\"runner\") \
                    permit(principal in Group::\"unidentified\", action == Action::\"connect\", resource);\n\
                    @id(\"no-ci\") @mode(\"observe\") \
                    forbid(principal, action == Action::\"connect\", resource);";
    let bundle = bundle_of(&[("default/x.cedar", policies)]);
    let decider = Decider::new(&bundle, &unidentified(), &shop(), &Scope::Connection).unwrap();
    let decision = decision(&decider, &Facts::connect());
    assert_eq!((decision.effect, decision.passes()), (Effect::Deny, true));
    assert_eq!(decision.policies, ["no-ci".into()], "{}", decision.reason);
}
