//! What is only observed: recorded as it would be decided, and passed.

use agent_core::decision::Verdict;

use super::*;
use crate::BundleError;

const ALL: &str = "@id(\"all\") permit(principal, action, resource);";
const NO_DROP: &str =
    "@id(\"no-drop\") @mode(\"observe\") forbid(principal, action == Action::\"sql:drop\", resource);";
const OBSERVE: (&str, &str) = ("default/upstreams.toml", "mode = \"observe\"");

/// Decides one access; compares verdict, whether it passes, and the policies named.
fn check(files: &[(&str, &str)], access: &str, verdict: Verdict, passes: bool, names: &[&str]) {
    let session = session(&bundle_of(files), &["ci"]);
    let facts = facts(&[access], plain_sql());
    let decision = session.decide(&facts, NOON, &[]);
    let told: Vec<_> = decision.policies.iter().map(|name| &**name).collect();
    assert_eq!((decision.verdict, decision.passes(), &*told), (verdict, passes, names), "{files:?} {access}");
    // What explains a decision is what made it.
    let explained = session.explain(&facts, NOON, &[]);
    assert_eq!((explained.decision, explained.observed), (verdict, decision.observed));
}

#[test]
fn an_observed_policy_denies_nothing_and_is_told() {
    let policies = format!("{ALL}\n{NO_DROP}");
    check(&[("default/x.cedar", &policies)], "sql:drop orders", Verdict::Deny, true, &["no-drop"]);
    check(&[("default/x.cedar", &policies)], "sql:select orders", Verdict::Allow, true, &["all"]);
}

#[test]
fn what_is_denied_anyway_is_not_excused_by_an_observed_policy() {
    check(&[("default/x.cedar", NO_DROP)], "sql:drop orders", Verdict::Deny, false, &[]);
    let enforced = format!(
        "{ALL}\n{NO_DROP}\n@id(\"no-ddl\") forbid(principal, action in Action::\"sql:ddl\", resource);"
    );
    check(&[("default/x.cedar", &enforced)], "sql:drop orders", Verdict::Deny, false, &["no-ddl"]);
}

#[test]
fn an_observed_bundle_denies_nothing_that_policy_decides() {
    let forbid = "@id(\"no-drop\") forbid(principal, action == Action::\"sql:drop\", resource);";
    for (policies, names) in [("", &[][..]), (forbid, &["no-drop"])] {
        check(&[("default/x.cedar", policies), OBSERVE], "sql:drop orders", Verdict::Deny, true, names);
    }
    let enforcing = ("hosts/lab/upstreams.toml", "mode = \"enforce\"");
    check(&[("default/x.cedar", ""), OBSERVE, enforcing], "sql:drop orders", Verdict::Deny, false, &[]);
}

#[test]
fn an_observed_bundle_denies_what_would_blind_the_agent_and_whoever_shows_no_token() {
    let bundle = bundle_of(&[("default/x.cedar", ALL), OBSERVE]);
    let blinding = SqlFacts { alters_reading: Some("client_encoding".into()), ..plain_sql() };
    let decision = session(&bundle, &["ci"]).decide(&facts(&["sql:set"], blinding), NOON, &[]);
    assert!(!decision.passes(), "{decision:?}");
    let nobody = Subject::new(Principal::Unidentified { rule: "runner" }, "job-1", &lineage()).unwrap();
    let session = bundle.session(&nobody, &shop(), "shop", "app").unwrap();
    assert!(!session.decide(&facts(&["sql:select orders"], plain_sql()), NOON, &[]).passes());
}

#[test]
fn undeclared_destinations_are_observed_likewise() {
    let destination = "192.0.2.1:443".parse().unwrap();
    let decide = |files: &[(&str, &str)]| {
        let decision = bundle_of(files).decide_undeclared(&subject(&["ci"]), destination, NOON, &[]);
        (decision.verdict, decision.passes())
    };
    assert_eq!(decide(&[("default/x.cedar", ALL)]), (Verdict::Deny, false));
    assert_eq!(decide(&[("default/x.cedar", ALL), OBSERVE]), (Verdict::Deny, true));
    let policies = format!(
        "{ALL}\n@id(\"no-web\") @mode(\"observe\") forbid(principal, action == Action::\"connect\", resource is Endpoint);"
    );
    let undeclared = ("default/upstreams.toml", "undeclared = \"policy\"");
    assert_eq!(decide(&[("default/x.cedar", &policies), undeclared]), (Verdict::Deny, true));
}

#[test]
fn a_mode_that_would_mean_nothing_is_refused() {
    let refused = |policies: &str| -> BundleError {
        Bundle::load(&[Source::new("default/x.cedar", policies)]).unwrap_err()
    };
    let permit = refused("@id(\"a\") @mode(\"observe\") permit(principal, action, resource);");
    assert!(permit.to_string().contains("a permit denies nothing"), "{permit}");
    let misspelt = refused("@id(\"a\") @mode(\"observed\") forbid(principal, action, resource);");
    assert!(misspelt.to_string().contains("not \"observed\""), "{misspelt}");
}

#[test]
fn an_observed_policy_is_named_where_it_speaks_of_who_shows_no_token() {
    let policies = "@id(\"runner\") permit(principal in Group::\"unidentified\", action == Action::\"connect\", resource);\n\
         @id(\"no-ci\") @mode(\"observe\") forbid(principal, action == Action::\"connect\", resource);";
    let bundle = bundle_of(&[("default/x.cedar", policies)]);
    let nobody = Subject::new(Principal::Unidentified { rule: "runner" }, "job-1", &lineage()).unwrap();
    let session = bundle.session(&nobody, &shop(), "", "").unwrap();
    let decision = session.decide(&Facts::connect(), NOON, &[]);
    assert_eq!((decision.verdict, decision.passes()), (Verdict::Deny, true));
    assert_eq!(decision.policies, ["no-ci".into()], "{}", decision.reason);
}
