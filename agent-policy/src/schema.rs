//! The schema that every policy is validated against: the vocabulary beside this file, and the actions that
//! facts can hold. It must never name an action that facts cannot hold, nor miss one.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use agent_core::facts::Action;

/// Entity and context types.
const VOCABULARY: &str = include_str!("schema.cedarschema");

/// The group above every group of SQL actions.
pub(crate) const SQL: &str = "sql";

/// The schema as Cedar schema text, for `lineal policy` and for editors.
pub fn schema_text() -> String {
    let mut text = VOCABULARY.to_owned();
    text.push_str("\n// Every action that any protocol's facts can hold, in its group.\n");
    text.push_str("action \"sql\";\n");
    let groups: BTreeSet<_> = Action::ALL.iter().map(|a| a.group()).filter(|g| !g.is_empty()).collect();
    for group in groups {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "action \"{group}\" in [\"{}\"];", protocol(group));
    }
    for action in Action::ALL {
        let name = action.name();
        let _ = match action.group() {
            "" => writeln!(
                text,
                "action \"{name}\" appliesTo {{ principal: [Job], resource: [Upstream, Endpoint], context: Context }};"
            ),
            group => writeln!(
                text,
                "action \"{name}\" in [\"{group}\"] appliesTo {{ principal: [Job], resource: [Upstream, Database, Table], context: SqlContext }};"
            ),
        };
    }
    text
}

/// `sql` of `sql:read`.
fn protocol(group: &str) -> &str {
    group.split(':').next().unwrap_or(group)
}

/// True when the action's context has an `sql` record.
pub(crate) fn is_sql(action: Action) -> bool {
    protocol(action.group()) == SQL
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_schema_is_valid_and_declares_every_action() {
        let (schema, warnings) = cedar_policy::Schema::from_cedarschema_str(&schema_text()).unwrap();
        assert_eq!(warnings.map(|w| w.to_string()).collect::<Vec<_>>(), Vec::<String>::new());
        let declared: BTreeSet<String> = schema.actions().map(|a| a.id().unescaped().to_owned()).collect();
        for action in Action::ALL {
            assert!(declared.contains(action.name()), "{} is not declared", action.name());
        }
    }
}
