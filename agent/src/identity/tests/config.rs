//! Which `[[issuer]]` tables are accepted, and what is said of the others.

use super::*;

fn check_refused(toml: &str, expect: &str) {
    let refused = match parse(toml) {
        Err(error) => error.message().to_owned(),
        Ok(configs) => {
            Verifier::new(&configs).err().unwrap_or_else(|| panic!("accepted: {toml}")).to_string()
        }
    };
    assert_eq!(refused, expect, "{toml}");
}

fn check_issuer(more: &str, expect: &str) {
    check_refused(&format!("[[issuer]]\nname = \"lab\"\n{more}"), &format!("issuer `lab`: {expect}"));
}

#[test]
fn presets_need_a_name_and_kubernetes_a_url() {
    for config in [
        "[[issuer]]\nname = \"hub\"\npreset = \"github\"",
        "[[issuer]]\nname = \"lab\"\npreset = \"gitlab\"",
        "[[issuer]]\nname = \"cluster\"\npreset = \"kubernetes\"\nurl = \"https://kubernetes.default.svc\"",
    ] {
        assert!(Verifier::new(&parse(config).unwrap()).is_ok(), "{config}");
    }
}

#[test]
fn plain_http_is_accepted_to_loopback_addresses_only() {
    for url in
        ["http://127.0.0.1:8080", "http://[::1]:8080", "http://127.9.9.9", "https://issuer.example/path"]
    {
        assert!(Verifier::new(&parse(&lab_config(url, "")).unwrap()).is_ok(), "{url}");
    }
    for url in [
        "http://issuer.example",
        "http://localhost:80",
        "http://10.0.0.1",
        "http://127.0.0.1.example",
        "ftp://127.0.0.1",
    ] {
        let why =
            "must be https; http is accepted only to a loopback address such as http://127.0.0.1:8080, not";
        check_issuer(&format!("url = \"{url}\""), &format!("`url` {why} {url}"));
        let more = format!("url = \"https://issuer.example\"\njwks_uri = \"{url}\"");
        check_issuer(&more, &format!("`jwks_uri` {why} {url}"));
    }
}

#[test]
fn unusable_settings_are_refused_with_the_reason() {
    let url = "url = \"https://issuer.example\"\n";
    check_issuer("", "`url` is missing; it is what its tokens' `iss` says");
    check_issuer("url = \"nonsense\"", "`url` is not a URL: nonsense");
    let parts = "`url` must have no user, password, query or fragment";
    for url in
        ["https://user:password@issuer.example", "https://issuer.example?a=b", "https://issuer.example#f"]
    {
        check_issuer(&format!("url = \"{url}\""), parts);
    }
    check_issuer(&format!("{url}audience = \"\""), "`audience` is empty");
    check_issuer(&format!("{url}run_claims = [\"\"]"), "`run_claims` is empty");
    check_issuer(&format!("{url}clock_skew_s = 301"), "`clock_skew_s` must be 0 to 300 seconds, not 301");
    check_issuer(&format!("{url}http_timeout_s = 0"), "`http_timeout_s` must be 1 to 30 seconds, not 0");
    check_issuer(&format!("{url}keys_refetch_s = 0"), "`keys_refetch_s` must be 1 to 3600 seconds, not 0");
    check_issuer(
        &format!("{url}jwks_uri = \"https://a.example\"\njwks_file = \"/f\""),
        "`jwks_file` and `jwks_uri` exclude each other; keep one",
    );
    check_issuer(
        &format!("{url}bearer_file = \"/f\""),
        "`bearer_file` needs a `jwks_uri`: it is sent nowhere else",
    );
    check_issuer(
        &format!("{url}ca_file = \"/nonexistent/ca.pem\""),
        "`ca_file` /nonexistent/ca.pem: No such file or directory (os error 2)",
    );
    check_issuer(&format!("{url}ca_file = \"/dev/null\""), "`ca_file` /dev/null: holds no PEM certificate");
    check_issuer(
        &format!("{url}[[issuer.group]]\ngroup = \"all\"\nclaims = {{}}"),
        "the rule for group `all` names no claim, so it would put every token in; name one",
    );
    let many: Vec<_> = (0..17).map(|n| format!("\"c{n}\"")).collect();
    check_issuer(
        &format!("{url}run_claims = [{}]", many.join(",")),
        "`run_claims` has 17 entries, at most 16 are allowed",
    );
}

#[test]
fn unknown_keys_and_presets_are_refused() {
    let refused = |toml: &str| parse(toml).unwrap_err().message().to_owned();
    assert!(refused("[[issuer]]\nname = \"a\"\naudiences = \"b\"").contains("unknown field `audiences`"));
    assert!(refused("[[issuer]]\nname = \"a\"\npreset = \"jenkins\"").contains("unknown variant `jenkins`"));
    let rule = "[[issuer]]\nname = \"a\"\n[[issuer.group]]\ngroup = \"g\"\nclaim = { a = \"b\" }";
    assert!(refused(rule).contains("unknown field `claim`"));
}

#[test]
fn issuers_must_differ_in_name_and_url_and_be_1_to_16() {
    let issuer = |name: &str, url: &str| format!("[[issuer]]\nname = \"{name}\"\nurl = \"https://{url}\"\n");
    let two = |a: &str, b: &str, c: &str, d: &str| issuer(a, b) + &issuer(c, d);
    check_refused(
        &two("a", "a.example", "a", "b.example"),
        "two issuers have the name `a`; each must have its own",
    );
    check_refused(
        &two("a", "a.example", "b", "a.example"),
        "two issuers have the url `https://a.example`; each must have its own",
    );
    check_refused(&issuer(" ", "a.example"), "an issuer's `name` is empty; give it one");
    check_refused("issuer = []", "no [[issuer]] is configured, so no job could ever be enrolled; add one");
    let many: String = (0..17).map(|n| issuer(&n.to_string(), &format!("{n}.example"))).collect();
    check_refused(&many, "17 issuers are configured, at most 16 are allowed");
}
