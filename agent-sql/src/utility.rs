//! Statements that aren't queries: which file reads which, and those that move data or wrap another statement.

use agent_core::facts::{Action, Resource, SqlResource};
use pg_raw_parse::Node;
use pg_raw_parse::nodes::{CopyStmt, DefElem, ExplainStmt, PrepareStmt};

use crate::collector::{Collector, relation};
use crate::query::{Place, Walk, collect};

impl<'a> Walk<'a, '_> {
    /// Any node that isn't part of a query. What nobody knows is `sql:other`.
    pub(crate) fn utility(&mut self, node: Node<'a>, place: Place) {
        match node {
            Node::CopyStmt(copy) => self.copy(copy),
            Node::ExplainStmt(explain) => self.explain(explain),
            Node::PrepareStmt(prepare) => self.prepare(prepare),
            Node::ExecuteStmt(execute) => {
                self.facts.database(Action::SqlExecute);
                self.facts.executes.push(execute.name().unwrap_or_default().into());
                self.push_all(execute.params(), Place::NESTED);
            }
            Node::DeclareCursorStmt(cursor) => {
                let mark = self.facts.accesses.len();
                Walk::run(self.facts, cursor.query(), Place::NESTED);
                if !self.facts.has_since(mark, Action::SqlSelect) {
                    self.facts.database(Action::SqlSelect);
                }
            }
            Node::CallStmt(call) => {
                self.facts.database(Action::SqlCall);
                self.push(call.funccall().map_or(Node::None, Node::FuncCall), Place::NESTED);
            }
            Node::DoStmt(_) => self.facts.database(Action::SqlCall),
            Node::TruncateStmt(truncate) => {
                for table in truncate.relations() {
                    self.target(Action::SqlTruncate, table);
                }
            }
            Node::LockStmt(lock) => {
                for table in lock.relations() {
                    self.target(Action::SqlLock, table);
                }
            }
            Node::VacuumStmt(vacuum) => {
                if vacuum.rels().is_empty() {
                    self.facts.database(Action::SqlMaintenance);
                }
                for table in vacuum.rels() {
                    self.facts.table_or_database(Action::SqlMaintenance, table.relation());
                }
            }
            Node::ClusterStmt(cluster) => {
                self.facts.table_or_database(Action::SqlMaintenance, cluster.relation());
            }
            Node::ReindexStmt(reindex) => {
                self.facts.table_or_database(Action::SqlMaintenance, reindex.relation());
            }
            Node::CheckPointStmt(_) => self.facts.database(Action::SqlMaintenance),
            Node::LoadStmt(_) | Node::AlterSystemStmt(_) => self.facts.database(Action::SqlServer),
            _ => {
                if !self.session(node) && !self.definition(node, place) {
                    self.facts.database(Action::SqlOther);
                }
            }
        }
    }

    /// `action` on what should be a relation.
    pub(crate) fn target(&mut self, action: Action, table: Node<'a>) {
        match table {
            Node::RangeVar(table) => self.facts.table(action, table),
            _ => self.facts.database(Action::SqlOther),
        }
    }

    fn copy(&mut self, copy: &'a CopyStmt) {
        if copy.is_program || copy.filename().is_some() {
            self.facts.database(Action::SqlServer);
        }
        let action = if copy.is_from { Action::SqlCopyIn } else { Action::SqlCopyOut };
        if let Some(table) = copy.relation() {
            self.facts.table(action, table);
            if !copy.is_from {
                self.facts.table(Action::SqlSelect, table);
            }
        } else {
            self.copied_query(copy.query(), action);
        }
        self.push(copy.where_clause(), Place::NESTED);
    }

    /// What a copied query reads is copied out: `COPY (TABLE t)` must not do what `COPY t` may not.
    fn copied_query(&mut self, query: Node<'a>, action: Action) {
        let mark = self.facts.accesses.len();
        Walk::run(self.facts, query, Place::NESTED);
        let read = self.facts.accesses.iter().skip(mark).filter(|access| access.action == Action::SqlSelect);
        let tables: Vec<_> = read
            .filter_map(|access| match &access.resource {
                Resource::Sql(SqlResource::Table(table)) => Some(table.clone()),
                Resource::Upstream | Resource::Sql(SqlResource::Database) => None,
            })
            .collect();
        if tables.is_empty() {
            self.facts.database(action);
            self.facts.database(Action::SqlSelect);
        }
        for table in tables {
            self.facts.relation(action, table);
        }
    }

    fn explain(&mut self, explain: &'a ExplainStmt) {
        self.facts.database(Action::SqlExplain);
        let runs = explain.options().iter().any(|option| is_analyze(option) && !is_off(option));
        let mut inner = Collector { planned_only: !runs, ..Collector::default() };
        collect(&mut inner, explain.query());
        self.facts.absorb(inner);
    }

    fn prepare(&mut self, prepare: &'a PrepareStmt) {
        self.facts.database(Action::SqlPrepare);
        let mut inner = Collector::default();
        collect(&mut inner, prepare.query());
        self.facts.absorb(inner.clone());
        let facts = inner.take_facts(1);
        self.facts.prepares.push((prepare.name().unwrap_or_default().into(), facts));
    }

    /// `action` on a relation, if one is named: part of a definition that isn't its subject.
    pub(crate) fn mention(&mut self, action: Action, table: Option<&'a pg_raw_parse::nodes::RangeVar>) {
        if let Some(table) = table {
            self.facts.relation(action, relation(table));
        }
    }
}

fn is_analyze(option: &DefElem) -> bool {
    option.defname().is_some_and(|name| name.eq_ignore_ascii_case("analyze"))
}

/// Whether an option is certainly off. The server takes the last of several; here any one that is on counts.
fn is_off(option: &DefElem) -> bool {
    match option.arg() {
        Node::String(value) => value
            .sval()
            .is_some_and(|value| ["false", "off"].iter().any(|off| value.eq_ignore_ascii_case(off))),
        Node::Integer(value) => value.ival == 0,
        Node::Boolean(value) => !value.boolval,
        _ => false,
    }
}
