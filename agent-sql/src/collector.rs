//! Gathers the facts of a text while its tree is walked, and sorts them into their canonical form.

use agent_core::facts::{Access, Action, Detail, Facts, ITEMS_MAX, Relation, SqlFacts, SqlResource};
use pg_raw_parse::{list::NodeList, nodes::RangeVar};

use crate::{
    analysis::{Analysis, DEALLOCATES_MAX},
    bounds::{PREPARED_FACTS_MAX, too_many_facts, too_many_prepared},
    parameters::{ByParameters, SetConfig},
    settings::{Settings, Value},
};

/// The length at which the server cuts names, in bytes (`NAMEDATALEN`).
const NAME_BYTES: usize = 64;

/// `RELPERSISTENCE_TEMP`: how the tree marks what `TEMP` and `TEMPORARY` make.
const TEMPORARY: u8 = b't';
/// The alias of the session's schema for temporary objects. Only what a statement makes there, or names by
/// it, is certainly temporary.
pub(crate) const TEMPORARY_SCHEMA: &str = "pg_temp";

/// The facts gathered so far.
#[derive(Clone, Default)]
pub(crate) struct Collector {
    pub(crate) accesses: Vec<Access>,
    pub(crate) functions: Vec<Box<str>>,
    pub(crate) settings: Settings,
    /// Calls of `set_config` that parameters decide.
    pub(crate) calls: Vec<SetConfig>,
    /// The number of each parameter, as often as it is referred to.
    pub(crate) parameters: Vec<i32>,
    pub(crate) statements: u32,
    /// How many of the statements begin, end or divide a transaction.
    pub(crate) transaction_statements: u32,
    /// An `UPDATE` or `DELETE` changes every row: it has no condition that can tell rows apart.
    pub(crate) reaches_every_row: bool,
    /// A write is nested in another statement.
    pub(crate) nested_write: bool,
    /// A table is locked, and not only rows of it.
    pub(crate) table_lock: bool,
    /// The statement is planned and not run. Whatever it would do to a relation, it only reads it.
    pub(crate) planned_only: bool,
    pub(crate) prepares: Vec<(Box<str>, Facts)>,
    pub(crate) executes: Vec<Box<str>>,
    pub(crate) fetches: Vec<Box<str>>,
    /// In the text's order: an answer of the server's tells that the next of them is gone.
    pub(crate) deallocates: Vec<Box<str>>,
}

impl Collector {
    /// `action` on a relation, as the tree names it.
    pub(crate) fn table(&mut self, action: Action, table: &RangeVar) {
        self.relation(action, relation(table));
    }

    /// `action` on `relation`.
    pub(crate) fn relation(&mut self, action: Action, relation: Relation) {
        let action = if self.planned_only { Action::SqlSelect } else { action };
        self.accesses.push(Access { action, resource: relation.into() });
    }

    /// `action` on the database as a whole.
    pub(crate) fn database(&mut self, action: Action) {
        if self.planned_only && matches!(action.group(), "sql:read" | "sql:write") {
            return;
        }
        self.accesses.push(Access { action, resource: SqlResource::Database.into() });
    }

    /// `action` on `table`, or on the database if there is none.
    pub(crate) fn table_or_database(&mut self, action: Action, table: Option<&RangeVar>) {
        match table {
            Some(table) => self.table(action, table),
            None => self.database(action),
        }
    }

    /// `sql:create` on the relation that a statement makes, or on the database if the tree names none.
    pub(crate) fn creates(&mut self, table: Option<&RangeVar>) {
        match table {
            Some(table) => self.relation(Action::SqlCreate, made_relation(table)),
            None => self.database(Action::SqlCreate),
        }
    }

    /// A change of a setting.
    pub(crate) fn setting(&mut self, name: &str, value: &Value<'_>) {
        self.database(Action::SqlSet);
        self.settings.change(name, value);
    }

    /// The parameters that decide calls of `set_config` are not known here, nor ever.
    pub(crate) fn settle_calls(&mut self) {
        for call in std::mem::take(&mut self.calls) {
            call.change(&mut self.settings, |_| None);
        }
    }

    /// A call of a function or operator, by the parts of its name, with `prefix` before them.
    pub(crate) fn function(&mut self, prefix: &str, name: &NodeList) {
        // Before the schema, a name can only have that of the session's own database.
        let database = name.len().saturating_sub(2);
        let mut joined = prefix.to_owned();
        for (at, part) in name.iter().skip(database).enumerate() {
            if at > 0 {
                joined.push('.');
            }
            joined.push_str(part.as_str().unwrap_or("?"));
        }
        self.functions.push(joined.into());
    }

    /// `x.name` or `(x).name`: a column, or a call of the function `name` if there is no such column.
    pub(crate) fn field(&mut self, name: &str) {
        self.functions.push(format!(".{name}").into());
    }

    /// Whether `action` is among the accesses after the first `mark`.
    pub(crate) fn has_since(&self, mark: usize, action: Action) -> bool {
        self.accesses.iter().skip(mark).any(|access| access.action == action)
    }

    /// Adds what a statement in this one does.
    pub(crate) fn absorb(&mut self, inner: Self) {
        self.accesses.extend(inner.accesses);
        self.functions.extend(inner.functions);
        self.settings.absorb(inner.settings);
        self.reaches_every_row |= inner.reaches_every_row;
        self.nested_write |= inner.nested_write;
        self.table_lock |= inner.table_lock;
        self.prepares.extend(inner.prepares);
        self.executes.extend(inner.executes);
        self.fetches.extend(inner.fetches);
    }

    /// Takes the facts gathered, in their canonical form, but for calls that parameters decide.
    pub(crate) fn take_facts(&mut self, statements: u32) -> Facts {
        let mut sql = SqlFacts {
            statements,
            non_transaction_statements: statements.saturating_sub(self.transaction_statements),
            has_where: !self.reaches_every_row,
            functions: canonical(&mut self.functions),
            writes_in_cte: self.nested_write,
            locks_tables: self.table_lock,
            ..SqlFacts::default()
        };
        let barred = std::mem::take(&mut self.settings).put(&mut sql);
        Facts { accesses: canonical(&mut self.accesses), detail: Some(Detail::Sql(sql)), barred }
    }

    /// The analysis of a text that the grammar understands.
    pub(crate) fn into_analysis(mut self) -> Analysis {
        if self.statements == 0 {
            self.database(Action::SqlEmpty);
        }
        let mut facts = self.take_facts(self.statements);
        let mut parameters = None;
        if !self.calls.is_empty() {
            let calls = std::mem::take(&mut self.calls);
            let by_parameters = ByParameters::new(facts, calls, &self.parameters);
            facts = by_parameters.bound(|_| None);
            parameters = Some(Box::new(by_parameters));
        }
        let items = facts.weight().items();
        if items > ITEMS_MAX {
            return Analysis::beyond(&too_many_facts(items));
        }
        let prepared = self.prepares.iter().map(|(_, facts)| facts.weight().items()).max().unwrap_or(0);
        if prepared > PREPARED_FACTS_MAX {
            return Analysis::beyond(&too_many_prepared(prepared));
        }
        let is_plain = |name: &str| name.is_ascii() && name.len() < NAME_BYTES;
        let certain = self.executes.is_empty()
            && self.deallocates.len() <= DEALLOCATES_MAX
            && self.deallocates.iter().all(|name| is_plain(name));
        Analysis {
            facts,
            parameters,
            prepares: self.prepares,
            executes: canonical(&mut self.executes),
            fetches: canonical(&mut self.fetches),
            deallocates: if certain { self.deallocates } else { Vec::new() },
            unparsed: None,
            exceeds: None,
        }
    }
}

/// Takes `items`, sorted and without duplicates.
fn canonical<T: Ord>(items: &mut Vec<T>) -> Vec<T> {
    let mut items = std::mem::take(items);
    items.sort_unstable();
    items.dedup();
    items
}

/// The relation that a statement makes. Without a schema a temporary one is in `pg_temp`, whatever the search
/// path is.
pub(crate) fn made_relation(table: &RangeVar) -> Relation {
    let mut made = relation(table);
    if u8::try_from(table.relpersistence) == Ok(TEMPORARY) && made.schema.is_none() {
        made.schema = Some(TEMPORARY_SCHEMA.into());
    }
    made
}

/// A relation, as the tree names it. A database's name before it can only be that of the session's own
/// database.
pub(crate) fn relation(table: &RangeVar) -> Relation {
    Relation {
        schema: table.schemaname().map(Into::into),
        // The grammar has no relation without a name. If there were one, no policy must take it for another.
        name: table.relname().unwrap_or("?").into(),
    }
}

/// The relation that a list of name parts spells, without the last `drop` of them.
pub(crate) fn named(parts: &NodeList, drop: usize) -> Option<Relation> {
    let mut names = parts.iter().take(parts.len().checked_sub(drop)?).rev().map(|part| part.as_str());
    let name = names.next()??.into();
    Some(Relation { name, schema: names.next().flatten().map(Into::into) })
}
