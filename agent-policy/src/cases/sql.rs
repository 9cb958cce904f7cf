//! SQL in cases: what a case says of a session with a database, and of a statement described by its actions.

use agent_core::{
    facts::{Access, Detail, Family, Relation, Resource, SqlFacts, SqlResource},
    target::Scope,
};
use serde::Deserialize;

/// The database, and the role, of a case that names none.
const DEFAULT_NAME: &str = "app";

/// The key `sql` of a case. Its names are those of `context.sql`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub(super) struct SqlKeys {
    statements: u32,
    /// All of them, unless it is given.
    non_transaction_statements: Option<u32>,
    has_where: bool,
    writes_in_cte: bool,
    locks_tables: bool,
    functions: Vec<String>,
    settings: Vec<String>,
    search_path: Vec<String>,
}

impl Default for SqlKeys {
    fn default() -> Self {
        Self {
            statements: 1,
            non_transaction_statements: None,
            has_where: true,
            writes_in_cte: false,
            locks_tables: false,
            functions: vec![],
            settings: vec![],
            search_path: vec![],
        }
    }
}

/// What the session has chosen.
pub(super) fn scope(database: Option<&str>, user: Option<&str>) -> Scope {
    Scope::sql(database.unwrap_or(DEFAULT_NAME), user.unwrap_or(DEFAULT_NAME))
}

/// What an action of SQL is done to; otherwise, what is wrong.
pub(super) fn resource(schema: Option<&str>, table: Option<&str>) -> Result<Resource, String> {
    match (table, schema) {
        (Some(table), schema) => Ok(Relation { schema: schema.map(Into::into), name: table.into() }.into()),
        (None, Some(_)) => Err("gives a schema without a table".to_owned()),
        (None, None) => Ok(SqlResource::Database.into()),
    }
}

/// What SQL adds to the accesses, if one of them is SQL's; otherwise, what is wrong.
pub(super) fn detail(keys: Option<&SqlKeys>, accesses: &[Access]) -> Result<Option<Detail>, String> {
    if !accesses.iter().any(|access| access.action.family() == Family::Sql) {
        return match keys {
            Some(_) => Err("describes sql, but has no sql action".to_owned()),
            None => Ok(None),
        };
    }
    let default = SqlKeys::default();
    let keys = keys.unwrap_or(&default);
    let boxed = |names: &[String]| names.iter().map(|name| name.as_str().into()).collect();
    Ok(Some(Detail::Sql(SqlFacts {
        statements: keys.statements,
        non_transaction_statements: keys.non_transaction_statements.unwrap_or(keys.statements),
        has_where: keys.has_where,
        functions: boxed(&keys.functions),
        settings: boxed(&keys.settings),
        search_path: keys
            .search_path
            .iter()
            .map(|name| (name != "?").then(|| name.as_str().into()))
            .collect(),
        writes_in_cte: keys.writes_in_cte,
        locks_tables: keys.locks_tables,
        awaits_settings: false,
    })))
}
