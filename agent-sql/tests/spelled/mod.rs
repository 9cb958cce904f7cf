//! Accesses as text, for tables of expectations.

use agent_core::facts::{Access, Facts, Resource, SqlResource};
use agent_sql::{Analysis, analyze};

/// All accesses, sorted: `action` for one on the database, `action schema.name` for one on a table.
pub fn spelled(facts: &Facts) -> Vec<String> {
    let mut spelled: Vec<_> = facts.accesses.iter().map(spell).collect();
    spelled.sort();
    spelled
}

fn spell(Access { action, resource }: &Access) -> String {
    let action = action.name().trim_start_matches("sql:");
    match resource {
        Resource::Upstream => format!("{action} @upstream"),
        Resource::Sql(SqlResource::Database) => action.to_owned(),
        Resource::Sql(SqlResource::Table(table)) => match &table.schema {
            Some(schema) => format!("{action} {schema}.{}", table.name),
            None => format!("{action} {}", table.name),
        },
    }
}

/// Checks a text's accesses: `expect` is a comma-separated list, in any order.
#[track_caller]
pub fn check(sql: &str, expect: &str) -> Analysis {
    let analysis = analyze(sql.as_bytes());
    let mut expected: Vec<_> = expect.split(", ").map(str::to_owned).collect();
    expected.sort();
    assert_eq!(spelled(&analysis.facts), expected, "{sql}: {:?}", analysis.unparsed);
    analysis
}
