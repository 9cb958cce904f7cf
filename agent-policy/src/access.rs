//! The name that policies know a resource by. One name must never stand for two resources: PostgreSQL takes
//! any character in a quoted identifier, the dots and question marks of this spelling included.

use std::borrow::Cow;

use agent_core::facts::{Relation, Resource};

/// `upstream/database.schema.table`, as in [`Resource::spell`], with the parts that could be read as anything
/// else in quotes. `?` is the schema that a statement leaves out; a schema of that very name is `"?"`.
pub(crate) fn spell(upstream: &str, database: &str, resource: &Resource) -> String {
    match resource {
        Resource::Upstream => upstream.to_owned(),
        Resource::Database => format!("{upstream}/{}", part(database)),
        Resource::Table(relation) => {
            format!("{}.{}", spell_schema(upstream, database, relation), part(&relation.name))
        }
    }
}

/// The name of the schema that a relation stands in.
pub(crate) fn spell_schema(upstream: &str, database: &str, relation: &Relation) -> String {
    format!("{upstream}/{}.{}", part(database), schema_name(relation))
}

/// The schema's own name, `?` where the statement leaves it out.
pub(crate) fn schema_name(relation: &Relation) -> Cow<'_, str> {
    relation.schema.as_deref().map_or(Cow::Borrowed("?"), part)
}

fn part(name: &str) -> Cow<'_, str> {
    let ambiguous = |c: char| matches!(c, '.' | '/' | '"' | '\\') || c.is_control() || c.is_whitespace();
    if name.is_empty() || name == "?" || name.contains(ambiguous) {
        // Debug's escapes can be read back, so no two names share a spelling, and none breaks a line.
        Cow::Owned(format!("{name:?}"))
    } else {
        Cow::Borrowed(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(schema: Option<&str>, name: &str) -> Resource {
        Resource::Table(Relation { schema: schema.map(Into::into), name: name.into() })
    }

    #[test]
    fn plain_names_are_spelled_as_the_audit_trail_spells_them() {
        for resource in [
            Resource::Upstream,
            Resource::Database,
            table(None, "orders"),
            table(Some("public"), "Orders"),
            table(Some("données"), "größe_2$"),
        ] {
            assert_eq!(spell("shop", "shop", &resource), resource.spell("shop", "shop"));
        }
    }

    #[test]
    fn no_two_resources_share_a_name() {
        let names = ["a", "a.b", "b", "?", "", "a\"", "\"a\"", "\\", "a/b", "\n", "\\n", "\"?\""];
        let mut seen = std::collections::BTreeMap::new();
        for database in names {
            for name in names {
                for schema in names.into_iter().map(Some).chain([None]) {
                    let key = spell("u", database, &table(schema, name));
                    let other = seen.insert(key.clone(), (database, schema, name));
                    assert_eq!(other, None, "{key}");
                }
            }
        }
    }
}
