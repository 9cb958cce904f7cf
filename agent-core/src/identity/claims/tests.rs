//! What is made of claims, and which are refused.

use serde_json::json;

use super::*;

fn rules() -> ClaimRules {
    let rule = |group: &str, claims: &[(&str, &str)]| {
        let claims = claims.iter().map(|(claim, text)| ((*claim).to_owned(), (*text).to_owned())).collect();
        GroupRule::new(group.to_owned(), claims).unwrap()
    };
    ClaimRules {
        nested: vec!["kubernetes.io".to_owned()],
        groups_claim: Some("groups".to_owned()),
        groups: vec![
            rule("contractors", &[("employment", "contractor")]),
            rule("acme-main", &[("repository", "acme/*"), ("ref", "refs/heads/main")]),
            rule("attempt-2", &[("run_attempt", "2")]),
            rule("leads", &[("roles", "lead-*")]),
        ],
        run_claims: vec!["run_id".to_owned(), "run_attempt".to_owned()],
        pod_uid_claim: Some("kubernetes.io.pod.uid".to_owned()),
    }
}

fn read_json(claims: Value) -> Result<Reading, ClaimsError> {
    read(claims.as_object().unwrap(), &rules())
}

fn check_groups(claims: Value, expect: &[&str]) {
    assert_eq!(read_json(claims.clone()).unwrap().groups, expect, "{claims}");
}

fn check_claims(claims: Value, expect: &[(&str, &str)]) {
    let expect = expect.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect();
    assert_eq!(read_json(claims.clone()).unwrap().claims, expect, "{claims}");
}

#[test]
fn text_numbers_booleans_and_lists_of_them_become_text() {
    check_claims(
        json!({"repository": "acme/shop", "run_id": 7, "protected": true, "environments": ["a", 1, false]}),
        &[("repository", "acme/shop"), ("run_id", "7"), ("protected", "true"), ("environments", "a,1,false")],
    );
}

#[test]
fn a_member_with_a_comma_does_not_pass_for_two() {
    check_claims(json!({"roles": ["a,b", "c\\"]}), &[("roles", "a\\,b,c\\\\")]);
}

#[test]
fn nulls_unknown_objects_and_lists_of_objects_are_left_out() {
    check_claims(json!({"a": null, "b": {"c": 1}, "d": [{"e": 1}], "f": [["g"]]}), &[]);
}

#[test]
fn claims_that_the_credential_has_as_fields_are_left_out() {
    check_claims(json!({"iss": "i", "sub": "s", "exp": 1, "iat": 1, "nbf": 1, "aud": "a"}), &[("aud", "a")]);
}

#[test]
fn members_of_known_objects_become_claims_named_with_dots() {
    check_claims(
        json!({"kubernetes.io": {"namespace": "ci", "pod": {"name": "p", "uid": "u"}}}),
        &[("kubernetes.io.namespace", "ci"), ("kubernetes.io.pod.name", "p"), ("kubernetes.io.pod.uid", "u")],
    );
}

#[test]
fn groups_come_from_the_claim_and_the_rules_sorted_and_without_duplicates() {
    check_groups(json!({}), &[]);
    check_groups(json!({"groups": null}), &[]);
    check_groups(json!({"groups": "solo"}), &["solo"]);
    check_groups(
        json!({"groups": ["z", "contractors", "z"], "employment": "contractor"}),
        &["contractors", "z"],
    );
}

#[test]
fn a_rule_must_match_every_claim_and_a_star_matches_any_ending() {
    check_groups(json!({"employment": "contractors"}), &[]);
    check_groups(json!({"repository": "acme/shop"}), &[]);
    check_groups(json!({"repository": "acme/shop", "ref": "refs/heads/main"}), &["acme-main"]);
    check_groups(json!({"repository": "acme-evil/shop", "ref": "refs/heads/main"}), &[]);
    check_groups(json!({"run_attempt": 2}), &["attempt-2"]);
    check_groups(json!({"roles": ["dev", "lead-shop"]}), &["leads"]);
    check_groups(json!({"roles": "dev lead-shop"}), &[]);
}

#[test]
fn a_groups_claim_that_is_not_a_list_of_names_is_refused() {
    for groups in [json!({"a": 1}), json!([["a"]]), json!([""]), json!(["a\nb"])] {
        let refused = read_json(json!({"groups": groups}));
        assert_eq!(refused, Err(ClaimsError::Groups("groups".to_owned())), "{groups}");
    }
}

#[test]
fn rules_without_a_name_or_a_claim_or_with_a_misplaced_star_are_refused() {
    let claims = |text: &str| BTreeMap::from([("c".to_owned(), text.to_owned())]);
    let refused = |group: &str, claims| GroupRule::new(group.to_owned(), claims).unwrap_err();
    assert_eq!(refused("", claims("a")), GroupRuleError::Name);
    assert_eq!(refused("g", BTreeMap::new()), GroupRuleError::NoClaims("g".to_owned()));
    for text in ["a*b", "*a", "a**"] {
        let star = GroupRuleError::Star { group: "g".to_owned(), claim: "c".to_owned() };
        assert_eq!(refused("g", claims(text)), star, "{text}");
    }
}

fn check_run(claims: Value, expect: Option<&[(&str, &str)]>) {
    let run = read_json(claims.clone()).unwrap().run;
    let expect = expect.map(|run| run.iter().map(|(n, t)| ((*n).to_owned(), (*t).to_owned())).collect());
    assert_eq!(run.map(BTreeMap::from), expect, "{claims}");
}

#[test]
fn a_run_needs_all_of_its_claims() {
    check_run(json!({"run_id": "7", "run_attempt": 1}), Some(&[("run_id", "7"), ("run_attempt", "1")]));
    check_run(json!({"run_id": "7"}), None);
    check_run(json!({"run_id": "7", "run_attempt": ""}), None);
    check_run(json!({"run_id": "7", "run_attempt": null}), None);
    check_run(json!({"run_id": "7", "run_attempt": ["1"]}), None);
    let no_runs = ClaimRules::default();
    assert_eq!(read(json!({"run_id": "7"}).as_object().unwrap(), &no_runs).unwrap().run, None);
}

#[test]
fn a_pod_that_is_mentioned_must_be_named() {
    let pod = |claims: Value| read_json(claims).unwrap().pod_uid;
    assert_eq!(pod(json!({"kubernetes.io": {"pod": {"uid": "u"}}})).as_deref(), Some("u"));
    assert_eq!(pod(json!({"kubernetes.io": {"namespace": "ci"}})), None);
    // An unbound token could be used anywhere: this must not be taken for one.
    for uid in [json!(""), json!(["u"]), json!({"u": "v"}), json!(null)] {
        let refused = read_json(json!({"kubernetes.io": {"pod": {"name": "p", "uid": uid}}}));
        assert_eq!(refused, Err(ClaimsError::Pod("kubernetes.io.pod.uid".to_owned())), "{uid}");
    }
}

#[test]
fn too_many_or_too_long_claims_are_refused() {
    let many: Map<_, _> = (0..=CLAIMS_MAX).map(|n| (format!("c{n}"), json!(n))).collect();
    assert_eq!(read(&many, &rules()), Err(ClaimsError::TooMany));
    let long = "x".repeat(CLAIM_BYTES_MAX + 1);
    assert_eq!(read_json(json!({"c": long})), Err(ClaimsError::TooLong));
    assert_eq!(read_json(json!({long.as_str(): 1})), Err(ClaimsError::TooLong));
    let groups: Vec<_> = (0..=GROUPS_MAX).map(|n| n.to_string()).collect();
    assert_eq!(read_json(json!({"groups": groups})), Err(ClaimsError::TooManyGroups));
    let deep = json!({"kubernetes.io": {"a": {"b": {"c": {"d": {"e": 1}}}}}});
    assert_eq!(read_json(deep), Err(ClaimsError::TooDeep("kubernetes.io.a.b.c.d".to_owned())));
}

#[test]
fn two_claims_of_one_name_after_flattening_are_refused() {
    let twice = json!({"kubernetes.io": {"pod": {"uid": "u"}}, "kubernetes.io.pod.uid": "v"});
    assert_eq!(read_json(twice), Err(ClaimsError::Twice("kubernetes.io.pod.uid".to_owned())));
}
