//! How files are cut into policies, what refuses them, and what is known of each policy.

use super::{parse::split, *};
use crate::vocabulary::schema_text;

fn schema() -> Schema {
    Schema::from_cedarschema_str(&schema_text()).unwrap().0
}

fn refused(text: &str) -> String {
    let source = Source::new("policies/default/x.cedar", text);
    Policies::load(&[&source], &schema()).unwrap_err().to_string()
}

#[test]
fn a_file_is_cut_at_semicolons_outside_strings_and_comments() {
    let check = |text: &str, expect: &[(usize, &str)]| assert_eq!(split(text), expect, "{text:?}");
    check("", &[]);
    check("// a; b\n", &[]);
    check("a; b;", &[(0, "a;"), (3, "b;")]);
    check("// x;\n a \"b;\\\"c;\" d; // y;\ne", &[(7, "a \"b;\\\"c;\" d;"), (27, "e")]);
    check("// comment ends here\rforbid;", &[(21, "forbid;")]);
    check("a // x;\n;", &[(0, "a // x;\n;")]);
}

#[test]
fn every_refusal_names_the_file_the_line_and_the_reason() {
    let check = |text: &str, line: usize, reason: &str| {
        let error = refused(text);
        assert!(error.starts_with(&format!("policies/default/x.cedar:{line}: ")), "{error}");
        assert!(error.contains(reason), "{error}");
    };
    check("\n\npermit(principal, action, resource)\n", 3, "unexpected end of input");
    check("@id(\"a\")\npermit(principal, action resource);", 2, "unexpected token `resource`");
    check("\npermit(principal, action, resource);", 2, "has no name; put @id");
    check("@id(\"a b\")\npermit(principal, action, resource);", 1, "must be 1 to 64 letters");
    check("@id(\"\") permit(principal, action, resource);", 1, "must be 1 to 64 letters");
    check(
        "@id(\"a\") permit(principal, action, resource);\n\n\
         @id(\"a\") forbid(principal, action, resource);",
        3,
        "already taken at policies/default/x.cedar:1",
    );
    check(
        "@id(\"a\")\npermit(principal, action, resource)\nwhen { principal.isuer == \"x\" };",
        3,
        "attribute `isuer` on entity type `Job` not found",
    );
    check("@id(\"a\")\npermit(principal, action == Action::\"sql:slect\", resource);", 2, "sql:slect");
    check("@id(\"a\")\npermit(principal is User, action, resource);", 2, "unrecognized entity type `User`");
    check(
        "@id(\"a\")\npermit(principal, action, resource)\nwhen { context.sql.hasWhere };",
        3,
        "attribute `sql`",
    );
    check(
        "@id(\"a\")\npermit(principal, action == Action::\"connect\", resource)\n\
         when { principal.getTag(\"repository\") == \"x\" };",
        3,
        "tag",
    );
    check("@id(\"a\")\npermit(principal == ?principal, action, resource);", 2, "template");
    // A policy that can never apply is refused, though Cedar only warns.
    check("@id(\"a\")\npermit(principal, action == Action::\"sql:read\", resource);", 1, "impossible");
    check("@id(\"a\")\npermit(principal, action, resource is SshHost);", 1, "impossible");
    check(
        "@id(\"a\")\nforbid(principal, action, resource) when { principal.subject == \"\u{430}dmin\" };",
        2,
        "script",
    );
}

#[test]
fn a_policy_is_known_with_its_file_line_and_text() {
    let text = "// first\n@id(\"one\")\npermit(principal, action, resource);\n\
                @id(\"two\") forbid(principal, action,\n resource);";
    let source = Source::new("x.cedar", text);
    let policies = Policies::load(&[&source], &schema()).unwrap();
    let two = policies.get("two").unwrap();
    assert_eq!((two.line, two.effect), (4, PolicyEffect::Forbid));
    assert_eq!(two.text, "@id(\"two\") forbid(principal, action,\n resource);");
    assert_eq!(policies.iter().map(|p| &*p.name).collect::<Vec<_>>(), ["one", "two"]);
}

#[test]
fn a_policy_is_evaluated_only_for_actions_in_its_scope() {
    let check = |scope: &str, applies_to: &[&str], others: &[&str]| {
        let source = Source::new("x.cedar", format!("@id(\"x\") permit(principal, {scope}, resource);"));
        let policies = Policies::load(&[&source], &schema()).unwrap();
        let count = |name: &str| {
            let action = Action::ALL.iter().find(|a| a.name() == name).unwrap();
            policies.for_action(*action).unwrap().all.num_of_policies()
        };
        applies_to.iter().for_each(|name| assert_eq!(count(name), 1, "{scope} applies to {name}"));
        others.iter().for_each(|name| assert_eq!(count(name), 0, "{scope} does not apply to {name}"));
    };
    check("action", &["connect", "sql:select", "sql:drop"], &[]);
    check("action == Action::\"sql:select\"", &["sql:select"], &["connect", "sql:show"]);
    check("action in Action::\"sql:read\"", &["sql:select", "sql:show"], &["connect", "sql:drop"]);
    check("action in Action::\"sql\"", &["sql:select", "sql:unparsed"], &["connect"]);
    check("action in [Action::\"connect\", Action::\"sql:ddl\"]", &["connect", "sql:drop"], &["sql:select"]);
}

#[test]
fn a_policy_that_may_read_the_time_or_the_approvals_is_known() {
    let check = |condition: &str, expect: bool| {
        let text = format!(
            "@id(\"x\") permit(principal, action in Action::\"sql:read\", resource) when {{ {condition} }};"
        );
        let source = Source::new("x.cedar", text);
        let policies = Policies::load(&[&source], &schema()).unwrap();
        let read = policies.for_action(Action::SqlSelect).unwrap().reads_moment;
        assert_eq!(read, expect, "{condition}");
        assert!(!policies.for_action(Action::SqlDrop).unwrap().reads_moment, "{condition}");
    };
    check("true", false);
    check("context.sql.hasWhere", false);
    check("context has sql && context.process.uid == 0", false);
    check("principal.subject == \"context.time\"", false);
    check("context.time.hour > 6", true);
    check("context[\"time\"].hour > 6", true);
    check("context.sql.hasWhere && context.approvals.contains(\"dba\")", true);
    check("context has time", true);
    check("context has time.hour", true);
    check("[context.time.hour].contains(3)", true);
    check("(if context.sql.hasWhere then context else context).process.uid == 0", true);
    check("context == context", true);
    check("{ now: context.time }.now.hour == 1", true);
}
