//! SQL in policies: databases, schemas and tables as entities, and `context.sql`. The types stand in
//! `sql.cedarschema`.

use std::{
    borrow::Cow,
    collections::{BTreeSet, HashSet},
};

use agent_core::facts::{Relation, SqlFacts, SqlResource};
use cedar_policy::{Entity, EntityTypeName, EntityUid, RestrictedExpression};

use super::{
    key::{Key, Path},
    spelling::{LEFT_OUT, part},
    value::{EngineError, entity, entity_type, record, string, strings, uid},
};
use crate::bundle::tags::Tags;

/// The part of the schema that is SQL's.
pub(super) const SCHEMA: &str = include_str!("sql.cedarschema");

/// What every SQL action applies to.
pub(super) const APPLIES_TO: &str = "resource: [Upstream, Database, Table], context: SqlContext";

/// SQL's entity types.
#[derive(Debug)]
pub(super) struct Types {
    database: EntityTypeName,
    schema: EntityTypeName,
    table: EntityTypeName,
}

impl Types {
    pub(super) fn new() -> Result<Self, EngineError> {
        Ok(Self {
            database: entity_type("Database")?,
            schema: entity_type("Schema")?,
            table: entity_type("Table")?,
        })
    }
}

/// The resources of a session with one database.
pub(super) struct SqlScope<'a> {
    pub(super) types: &'a Types,
    pub(super) tags: &'a Tags,
    pub(super) upstream: &'a str,
    pub(super) database: &'a str,
}

impl SqlScope<'_> {
    /// `upstream/database` or `upstream/database.schema.table`. A schema that the statement leaves out is
    /// `?`; the other parts after `upstream` are spelled by [`part`].
    pub(super) fn spell(&self, resource: &SqlResource) -> String {
        match resource {
            SqlResource::Database => format!("{}/{}", self.upstream, part(self.database)),
            SqlResource::Table(relation) => {
                format!("{}.{}", self.spell_schema(relation), part(&relation.name))
            }
        }
    }

    fn spell_schema(&self, relation: &Relation) -> String {
        format!("{}/{}.{}", self.upstream, part(self.database), schema_name(relation))
    }

    pub(super) fn uid(&self, resource: &SqlResource) -> EntityUid {
        let kind = match resource {
            SqlResource::Database => &self.types.database,
            SqlResource::Table(_) => &self.types.table,
        };
        uid(kind, &self.spell(resource))
    }

    /// The database, which stands in the `upstream`.
    pub(super) fn database(&self, upstream: EntityUid) -> Result<Entity, EngineError> {
        let path = [(Key::Upstream, Some(self.upstream)), (Key::Database, Some(self.database))];
        let attributes = self.attributes(vec![("name", string(self.database))], &path);
        entity(self.uid(&SqlResource::Database), attributes, HashSet::from([upstream]))
    }

    /// The attributes of the resource at a path: its names and its tags.
    fn attributes(
        &self,
        mut attributes: Vec<(&'static str, RestrictedExpression)>,
        path: &Path<'_>,
    ) -> Vec<(&'static str, RestrictedExpression)> {
        attributes.push(("tags", strings(self.tags.of(path))));
        attributes.push(("certainTags", strings(self.tags.certainly_of(path))));
        attributes
    }

    /// The entities that a resource adds to the session's: of a table, itself and its schema; of the
    /// database none, because the session has it already.
    pub(super) fn entities(
        &self,
        upstream: EntityUid,
        resource: &SqlResource,
    ) -> Result<Vec<Entity>, EngineError> {
        match resource {
            SqlResource::Database => Ok(Vec::new()),
            SqlResource::Table(relation) => self.table(upstream, resource, relation),
        }
    }

    fn table(
        &self,
        upstream: EntityUid,
        resource: &SqlResource,
        relation: &Relation,
    ) -> Result<Vec<Entity>, EngineError> {
        let table_path = [
            (Key::Upstream, Some(self.upstream)),
            (Key::Database, Some(self.database)),
            (Key::Schema, relation.schema.as_deref()),
            (Key::Table, Some(&*relation.name)),
        ];
        let (schema_path, _) = table_path.split_at(3);
        let name = schema_attribute(relation.schema.as_deref());
        let mut ancestors = HashSet::from([upstream, self.uid(&SqlResource::Database)]);
        let schema = entity(
            uid(&self.types.schema, &self.spell_schema(relation)),
            self.attributes(vec![("name", string(name))], schema_path),
            ancestors.clone(),
        )?;
        ancestors.insert(schema.uid());
        let names = vec![("name", string(&relation.name)), ("schema", string(name))];
        let table = entity(self.uid(resource), self.attributes(names, &table_path), ancestors)?;
        Ok(vec![schema, table])
    }
}

/// A schema's name as a part of others: in quotes where it is ambiguous, or `?` if the statement names none.
fn schema_name(relation: &Relation) -> Cow<'_, str> {
    relation.schema.as_deref().map_or(Cow::Borrowed(LEFT_OUT), part)
}

/// `context.sql`. An SQL command without SQL facts (`None`) counts as very many statements, without `WHERE`,
/// with a nested write, and with a function, a setting and a schema called `?`.
pub(super) fn context(facts: Option<&SqlFacts>, role: &str) -> Result<RestrictedExpression, EngineError> {
    let unknown = SqlFacts {
        statements: u32::MAX,
        non_transaction_statements: u32::MAX,
        has_where: false,
        functions: vec!["?".into()],
        settings: vec!["?".into()],
        search_path: vec![None],
        writes_in_cte: true,
        locks_tables: true,
        awaits_settings: true,
    };
    let facts = facts.unwrap_or(&unknown);
    let bare = facts.functions.iter().map(|name| name.rsplit('.').next().unwrap_or(name));
    // PostgreSQL compares the names of settings without regard to case (guc_name_compare).
    let settings: BTreeSet<_> = facts.settings.iter().map(|name| name.to_ascii_lowercase()).collect();
    let groups: BTreeSet<_> = settings.iter().map(|name| setting_group(name)).collect();
    let schemas = facts.search_path.iter().map(|schema| schema_attribute(schema.as_deref()));
    record(vec![
        ("user", string(role)),
        ("statements", RestrictedExpression::new_long(facts.statements.into())),
        ("nonTransactionStatements", RestrictedExpression::new_long(facts.non_transaction_statements.into())),
        ("hasWhere", RestrictedExpression::new_bool(facts.has_where)),
        ("writesInCte", RestrictedExpression::new_bool(facts.writes_in_cte)),
        ("locksTables", RestrictedExpression::new_bool(facts.locks_tables)),
        ("functions", strings(facts.functions.iter().map(|name| &**name))),
        ("functionNames", strings(bare)),
        ("settings", strings(settings.iter().map(String::as_str))),
        ("settingGroups", strings(groups.iter().map(|group| &**group))),
        ("searchPath", strings(schemas)),
    ])
}

/// A setting's name, or what stands for all names with its first part.
fn setting_group(name: &str) -> Cow<'_, str> {
    name.split_once('.').map_or(Cow::Borrowed(name), |(prefix, _)| Cow::Owned(format!("{prefix}.*")))
}

/// A schema's name as an attribute has it.
fn schema_attribute(name: Option<&str>) -> &str {
    match name {
        None => LEFT_OUT,
        // Told from a schema that is not known.
        Some(LEFT_OUT) => "\"?\"",
        Some(name) => name,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn spell(upstream: &str, database: &str, schema: Option<&str>, name: &str) -> String {
        let types = Types::new().unwrap();
        let scope = SqlScope { types: &types, tags: &Tags::default(), upstream, database };
        scope.spell(&SqlResource::Table(Relation { schema: schema.map(Into::into), name: name.into() }))
    }

    #[test]
    fn plain_names_are_spelled_without_quotes() {
        assert_eq!(spell("shop", "app", Some("public"), "Orders"), "shop/app.public.Orders");
        assert_eq!(spell("shop", "app", None, "orders"), "shop/app.?.orders");
        assert_eq!(spell("shop", "app", Some("données"), "größe_2$"), "shop/app.données.größe_2$");
    }

    #[test]
    fn no_two_tables_share_a_name() {
        let names = ["a", "a.b", "b", "?", "", "a\"", "\"a\"", "\\", "a/b", "\n", "\\n", "\"?\""];
        let mut seen = BTreeMap::new();
        for database in names {
            for name in names {
                for schema in names.into_iter().map(Some).chain([None]) {
                    let key = spell("u", database, schema, name);
                    let other = seen.insert(key.clone(), (database, schema, name));
                    assert_eq!(other, None, "{key}");
                }
            }
        }
    }
}
