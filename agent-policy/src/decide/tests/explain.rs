//! What an explanation contains.

use crate::{
    Judgement,
    tests::fixtures::{NOON, bundle, decider, facts, plain_sql},
};

#[test]
fn explain_decides_as_decide_does_and_names_the_file_and_line_of_each_policy() {
    let policies = "// reading
@id(\"read\") permit(principal in Group::\"contractors\", action in Action::\"sql:read\", resource);

@id(\"no-drop\")
forbid(principal, action == Action::\"sql:drop\", resource);
@id(\"broken\") forbid(principal, action == Action::\"sql:set\", resource)
when { context.sql.statements * -9223372036854775807 * 9 > 0 };";
    let decider = decider(&bundle(policies), &["contractors"]);
    let asked = facts(&["sql:select orders", "sql:drop public.orders", "sql:set", "sql:call"], plain_sql());
    let explanation = decider.explain(&asked, NOON, &[]);
    let Judgement { decision, resources } = decider.decide(&asked, NOON, &[]);
    assert_eq!(
        (explanation.decision, &explanation.policies, &explanation.reason),
        (decision.effect, &decision.policies, &decision.reason)
    );
    assert_eq!(resources, explanation.accesses.iter().map(|a| a.resource.clone()).collect::<Vec<_>>());

    let json = serde_json::to_value(&explanation).unwrap();
    assert_eq!(json["decision"], "deny");
    assert_eq!(json["bundle"], decider.bundle().version());
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
