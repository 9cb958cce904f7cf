//! The schema, and that requests hold what it promises.

use std::collections::BTreeSet;

use agent_core::{
    decision::Effect,
    facts::{Access, Action, Detail, Facts, Resource, SqlFacts, SqlResource},
};
use cedar_policy::Schema;

use super::schema_text;
use crate::tests::fixtures::{
    NOON, access, bare, bundle, bundle_of, decider, decision, facts, plain_sql, table,
};

#[test]
fn the_schema_is_valid_and_declares_every_action() {
    let (schema, warnings) = Schema::from_cedarschema_str(&schema_text()).unwrap();
    assert_eq!(warnings.map(|w| w.to_string()).collect::<Vec<_>>(), Vec::<String>::new());
    let declared: BTreeSet<String> = schema.actions().map(|a| a.id().unescaped().to_owned()).collect();
    for action in Action::ALL {
        assert!(declared.contains(action.name()), "{} is not declared", action.name());
    }
}

#[test]
fn policies_can_read_all_that_the_schema_promises() {
    let check = |condition: &str, expect: bool| {
        let policies = format!(
            "@id(\"x\") \
             permit(principal, action in Action::\"sql\", resource is Table) when {{ {condition} }};"
        );
        let tags = "[[resource]]\ntable = \"customers\"\ntags = [\"pii\"]\n\
                    [[resource]]\nupstream = \"shop\"\ntags = [\"prod\"]";
        let bundle = bundle_of(&[("x.cedar", &policies), ("resources.toml", tags)]);
        let sql = SqlFacts {
            statements: 2,
            non_transaction_statements: 1,
            has_where: true,
            functions: vec!["now".into(), "public.dblink".into()],
            settings: vec!["Search_Path".into(), "app.user".into(), "app.Org".into()],
            search_path: vec![None, Some("$user".into()), Some("?".into())],
            writes_in_cte: true,
            locks_tables: true,
            awaits_settings: false,
        };
        let decision = decider(&bundle, &["ci"])
            .decide(&facts(&["sql:select public.customers"], sql), NOON, &["dba"])
            .decision;
        assert_eq!(decision.effect == Effect::Allow, expect, "{condition}: {}", decision.reason);
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
        "resource.certainTags.containsAll([\"pii\", \"prod\"])",
        "context.process.exe == \"/usr/bin/psql\" && context.process.depth == 2",
        "context.process.uid == 1000 && context.process.container == \"c0ffee\"",
        "context.process.ancestry.contains(\"/usr/bin/python3\")",
        "context.time.unix == 1767614400 && context.time.weekday == 1",
        "context.time.hour == 12 && context.time.minute == 0",
        "context.approvals.contains(\"dba\")",
        "context.sql.user == \"app\" && context.sql.statements == 2",
        "context.sql.nonTransactionStatements == 1",
        "context.sql.hasWhere && context.sql.writesInCte && context.sql.locksTables",
        "context.sql.functions.containsAll([\"now\", \"public.dblink\"])",
        "context.sql.functionNames.containsAll([\"now\", \"dblink\"])",
        // PostgreSQL ignores the case of settings.
        "context.sql.settings == [\"search_path\", \"app.user\", \"app.org\"]",
        "context.sql.settingGroups == [\"search_path\", \"app.*\"]",
        "context.sql.searchPath == [\"?\", \"$user\", \"\\\"?\\\"\"]",
    ] {
        check(condition, true);
        check(&format!("!({condition})"), false);
    }
}

#[test]
fn a_schema_is_matched_by_its_plain_name_whatever_characters_it_has() {
    let check = |schema: Option<&str>, attribute: &str| {
        let policies = format!(
            "@id(\"x\") permit(principal, action in Action::\"sql\", resource is Table)
             when {{ resource.schema == {attribute:?} }};"
        );
        let access = Access { action: Action::SqlSelect, resource: table(schema, "orders") };
        let facts = Facts { accesses: vec![access], ..facts(&[], plain_sql()) };
        let decision = decision(&decider(&bundle(&policies), &[]), &facts);
        assert_eq!(decision.effect, Effect::Allow, "{schema:?} {attribute}");
    };
    check(Some("public"), "public");
    check(Some("my.schema"), "my.schema");
    check(Some("a \"b\""), "a \"b\"");
    check(None, "?");
    check(Some("?"), "\"?\"");
}

#[test]
fn an_sql_action_without_sql_facts_is_taken_for_the_worst() {
    let check = |condition: &str, expect| {
        let policies = format!(
            "@id(\"x\") permit(principal, action in Action::\"sql\", resource) when {{ {condition} }};"
        );
        let unknown = bare(access("sql:call"));
        let decision = decision(&decider(&bundle(&policies), &[]), &unknown);
        assert_eq!(decision.effect, expect, "{condition}");
    };
    check("true", Effect::Allow);
    check("context.sql.hasWhere", Effect::Deny);
    check("context.sql.statements <= 1000", Effect::Deny);
    check("context.sql.nonTransactionStatements <= 1000", Effect::Deny);
    check("!context.sql.writesInCte", Effect::Deny);
    check("!context.sql.locksTables", Effect::Deny);
    check("[\"timezone\"].containsAll(context.sql.settings)", Effect::Deny);
    check("[\"now\"].containsAll(context.sql.functionNames)", Effect::Deny);
}

#[test]
fn every_action_on_every_resource_is_a_valid_request() {
    // In tests every request is validated against the schema: a mistake would deny with another reason.
    let decider = decider(&bundle("@id(\"all\") permit(principal, action, resource);"), &["ci"]);
    let table = |schema| table(schema, "orders");
    for action in Action::ALL {
        let resources = match action {
            Action::Connect => vec![Resource::Upstream],
            _ => vec![Resource::Upstream, SqlResource::Database.into(), table(None), table(Some("public"))],
        };
        for resource in resources {
            for detail in [None, Some(Detail::Sql(plain_sql()))] {
                let access = Access { action: *action, resource: resource.clone() };
                let decision = decider.decide(&Facts { detail, ..bare(access) }, NOON, &["dba"]).decision;
                assert_eq!(&*decision.reason, "allowed by policy all", "{action:?} {resource:?}");
            }
        }
    }
}

#[test]
fn a_name_in_a_policy_matches_one_table_however_tables_are_named() {
    let policies = "@id(\"x\") permit(principal, action, resource == Table::\"shop/shop.?.orders\");";
    let decider = decider(&bundle(policies), &[]);
    let check = |schema: Option<&str>, name: &str, expect| {
        let access = Access { action: Action::SqlSelect, resource: table(schema, name) };
        let facts = Facts { detail: Some(Detail::Sql(plain_sql())), ..bare(access) };
        assert_eq!(decision(&decider, &facts).effect, expect, "{schema:?} {name}");
    };
    check(None, "orders", Effect::Allow);
    check(Some("?"), "orders", Effect::Deny);
    check(Some("public"), "orders", Effect::Deny);
    check(None, "?.orders", Effect::Deny);
}
