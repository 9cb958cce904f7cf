//! What a bundle holds, and what refuses it.

use agent_core::facts::Facts;

use super::*;
use crate::tests::fixtures::{bundle_of, decider, decision, facts, plain_sql};

#[test]
fn the_files_of_a_host_add_to_those_of_every_host() {
    let all = bundle_of(&[
        ("default/a.cedar", "@id(\"a\") permit(principal, action, resource);"),
        ("default/a.cases.toml", "not even TOML"),
        ("default/upstreams.toml", "undeclared = \"deny\""),
        (
            "hosts/ci-7/upstreams.toml",
            "[[upstream]]\nname = \"shop\"\nprotocol = \"postgres\"\naddresses = [\"127.0.0.1:5432\"]",
        ),
        ("hosts/ci-7/b.cedar", "@id(\"b\") forbid(principal, action, resource);"),
    ]);
    assert_eq!(all.policies().map(|policy| &*policy.name).collect::<Vec<_>>(), ["a", "b"]);
    assert_eq!(all.upstream_for("127.0.0.1:5432".parse().unwrap()).map(|u| &*u.name), Some("shop"));
    assert_eq!(all.upstreams().count(), 1);
    let decision = decision(&decider(&all, &[]), &facts(&["sql:select orders"], plain_sql()));
    assert_eq!(&*decision.reason, "policy b forbids sql:select on shop/shop.?.orders");
}

#[test]
fn one_bad_file_refuses_the_whole_bundle_with_its_name_and_line() {
    let check = |path: &str, text: &str, expect: &str| {
        let good = Source::new("default/good.cedar", "@id(\"good\") permit(principal, action, resource);");
        let error = Bundle::load(&[good, Source::new(path, text)]).unwrap_err().to_string();
        assert!(error.starts_with(expect), "{error}");
    };
    check("hosts/a/x.cedar", "\npermit(principal", "hosts/a/x.cedar:2: ");
    check(
        "hosts/a/x.cedar",
        "@id(\"good\") permit(principal, action, resource);",
        "hosts/a/x.cedar:1: the policy name \"good\" is already taken at default/good.cedar:1",
    );
    check("default/upstreams.toml", "\nundeclared = 1", "default/upstreams.toml:2: ");
    check("default/resources.toml", "\n\nresource = 1", "default/resources.toml:3: ");
    check("default/upstream.toml", "", "default/upstream.toml:1: a bundle has no such file");
}

#[test]
fn an_empty_bundle_allows_nothing() {
    let decision = decision(&decider(&bundle_of(&[]), &["ci"]), &Facts::connect());
    assert_eq!(&*decision.reason, "no policy allows connect on shop");
}

#[test]
fn the_version_changes_only_with_files_that_decide() {
    let policy = "@id(\"a\") permit(principal, action, resource);";
    let version = |files: &[(&str, &str)]| bundle_of(files).version().to_owned();
    let first = version(&[("etc/a/x.cedar", policy)]);
    assert_eq!(first.len(), 16);
    assert!(first.bytes().all(|byte| byte.is_ascii_hexdigit()));
    assert_eq!(first, version(&[("srv/b/x.cedar", policy), ("srv/b/x.cases.toml", "")]));
    assert_ne!(first, version(&[("etc/a/x.cedar", &format!("{policy} "))]));
    assert_ne!(first, version(&[("etc/a/x.cedar", policy), ("etc/a/upstreams.toml", "")]));
}
