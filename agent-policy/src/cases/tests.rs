//! Which cases pass, and which are errors.

use super::*;
use crate::tests::fixtures::{bundle_of, facts, plain_sql};

const POLICIES: &str = r#"
@id("read") permit(principal in Group::"ci", action in Action::"sql:read", resource);
@id("claim") permit(principal, action == Action::"connect", resource is Upstream)
when { principal.hasTag("ref") && principal.getTag("ref") == "main" };
@id("night") forbid(principal, action in Action::"sql", resource) when { context.time.hour < 6 };
@id("python") forbid(principal, action in Action::"sql", resource)
when { context.process.ancestry.contains("/usr/bin/python3") };
"#;

const UPSTREAMS: &str =
    "[[upstream]]\nname = \"declared\"\nprotocol = \"tcp\"\naddresses = [\"127.0.0.1:6379\"]";

fn run(cases: &str) -> Result<Vec<CaseResult>, BundleError> {
    let bundle = bundle_of(&[("x.cedar", POLICIES), ("upstreams.toml", UPSTREAMS)]);
    let analyze = |protocol, statement: &str| {
        assert_eq!(statement, "SELECT 1");
        (protocol == Protocol::Postgres).then(|| facts(&["sql:select"], plain_sql()))
    };
    run_cases(&bundle, &[Source::new("x.cases.toml", cases)], &analyze)
}

#[test]
fn a_case_passes_if_effect_and_policies_are_as_expected() {
    let check = |case: &str, difference: &str| {
        let results = run(&format!("\n[[case]]\nname = \"a\"\n{case}")).unwrap();
        let [result] = &*results else { panic!("{results:?}") };
        assert_eq!((&*result.file, result.line, &*result.name), ("x.cases.toml", 3, "a"));
        assert_eq!(result.difference, difference, "{case}");
        assert_eq!(result.passed, difference.is_empty());
    };
    let ci = "principal = { groups = [\"ci\"] }\nupstream = \"shop\"\nstatement = \"SELECT 1\"\n";
    check(&format!("{ci}expect = \"allow\""), "");
    check(&format!("{ci}expect = \"allow\"\npolicies = [\"read\"]"), "");
    check(
        &format!("{ci}expect = \"allow\"\npolicies = [\"other\"]"),
        "expected the policies [\"other\"], got [\"read\"]: allowed by policy read",
    );
    check(&format!("{ci}expect = \"deny\""), "expected deny, got allow: allowed by policy read");
    check(&format!("{ci}expect = \"hold\""), "expected hold, got allow: allowed by policy read");
    check(&format!("{ci}expect = \"deny\"\ntime = 2026-01-05T05:59:59Z\npolicies = [\"night\"]"), "");
    check(
        &format!("{ci}expect = \"deny\"\nprocess.ancestry = [\"/usr/bin/python3\"]\npolicies = [\"python\"]"),
        "",
    );
    check(&format!("{ci}expect = \"deny\"\nprocess.exe = \"/usr/bin/python3\"\npolicies = [\"python\"]"), "");

    let main = "principal = { claims = { ref = \"main\" } }\nupstream = \"shop\"\n";
    check(
        &format!("{main}actions = [{{ action = \"connect\" }}]\nexpect = \"allow\"\npolicies = [\"claim\"]"),
        "",
    );
    let tables = "actions = [{ action = \"sql:drop\", schema = \"public\", table = \"orders\" }]";
    check(
        &format!("{main}{tables}\nexpect = \"allow\""),
        "expected allow, got deny: no policy allows sql:drop on shop/app.public.orders",
    );
    let to = "principal = { claims = { ref = \"main\" } }\ndestination = ";
    check(&format!("{to}\"127.0.0.1:6379\"\nexpect = \"allow\""), "");
    check(&format!("{to}\"127.0.0.1:22\"\nexpect = \"deny\""), "");
    let nobody = "principal = { unidentified = true, groups = [\"ci\"] }\nupstream = \"shop\"\n\
                  statement = \"SELECT 1\"\n";
    check(&format!("{nobody}expect = \"deny\"\npolicies = []"), "");
}

#[test]
fn a_case_that_names_something_that_does_not_exist_is_an_error_with_its_line() {
    let check = |case: &str, line: usize, reason: &str| {
        let error = run(&format!("\n[[case]]\nname = \"a\"\n{case}")).unwrap_err().to_string();
        assert!(error.starts_with(&format!("x.cases.toml:{line}: ")), "{error}");
        assert!(error.contains(reason), "{error}");
    };
    let head = "principal = { groups = [\"ci\"] }\nexpect = \"deny\"\n";
    check(head, 3, "exactly one of statement, actions and destination");
    check(&format!("{head}statement = \"SELECT 1\""), 3, "must name an upstream");
    let shop = format!("{head}upstream = \"shop\"\n");
    check(&format!("{shop}statement = \"SELECT 1\"\nactions = []"), 3, "exactly one of");
    check(
        &format!("{shop}actions = [{{ action = \"sql:drip\" }}]"),
        3,
        "no action that exists: \"sql:drip\"",
    );
    check(
        &format!("{shop}actions = [{{ action = \"sql:drop\", schema = \"a\" }}]"),
        3,
        "a schema without a table",
    );
    check(&format!("{shop}actions = [{{ action = \"connect\" }}]\nsql = {{}}"), 3, "no sql action");
    let connect = format!("{shop}actions = [{{ action = \"connect\", table = \"a\" }}]");
    check(&connect, 3, "the action connect a table");
    let unread = format!("{head}upstream = \"declared\"\nstatement = \"SELECT 1\"");
    check(&unread, 3, "of tcp no command is read");
    check(&format!("{shop}statment = \"SELECT 1\""), 7, "unknown field `statment`");
    check(&format!("{shop}statement = \"SELECT 1\"\ntime = 2026-01-05"), 3, "2026-01-05T12:00:00Z");
    let declared =
        format!("{head}upstream = \"declared\"\nprotocol = \"postgres\"\nstatement = \"SELECT 1\"");
    check(&declared, 3, "a protocol that upstreams.toml does not");
    check("principal = {}\nexpect = \"perhaps\"\n", 5, "unknown variant `perhaps`");
}
