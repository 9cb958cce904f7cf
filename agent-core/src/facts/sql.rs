//! What SQL adds to facts: databases and tables as resources, and what policies read as `context.sql`.
//!
//! These types only carry what was read. The `agent-sql` crate reads it.

use super::list::join;

/// A relation as a statement spells it, after PostgreSQL's own folding and unquoting.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Relation {
    /// The schema, if the statement gives one. [`Facts::in_schemas`](super::Facts::in_schemas) adds those
    /// that a name without one can stand in.
    pub schema: Option<Box<str>>,
    /// The relation's own name.
    pub name: Box<str>,
}

/// What an SQL action is done to.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum SqlResource {
    /// The session's database, for everything that names no relation.
    Database,
    /// A relation.
    Table(Relation),
}

impl SqlResource {
    pub(super) fn name_bytes(&self) -> Option<usize> {
        match self {
            Self::Database => None,
            Self::Table(Relation { schema, name }) => {
                Some(name.len() + schema.as_deref().map_or(0, str::len))
            }
        }
    }
}

/// What policies can read of an SQL command as `context.sql`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct SqlFacts {
    /// How many statements the text holds.
    pub statements: u32,
    /// How many of them are no transaction control, such as `BEGIN`, `COMMIT` and `SAVEPOINT`.
    pub non_transaction_statements: u32,
    /// False if any `UPDATE` or `DELETE` in the text, at any depth, has no `WHERE`, or one that cannot tell
    /// rows apart (`WHERE true`); likewise for what a `MERGE` updates or deletes.
    pub has_where: bool,
    /// Functions called, at any depth: as spelled, folded, qualified if the text qualifies them; sorted,
    /// unique. In addition `.name` for each `x.name` and `(x).name`: if `x` has no such column, PostgreSQL
    /// calls the function (manual, "Function Calls").
    pub functions: Vec<Box<str>>,
    /// Settings changed by `SET`, `RESET` or `set_config`; `?` for a name that can't be told from the text or
    /// its parameters; sorted, unique.
    pub settings: Vec<Box<str>>,
    /// Schemas that a change of `search_path` names, `$user` among them as it is written; `None` for a value
    /// that can't be told; sorted, unique.
    pub search_path: Vec<Option<Box<str>>>,
    /// Only the server can tell what became of the settings: nothing may follow the command before the
    /// server has answered, and so reported them.
    pub awaits_settings: bool,
    /// True if an `INSERT`, `UPDATE`, `DELETE` or `MERGE` stands inside a `WITH` or in any other nested
    /// place, rather than being the statement itself.
    pub writes_in_cte: bool,
    /// True if the text holds a `LOCK TABLE` in a mode above `ACCESS SHARE`, which is a read. `SELECT … FOR
    /// UPDATE` and its like lock rows.
    pub locks_tables: bool,
}

impl SqlFacts {
    /// The detail of one statement that calls no function, changes no setting and writes nothing without
    /// `WHERE`.
    pub fn one_statement() -> Self {
        Self { statements: 1, non_transaction_statements: 1, has_where: true, ..Self::default() }
    }

    /// The schemas that a change of `search_path` adds to those where a relation without a schema may be, in
    /// a session of this role. Two are not among them: the server searches them even if the path does not
    /// name them.
    pub fn schemas<'a>(&'a self, role: &'a str) -> impl Iterator<Item = &'a str> {
        let named = self.search_path.iter().flatten().map(|name| &**name);
        let named = named.map(move |name| if name == "$user" { role } else { name });
        named.filter(|name| !["pg_catalog", "pg_temp"].contains(name))
    }

    /// Adds what `more` does. The numbers of statements stay those of `self`.
    pub(super) fn join(&mut self, more: &Self) {
        self.has_where &= more.has_where;
        self.writes_in_cte |= more.writes_in_cte;
        self.locks_tables |= more.locks_tables;
        join(&mut self.functions, &more.functions);
        join(&mut self.settings, &more.settings);
        join(&mut self.search_path, &more.search_path);
        self.awaits_settings |= more.awaits_settings;
    }

    /// The functions, settings and schemas.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        let schemas = self.search_path.iter().map(|schema| schema.as_deref().unwrap_or_default());
        self.functions.iter().chain(&self.settings).map(|name| &**name).chain(schemas)
    }
}
