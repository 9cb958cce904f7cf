//! How facts are judged.

use agent_core::decision::Verdict;

use super::*;

/// Decides `accesses` for a member of `contractors`, and compares verdict, policies and reason.
fn check(policies: &str, accesses: &[&str], sql: SqlFacts, verdict: Verdict, names: &[&str], reason: &str) {
    let session = session(&bundle(policies), &["contractors"]);
    let decision = session.decide(&facts(accesses, sql), NOON, &[]);
    let told: Vec<_> = decision.policies.iter().map(|name| &**name).collect();
    assert_eq!((decision.verdict, &*told, &*decision.reason), (verdict, names, reason), "{policies}");
}

const READ: &str =
    "@id(\"read\") permit(principal in Group::\"contractors\", action in Action::\"sql:read\", resource);";

#[test]
fn a_command_is_allowed_only_if_every_access_is() {
    let both = format!("{READ} @id(\"write\") permit(principal, action in Action::\"sql:write\", resource);");
    check(READ, &["sql:select orders"], plain_sql(), Verdict::Allow, &["read"], "allowed by policy read");
    check(
        &both,
        &["sql:select orders", "sql:update orders"],
        plain_sql(),
        Verdict::Allow,
        &["read", "write"],
        "allowed by policies read and write",
    );
    check(
        READ,
        &["sql:select orders", "sql:drop orders"],
        plain_sql(),
        Verdict::Deny,
        &[],
        "no policy allows sql:drop on shop/shop.?.orders",
    );
}

#[test]
fn a_denial_names_every_policy_that_forbids() {
    let forbids = format!(
        "{READ} @id(\"b\") forbid(principal, action in Action::\"sql\", resource); @id(\"a\") forbid(principal, action == Action::\"sql:select\", resource is Table); @id(\"c\") forbid(principal, action, resource is Table) when {{ resource.name == \"orders\" }};"
    );
    check(
        &forbids,
        &["sql:select public.orders"],
        plain_sql(),
        Verdict::Deny,
        &["a", "b", "c"],
        "policies a, b and c forbid sql:select on shop/shop.public.orders",
    );
    // A forbid tells more than the want of a permit, wherever it stands.
    check(
        &forbids,
        &["sql:show", "sql:delete orders"],
        plain_sql(),
        Verdict::Deny,
        &["b", "c"],
        "policy b forbids sql:show on shop/shop",
    );
}

#[test]
fn a_policy_that_fails_denies_though_others_permit() {
    let overflow = "context.sql.statements + 9223372036854775807 > 0";
    for effect in ["forbid", "permit"] {
        let policies = format!(
            "{READ} @id(\"broken\") {effect}(principal, action in Action::\"sql\", resource) when {{ {overflow} }};"
        );
        let session = session(&bundle(&policies), &["contractors"]);
        let decision = session.decide(&facts(&["sql:select orders"], plain_sql()), NOON, &[]);
        assert_eq!(decision.verdict, Verdict::Deny);
        assert_eq!(decision.policies, ["broken".into()]);
        let start = "policy broken could not be evaluated for sql:select on shop/shop.?.orders: ";
        assert!(decision.reason.starts_with(start), "{}", decision.reason);
        assert!(decision.reason.contains("overflow"), "{}", decision.reason);
        // Where it has no say, it does no harm.
        assert_eq!(
            session.decide(&Facts::connect(), NOON, &[]).reason,
            "no policy allows connect on shop".into()
        );
    }
}

#[test]
fn whoever_has_no_credential_is_granted_nothing() {
    let bundle = bundle_of(&[
        ("default/x.cedar", "@id(\"all\") permit(principal, action, resource);"),
        ("default/upstreams.toml", "undeclared = \"policy\""),
    ]);
    let nobody = Subject::new(Principal::Unidentified { rule: "runner" }, "job-1", &lineage()).unwrap();
    let session = bundle.session(&nobody, &shop(), "shop", "app").unwrap();
    let reason = "the job has no verified credential, and is granted nothing until it has one";
    let destination = "192.0.2.1:443".parse().unwrap();
    for decision in [
        session.decide(&Facts::connect(), NOON, &[]),
        session.decide(&facts(&["sql:select orders"], plain_sql()), NOON, &[]),
        bundle.decide_undeclared(&nobody, destination, NOON, &[]),
    ] {
        assert_eq!((decision.verdict, &*decision.reason), (Verdict::Deny, reason));
    }
}

#[test]
fn only_a_permit_that_names_the_unidentified_grants_them_a_connection() {
    let decide = |policies: &str, facts: &Facts| {
        let bundle = bundle_of(&[("default/x.cedar", policies)]);
        let nobody = Subject::new(Principal::Unidentified { rule: "runner" }, "job-1", &lineage()).unwrap();
        bundle.session(&nobody, &shop(), "shop", "app").unwrap().decide(facts, NOON, &[])
    };
    let named = "@id(\"runner\") permit(principal in Group::\"unidentified\", action, resource) when { \
                 principal.hasTag(\"rule\") && principal.getTag(\"rule\") == \"runner\" };";
    let connect = decide(named, &Facts::connect());
    assert_eq!((connect.verdict, &*connect.reason), (Verdict::Allow, "allowed by policy runner"));
    // Nothing else, though the policy says so.
    assert_eq!(decide(named, &facts(&["sql:select orders"], plain_sql())).verdict, Verdict::Deny);
    for policies in [
        "@id(\"all\") permit(principal, action, resource);",
        "@id(\"when\") permit(principal, action, resource) when { principal in Group::\"unidentified\" };",
        "@id(\"other\") permit(principal in Group::\"unidentified\", action, resource) when { \
         principal.hasTag(\"rule\") && principal.getTag(\"rule\") == \"other\" };",
        &format!("{named} @id(\"no\") forbid(principal, action, resource);"),
    ] {
        assert_eq!(decide(policies, &Facts::connect()).verdict, Verdict::Deny, "{policies}");
    }
}

#[test]
fn an_undeclared_destination_follows_the_bundles_rule() {
    let decide = |rule: &str, policies: &str, destination: &str| {
        let bundle = bundle_of(&[("default/x.cedar", policies), ("default/upstreams.toml", rule)]);
        bundle.decide_undeclared(&subject(&["ci"]), destination.parse().unwrap(), NOON, &[])
    };
    let all = "@id(\"all\") permit(principal, action, resource);";
    let denied = decide("undeclared = \"deny\"", all, "127.0.0.1:2222");
    assert_eq!(denied.verdict, Verdict::Deny);
    assert!(denied.reason.starts_with("undeclared destination 127.0.0.1:2222: "), "{}", denied.reason);
    assert_eq!(decide("", all, "127.0.0.1:2222").verdict, Verdict::Deny);

    let https = "@id(\"https\") permit(principal, action == Action::\"connect\", resource is Endpoint) when { resource.port == 443 && resource.address.isInRange(ip(\"192.0.2.0/24\")) };";
    let rule = "undeclared = \"policy\"";
    assert_eq!(decide(rule, https, "192.0.2.1:443").policies, ["https".into()]);
    assert_eq!(decide(rule, https, "[::ffff:192.0.2.1]:443").verdict, Verdict::Allow);
    assert_eq!(decide(rule, https, "192.0.3.1:443").verdict, Verdict::Deny);
    let denied = decide(rule, https, "192.0.2.1:80");
    assert_eq!(&*denied.reason, "no policy allows connect on undeclared destination 192.0.2.1:80");
    assert_eq!(decide(rule, all, "[2001:db8::1]:22").policies, ["all".into()]);
}

#[test]
fn facts_that_say_nothing_or_too_much_are_denied() {
    let session = session(&bundle("@id(\"all\") permit(principal, action, resource);"), &[]);
    let none = session.decide(&Facts { accesses: vec![], sql: None }, NOON, &[]);
    assert_eq!(&*none.reason, "nothing is known of what the command does");
    let many = |count: usize| {
        let names: Vec<_> = (0..count).map(|i| format!("sql:select t{i:04}")).collect();
        facts(&names.iter().map(String::as_str).collect::<Vec<_>>(), plain_sql())
    };
    assert_eq!(session.decide(&many(512), NOON, &[]).verdict, Verdict::Allow);
    let denied = session.decide(&many(513), NOON, &[]);
    assert_eq!(denied.verdict, Verdict::Deny);
    assert!(denied.reason.contains("513 accesses"), "{}", denied.reason);
}

#[test]
fn sql_of_which_nothing_is_known_is_taken_for_the_worst() {
    let check = |condition: &str, expect| {
        let policies = format!(
            "@id(\"x\") permit(principal, action in Action::\"sql\", resource) when {{ {condition} }};"
        );
        let unknown = Facts { accesses: vec![access("sql:call")], sql: None };
        let decision = session(&bundle(&policies), &[]).decide(&unknown, NOON, &[]);
        assert_eq!(decision.verdict, expect, "{condition}");
    };
    check("true", Verdict::Allow);
    check("context.sql.hasWhere", Verdict::Deny);
    check("context.sql.statements <= 1000", Verdict::Deny);
    check("!context.sql.writesInCte", Verdict::Deny);
    check("[\"timezone\"].containsAll(context.sql.settings)", Verdict::Deny);
    check("[\"now\"].containsAll(context.sql.functionNames)", Verdict::Deny);
}

#[test]
fn policies_can_read_all_that_the_schema_promises() {
    let check = |condition: &str, expect: bool| {
        let policies = format!(
            "@id(\"x\") permit(principal, action in Action::\"sql\", resource is Table) when {{ {condition} }};"
        );
        let tags = "[[resource]]\ntable = \"customers\"\ntags = [\"pii\"]\n[[resource]]\nupstream = \"shop\"\ntags = [\"prod\"]";
        let bundle = bundle_of(&[("x.cedar", &policies), ("resources.toml", tags)]);
        let sql = SqlFacts {
            statements: 2,
            has_where: true,
            functions: vec!["now".into(), "public.dblink".into()],
            settings: vec!["Search_Path".into()],
            alters_reading: None,
            writes_in_cte: true,
        };
        let decision =
            session(&bundle, &["ci"]).decide(&facts(&["sql:select public.customers"], sql), NOON, &["dba"]);
        assert_eq!(decision.verdict == Verdict::Allow, expect, "{condition}: {}", decision.reason);
    };
    for condition in [
        "principal in Group::\"ci\" && !(principal in Group::\"contractors\")",
        "principal == Job::\"job-1\"",
        "principal.issuer == \"https://issuer.example\" && principal.subject == \"contractor:dana\"",
        "principal.hasTag(\"repository\") && principal.getTag(\"repository\") == \"example/shop\"",
        "!principal.hasTag(\"ref\")",
        "resource == Table::\"shop/shop.public.customers\"",
        "resource in Schema::\"shop/shop.public\" && resource in Database::\"shop/shop\"",
        "resource in Upstream::\"shop\" && !(resource in Upstream::\"other\")",
        "resource.name == \"customers\" && resource.schema == \"public\"",
        "resource.tags.containsAll([\"pii\", \"prod\"])",
        "context.process.exe == \"/usr/bin/psql\" && context.process.depth == 2",
        "context.process.uid == 1000 && context.process.container == \"c0ffee\"",
        "context.process.ancestry.contains(\"/usr/bin/python3\")",
        "context.time.unix == 1767614400 && context.time.weekday == 1",
        "context.time.hour == 12 && context.time.minute == 0",
        "context.approvals.contains(\"dba\")",
        "context.sql.user == \"app\" && context.sql.statements == 2",
        "context.sql.hasWhere && context.sql.writesInCte",
        "context.sql.functions.containsAll([\"now\", \"public.dblink\"])",
        "context.sql.functionNames.containsAll([\"now\", \"dblink\"])",
        // PostgreSQL knows its settings in any case.
        "context.sql.settings == [\"search_path\"]",
    ] {
        check(condition, true);
        check(&format!("!({condition})"), false);
    }
}

#[test]
fn every_action_on_every_resource_is_a_request_that_the_schema_knows() {
    // In tests every request is validated against the schema: a mistake would deny with another reason.
    let session = session(&bundle("@id(\"all\") permit(principal, action, resource);"), &["ci"]);
    let table = |schema: Option<&str>| {
        Resource::Table(Relation { schema: schema.map(Into::into), name: "orders".into() })
    };
    for action in Action::ALL {
        let resources = match action {
            Action::Connect => vec![Resource::Upstream],
            _ => vec![Resource::Upstream, Resource::Database, table(None), table(Some("public"))],
        };
        for resource in resources {
            for sql in [None, Some(plain_sql())] {
                let facts =
                    Facts { accesses: vec![Access { action: *action, resource: resource.clone() }], sql };
                let decision = session.decide(&facts, NOON, &["dba"]);
                assert_eq!(&*decision.reason, "allowed by policy all", "{action:?} {resource:?}");
            }
        }
    }
}

#[test]
fn a_name_in_a_policy_means_one_table_however_tables_are_named() {
    let policies = "@id(\"x\") permit(principal, action, resource == Table::\"shop/shop.?.orders\");";
    let session = session(&bundle(policies), &[]);
    let check = |schema: Option<&str>, name: &str, expect| {
        let resource = Resource::Table(Relation { schema: schema.map(Into::into), name: name.into() });
        let facts =
            Facts { accesses: vec![Access { action: Action::SqlSelect, resource }], sql: Some(plain_sql()) };
        assert_eq!(session.decide(&facts, NOON, &[]).verdict, expect, "{schema:?} {name}");
    };
    check(None, "orders", Verdict::Allow);
    check(Some("?"), "orders", Verdict::Deny);
    check(Some("public"), "orders", Verdict::Deny);
    check(None, "?.orders", Verdict::Deny);
}

#[test]
fn explain_decides_as_decide_does_and_says_where_each_policy_stands() {
    let policies = format!(
        "// reading\n{READ}\n\n@id(\"no-drop\")\nforbid(principal, action == Action::\"sql:drop\", resource);\n@id(\"broken\") forbid(principal, action == Action::\"sql:set\", resource) when {{ context.sql.statements * -9223372036854775807 * 9 > 0 }};"
    );
    let session = session(&bundle(&policies), &["contractors"]);
    let asked = facts(&["sql:select orders", "sql:drop public.orders", "sql:set", "sql:call"], plain_sql());
    let told = session.explain(&asked, NOON, &[]);
    let decision = session.decide(&asked, NOON, &[]);
    assert_eq!(
        (told.decision, &told.policies, &told.reason),
        (decision.verdict, &decision.policies, &decision.reason)
    );
    assert_eq!(
        session.resources(&asked),
        told.accesses.iter().map(|a| a.resource.clone()).collect::<Vec<_>>()
    );

    let json = serde_json::to_value(&told).unwrap();
    assert_eq!(json["decision"], "deny");
    assert_eq!(json["bundle"], session.bundle().version());
    let of = |action: &str| {
        json["accesses"].as_array().unwrap().iter().find(|access| access["action"] == action).unwrap().clone()
    };
    assert_eq!(of("sql:select")["decision"], "allow");
    assert_eq!(of("sql:select")["policies"][0]["line"], 2);
    assert_eq!(of("sql:select")["policies"][0]["effect"], "permit");
    let drop = of("sql:drop");
    assert_eq!(drop["resource"], "shop/shop.public.orders");
    assert_eq!(drop["policies"][0]["file"], "default/x.cedar");
    assert_eq!(drop["policies"][0]["line"], 4);
    let text = "@id(\"no-drop\")\nforbid(principal, action == Action::\"sql:drop\", resource);";
    assert_eq!(drop["policies"][0]["text"], text);
    assert!(drop["policies"][0].get("error").is_none());
    assert_eq!(of("sql:set")["policies"][0]["name"], "broken");
    assert!(of("sql:set")["policies"][0]["error"].as_str().unwrap().contains("overflow"));
    assert_eq!(of("sql:call")["policies"], serde_json::json!([]));
}

#[test]
fn no_policy_can_allow_what_alters_how_statements_are_read() {
    let bundle = bundle("@id(\"all\") permit (principal, action, resource);");
    let decide = |setting: Option<&str>| {
        let sql = SqlFacts { alters_reading: setting.map(Into::into), ..plain_sql() };
        session(&bundle, &["ci"]).decide(&facts(&["sql:set"], sql), NOON, &[])
    };
    assert_eq!(decide(None).verdict, Verdict::Allow);
    for (setting, reason) in
        [("client_encoding", "client_encoding decides how"), ("?", "which setting it changes")]
    {
        let decision = decide(Some(setting));
        assert_eq!((decision.verdict, decision.policies.len()), (Verdict::Deny, 0));
        assert!(decision.reason.contains(reason), "{decision:?}");
    }
}
