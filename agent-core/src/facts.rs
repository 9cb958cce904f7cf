//! What policy sees of one command: actions on resources, and the protocol's own context.
//!
//! Facts are complete: whatever a command does that the analysis does not understand appears as
//! [`Action::SqlOther`] or [`Action::SqlUnparsed`], never as an absence.

use serde::Serialize;

/// Declares [`Action`] with its spelling in policies and in the audit trail, and its group.
macro_rules! actions {
    ($($(#[$doc:meta])* $variant:ident = $name:literal in $group:literal;)*) => {
        /// One thing a command does. Policies name it `Action::"<name>"`, or by one of its groups.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Action { $($(#[$doc])* $variant,)* }

        impl Action {
            /// Every action.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// The action's name in policies and in the audit trail.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }

            /// The action group it belongs to, or the empty string.
            pub const fn group(self) -> &'static str {
                match self { $(Self::$variant => $group,)* }
            }
        }
    };
}

actions! {
    /// Opening a connection to an upstream.
    Connect = "connect" in "";
    /// Reading rows: `SELECT`, `TABLE`, `VALUES`, the query of `INSERT … SELECT`, `DECLARE CURSOR`, a `RETURNING`'s other tables.
    SqlSelect = "sql:select" in "sql:read";
    /// `EXPLAIN`; with `ANALYZE` the explained statement's own actions stand beside it.
    SqlExplain = "sql:explain" in "sql:read";
    /// `SHOW`.
    SqlShow = "sql:show" in "sql:read";
    /// `COPY … TO STDOUT`.
    SqlCopyOut = "sql:copy-out" in "sql:read";
    /// `FETCH` and `MOVE`.
    SqlFetch = "sql:fetch" in "sql:read";
    /// `INSERT`.
    SqlInsert = "sql:insert" in "sql:write";
    /// `UPDATE`, `SELECT … FOR UPDATE` excepted.
    SqlUpdate = "sql:update" in "sql:write";
    /// `DELETE`.
    SqlDelete = "sql:delete" in "sql:write";
    /// `MERGE`; the actions of its arms stand beside it.
    SqlMerge = "sql:merge" in "sql:write";
    /// `COPY … FROM STDIN`.
    SqlCopyIn = "sql:copy-in" in "sql:write";
    /// `TRUNCATE`.
    SqlTruncate = "sql:truncate" in "sql:write";
    /// `LOCK TABLE` and `SELECT … FOR UPDATE/SHARE`.
    SqlLock = "sql:lock" in "sql:write";
    /// `BEGIN`, `COMMIT`, `ROLLBACK`, `SAVEPOINT`…, two-phase commit excepted.
    SqlTransaction = "sql:transaction" in "sql:session";
    /// `PREPARE`; the prepared statement's own actions stand beside it.
    SqlPrepare = "sql:prepare" in "sql:session";
    /// `EXECUTE`; the prepared statement's own actions stand beside it.
    SqlExecute = "sql:execute" in "sql:session";
    /// `DEALLOCATE`, `CLOSE`, `DISCARD`, `UNLISTEN`.
    SqlDiscard = "sql:discard" in "sql:session";
    /// `LISTEN` and `NOTIFY`.
    SqlNotify = "sql:notify" in "sql:session";
    /// An empty statement.
    SqlEmpty = "sql:empty" in "sql:session";
    /// `CREATE …`, `SELECT … INTO`, `CREATE TABLE AS`.
    SqlCreate = "sql:create" in "sql:ddl";
    /// `ALTER …`, `COMMENT`, `RENAME`, `REFRESH MATERIALIZED VIEW`, `SECURITY LABEL`.
    SqlAlter = "sql:alter" in "sql:ddl";
    /// `DROP …`.
    SqlDrop = "sql:drop" in "sql:ddl";
    /// `GRANT`, `REVOKE`, `REASSIGN OWNED`, roles and default privileges.
    SqlGrant = "sql:grant" in "sql:ddl";
    /// `SET`, `RESET`, a call of `set_config`. The settings' names are in [`SqlFacts::settings`].
    SqlSet = "sql:set" in "sql:admin";
    /// `DO`, `CALL`, the FunctionCall protocol message: code whose effects no text shows.
    SqlCall = "sql:call" in "sql:admin";
    /// `VACUUM`, `ANALYZE`, `CLUSTER`, `REINDEX`, `CHECKPOINT`.
    SqlMaintenance = "sql:maintenance" in "sql:admin";
    /// `COPY` from or to a file or program on the server, `LOAD`, `ALTER SYSTEM`: the server's host.
    SqlServer = "sql:server" in "sql:admin";
    /// Understood by the grammar, in none of the classes above.
    SqlOther = "sql:other" in "sql:admin";
    /// Refused by the grammar.
    SqlUnparsed = "sql:unparsed" in "sql:admin";
}

impl Serialize for Action {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

/// A relation as a statement spells it, after PostgreSQL's own folding and unquoting.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Relation {
    /// The schema, when the statement gives one; unqualified names are resolved by nobody yet.
    pub schema: Option<Box<str>>,
    /// The relation's own name.
    pub name: Box<str>,
}

/// What an action is done to, inside the upstream and database of the session.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Resource {
    /// The session's upstream.
    Upstream,
    /// The session's database: for whatever names no relation.
    Database,
    /// A relation.
    Table(Relation),
}

impl Resource {
    /// The resource's spelling in policies and in the audit trail: `upstream/database.schema.table`,
    /// with `?` for a schema that the statement leaves out.
    pub fn spell(&self, upstream: &str, database: &str) -> String {
        match self {
            Self::Upstream => upstream.to_owned(),
            Self::Database => format!("{upstream}/{database}"),
            Self::Table(Relation { schema, name }) => {
                format!("{upstream}/{database}.{}.{name}", schema.as_deref().unwrap_or("?"))
            }
        }
    }
}

/// One action on one resource.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Access {
    /// What is done.
    pub action: Action,
    /// To what.
    pub resource: Resource,
}

/// The facts of one command. Two commands with equal facts, in one session and under one bundle, get
/// equal decisions: that is what makes a decision cacheable by its facts.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Facts {
    /// Every access the command makes; sorted, without duplicates, never empty.
    pub accesses: Vec<Access>,
    /// What SQL adds, for an SQL command.
    pub sql: Option<SqlFacts>,
}

impl Facts {
    /// The facts of opening a connection.
    pub fn connect() -> Self {
        Self { accesses: vec![Access { action: Action::Connect, resource: Resource::Upstream }], sql: None }
    }

    /// The facts of an SQL command that is only known by its action.
    pub fn of(action: Action) -> Self {
        let sql = SqlFacts { statements: 1, has_where: true, ..SqlFacts::default() };
        Self { accesses: vec![Access { action, resource: Resource::Database }], sql: Some(sql) }
    }

    /// How many accesses, functions and settings there are.
    pub fn size(&self) -> usize {
        self.accesses.len() + self.sql.as_ref().map_or(0, |sql| sql.functions.len() + sql.settings.len())
    }

    /// Adds whatever `other` does.
    pub fn join(&mut self, other: &Self) {
        join(&mut self.accesses, &other.accesses);
        match (&mut self.sql, &other.sql) {
            (Some(sql), Some(more)) => {
                sql.has_where &= more.has_where;
                sql.writes_in_cte |= more.writes_in_cte;
                sql.alters_reading = sql.alters_reading.take().or_else(|| more.alters_reading.clone());
                join(&mut sql.functions, &more.functions);
                join(&mut sql.settings, &more.settings);
            }
            (sql @ None, more) => sql.clone_from(more),
            (Some(_), None) => {}
        }
    }
}

/// Makes `list` hold all of `more` too, sorted and once.
fn join<T: Ord + Clone>(list: &mut Vec<T>, more: &[T]) {
    list.extend_from_slice(more);
    list.sort_unstable();
    list.dedup();
}

/// What policies can read of an SQL command as `context.sql`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct SqlFacts {
    /// How many statements the text holds.
    pub statements: u32,
    /// False when any `UPDATE` or `DELETE` in the text, at any depth, has no `WHERE`.
    pub has_where: bool,
    /// Functions called, at any depth: as spelled, folded, qualified when the text qualifies them; sorted, unique.
    /// Beside them `.name` for each `x.name` and `(x).name`: where `x` has no such column, PostgreSQL calls the
    /// function (manual, "Function Calls").
    pub functions: Vec<Box<str>>,
    /// Settings changed by `SET`, `RESET` or `set_config`; `?` for a name that isn't a constant; sorted, unique.
    pub settings: Vec<Box<str>>,
    /// A setting that decides how the server reads text, changed to something else than what it was read by here, or
    /// to what can't be told; `?` where which setting it is can't be told. Whatever follows might be another statement
    /// than it seems: such a command is denied, whatever policies say.
    pub alters_reading: Option<Box<str>>,
    /// True when an `INSERT`, `UPDATE`, `DELETE` or `MERGE` stands inside a `WITH` or in any other nested place,
    /// rather than being the statement itself.
    pub writes_in_cte: bool,
}
