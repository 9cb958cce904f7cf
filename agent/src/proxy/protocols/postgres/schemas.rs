//! The schemas that a session has put on its `search_path`: where a relation may be that a statement names
//! without a schema.
//!
//! A schema that is on the list stays there. The path may have gone back since, by a rollback or a `RESET`,
//! but then a name counts as one more relation than it can be, which never allows anything. The path that a
//! session begins with, by the server's settings, is not known: such a name always counts as one of an
//! unknown schema, too.

use std::{borrow::Cow, collections::BTreeSet};

use agent_core::facts::Facts;

/// How many schemas a session puts on its path at most: a statement has an access for each.
const SCHEMAS_MAX: usize = 16;
/// Why a statement is denied that goes beyond that.
const TOO_MANY: &str =
    "the session has set search_path to too many schemas, more than 16: use another session for others";

/// The schemas of one session.
pub struct Schemas {
    names: BTreeSet<Box<str>>,
    role: Box<str>,
}

impl Schemas {
    /// No schemas yet, of a session of this role.
    pub fn new(role: &str) -> Self {
        Self { names: BTreeSet::new(), role: role.into() }
    }

    /// The facts with each relation in each schema that it may be in. The schemas that the facts themselves
    /// put on the path count: the next statement of the same text is resolved by them.
    pub fn locate<'a>(&self, facts: Cow<'a, Facts>) -> Cow<'a, Facts> {
        let own = facts.sql().into_iter().flat_map(|sql| sql.schemas(&self.role)).map(Box::from);
        let all: BTreeSet<Box<str>> = own.chain(self.names.iter().cloned()).collect();
        if all.is_empty() {
            return facts;
        }
        let mut facts = facts.into_owned();
        if all.len() > SCHEMAS_MAX {
            facts.barred.get_or_insert_with(|| TOO_MANY.into());
        } else {
            facts.in_schemas(all.iter().map(|name| &**name));
        }
        Cow::Owned(facts)
    }

    /// Adds the schemas that a command puts on the path; it is about to run.
    pub fn add(&mut self, facts: &Facts) {
        let Self { names, role } = self;
        names.extend(facts.sql().into_iter().flat_map(|sql| sql.schemas(role)).map(Box::from));
    }
}

#[cfg(test)]
mod tests {
    use agent_core::facts::SqlResource;

    use super::*;

    fn read(sql: &str) -> Facts {
        agent_sql::analyze(sql.as_bytes()).facts
    }

    fn schemas_of(facts: &Facts) -> Vec<&str> {
        let relations = facts.accesses.iter().filter_map(|access| match access.resource.sql()? {
            SqlResource::Table(relation) => Some(relation.schema.as_deref().unwrap_or("?")),
            SqlResource::Database => None,
        });
        relations.collect()
    }

    #[test]
    fn a_relation_without_a_schema_may_be_in_every_schema_that_was_ever_on_the_path() {
        let mut schemas = Schemas::new("app");
        let of = |schemas: &Schemas, sql| schemas_of(&schemas.locate(Cow::Owned(read(sql)))).join(" ");
        assert_eq!(of(&schemas, "SELECT FROM t"), "?");
        assert_eq!(of(&schemas, "SET search_path = hr; SELECT FROM t"), "? hr");
        schemas.add(&read("SET search_path = \"$user\", pg_catalog, public"));
        schemas.add(&read("SET LOCAL search_path = hr"));
        assert_eq!(of(&schemas, "SELECT FROM t, s.t"), "? app hr public s");
    }

    #[test]
    fn more_schemas_than_the_bound_bar_every_statement() {
        let mut schemas = Schemas::new("app");
        for i in 0..SCHEMAS_MAX {
            schemas.add(&read(&format!("SET search_path = s{i}")));
        }
        assert_eq!(schemas.locate(Cow::Owned(read("SELECT FROM t"))).barred, None);
        let one_more = schemas.locate(Cow::Owned(read("SET search_path = s99"))).into_owned();
        assert_eq!(one_more.barred.as_deref(), Some(TOO_MANY));
    }
}
