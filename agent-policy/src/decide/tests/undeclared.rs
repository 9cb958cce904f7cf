//! Connections to destinations that no upstream declares.

use agent_core::decision::Effect;

use crate::{
    decide_undeclared,
    tests::fixtures::{NOON, bundle, bundle_of, subject},
};

#[test]
fn an_undeclared_destination_follows_the_bundles_rule() {
    let decide = |rule: &str, policies: &str, destination: &str| {
        let bundle = bundle_of(&[("default/x.cedar", policies), ("default/upstreams.toml", rule)]);
        decide_undeclared(&bundle, &subject(&["ci"]), destination.parse().unwrap(), NOON, &[]).decision
    };
    let all = "@id(\"all\") permit(principal, action, resource);";
    let denied = decide("undeclared = \"deny\"", all, "127.0.0.1:2222");
    assert_eq!(denied.effect, Effect::Deny);
    assert!(denied.reason.starts_with("undeclared destination 127.0.0.1:2222: "), "{}", denied.reason);
    assert_eq!(decide("", all, "127.0.0.1:2222").effect, Effect::Deny);

    let https = "@id(\"https\") permit(principal, action == Action::\"connect\", resource is Endpoint) \
                 when { resource.port == 443 && resource.address.isInRange(ip(\"192.0.2.0/24\")) };";
    let rule = "undeclared = \"policy\"";
    assert_eq!(decide(rule, https, "192.0.2.1:443").policies, ["https".into()]);
    assert_eq!(decide(rule, https, "[::ffff:192.0.2.1]:443").effect, Effect::Allow);
    assert_eq!(decide(rule, https, "192.0.3.1:443").effect, Effect::Deny);
    let denied = decide(rule, https, "192.0.2.1:80");
    assert_eq!(&*denied.reason, "no policy allows connect on undeclared destination 192.0.2.1:80");
    assert_eq!(decide(rule, all, "[2001:db8::1]:22").policies, ["all".into()]);
}

#[test]
fn the_resource_is_the_destination_as_it_was_dialled() {
    let destination = "[::ffff:192.0.2.1]:443".parse().unwrap();
    let judgement = decide_undeclared(&bundle(""), &subject(&["ci"]), destination, NOON, &[]);
    assert_eq!(judgement.resources, ["[::ffff:192.0.2.1]:443"]);
}
