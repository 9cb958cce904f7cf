//! What has been found so far, while a statement is walked.

use std::collections::BTreeSet;

use agent_core::facts::{Access, Action, Facts, Relation, Resource, SqlFacts};
use pg_raw_parse::{Node, nodes::RangeVar};

use crate::Analysis;

/// Nested deeper than this, an expression is not followed: it counts as not understood.
pub const DEPTH_MAX: usize = 4_000;

/// Facts under construction.
#[derive(Default)]
pub struct Gathered {
    accesses: BTreeSet<Access>,
    functions: BTreeSet<Box<str>>,
    settings: BTreeSet<Box<str>>,
    statements: u32,
    unconditional_write: bool,
    nested_write: bool,
    /// Names of the `WITH` clauses around the present place, innermost last.
    pub ctes: Vec<Vec<Box<str>>>,
    /// How deep the present place is.
    pub depth: usize,
    /// How many statements stand around the present place: 0 for the statement itself.
    pub nesting: usize,
    prepares: Vec<(Box<str>, Facts)>,
    executes: Vec<Box<str>>,
    deallocates: Vec<Option<Box<str>>>,
}

impl Gathered {
    /// A statement begins.
    pub fn statement(&mut self) {
        self.statements += 1;
    }

    /// Something is done to a relation.
    pub fn table(&mut self, action: Action, relation: &RangeVar) {
        let owned = |name: Option<&str>| name.unwrap_or_default().into();
        // A database in front of the schema can only be the session's own: PostgreSQL refuses another.
        let schema = relation.schemaname().map(Into::into);
        let resource = Resource::Table(Relation { schema, name: owned(relation.relname()) });
        self.accesses.insert(Access { action, resource });
    }

    /// Something is done to a relation that is named by a list of strings.
    pub fn table_named(&mut self, action: Action, names: Node<'_>) {
        let parts: Vec<&str> =
            names.as_node_list().into_iter().flat_map(|list| list.iter()).filter_map(Node::as_str).collect();
        match parts.as_slice() {
            [.., schema, name] => {
                let relation = Relation { schema: Some((*schema).into()), name: (*name).into() };
                self.accesses.insert(Access { action, resource: Resource::Table(relation) });
            }
            [name] => {
                let relation = Relation { schema: None, name: (*name).into() };
                self.accesses.insert(Access { action, resource: Resource::Table(relation) });
            }
            [] => self.database(Action::SqlOther),
        }
    }

    /// Something is done that names no relation.
    pub fn database(&mut self, action: Action) {
        self.accesses.insert(Access { action, resource: Resource::Database });
    }

    /// A function is called.
    pub fn function(&mut self, name: impl Into<Box<str>>) {
        self.functions.insert(name.into());
    }

    /// A setting is changed.
    pub fn setting(&mut self, name: &str) {
        self.database(Action::SqlSet);
        self.settings.insert(name.to_ascii_lowercase().into());
    }

    /// An `INSERT`, `UPDATE`, `DELETE` or `MERGE` stands here.
    pub fn write(&mut self) {
        self.nested_write |= self.nesting > 0;
    }

    /// An `UPDATE` or `DELETE` without a condition stands here.
    pub fn unconditional(&mut self) {
        self.unconditional_write = true;
    }

    /// `PREPARE` names a statement.
    pub fn prepare(&mut self, name: &str, facts: Facts) {
        self.prepares.push((name.into(), facts));
    }

    /// `EXECUTE` runs one.
    pub fn execute(&mut self, name: &str) {
        self.executes.push(name.into());
    }

    /// One is forgotten, or all.
    pub fn deallocate(&mut self, name: Option<&str>) {
        self.deallocates.push(name.map(Into::into));
    }

    /// Whether a name without a schema is one of a `WITH` clause around here.
    pub fn is_cte(&self, name: &str) -> bool {
        self.ctes.iter().flatten().any(|cte| &**cte == name)
    }

    /// Takes in what another walk found.
    pub fn absorb(&mut self, other: &Self) {
        self.accesses.extend(other.accesses.iter().cloned());
        self.functions.extend(other.functions.iter().cloned());
        self.settings.extend(other.settings.iter().cloned());
        self.unconditional_write |= other.unconditional_write;
        self.nested_write |= other.nested_write;
    }

    /// A relation stands in a plan that is only shown; what is no relation counts as it is.
    pub fn planned(&mut self, access: &Access) {
        let action = match (&access.resource, access.action) {
            (Resource::Table(_), _) => Action::SqlSelect,
            (_, action @ (Action::SqlOther | Action::SqlSet)) => action,
            _ => Action::SqlExplain,
        };
        self.accesses.insert(Access { action, resource: access.resource.clone() });
    }

    /// Takes in the functions that another walk found: planning may call them.
    pub fn functions_of(&mut self, other: &Self) {
        self.functions.extend(other.functions.iter().cloned());
        self.settings.extend(other.settings.iter().cloned());
    }

    /// The facts.
    pub fn facts(&self) -> Facts {
        let mut accesses: Vec<Access> = self.accesses.iter().cloned().collect();
        if accesses.is_empty() {
            accesses.push(Access { action: Action::SqlEmpty, resource: Resource::Database });
        }
        Facts {
            accesses,
            sql: Some(SqlFacts {
                statements: self.statements,
                has_where: !self.unconditional_write,
                functions: self.functions.iter().cloned().collect(),
                settings: self.settings.iter().cloned().collect(),
                writes_in_cte: self.nested_write,
            }),
        }
    }

    /// Everything.
    pub fn into_analysis(self) -> Analysis {
        Analysis {
            facts: self.facts(),
            prepares: self.prepares,
            executes: self.executes,
            deallocates: self.deallocates,
            unparsed: None,
        }
    }
}
