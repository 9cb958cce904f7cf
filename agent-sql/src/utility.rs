//! Sends each statement that is not a query to the file that handles it, and handles those that move data,
//! maintain tables, or hold another statement: `COPY`, `EXPLAIN`, `PREPARE`, `EXECUTE`, `DECLARE`, `CALL`,
//! `TRUNCATE`, `LOCK`, `VACUUM` and their like.

use agent_core::facts::{Action, SqlResource};
use pg_raw_parse::{
    Node,
    nodes::{CopyStmt, DefElem, ExplainStmt, PrepareStmt, RangeVar},
    raw::DropBehavior,
};

use crate::{
    collector::{Collector, relation},
    walk::{Position, Walk, collect},
};

/// The weakest mode of `LOCK TABLE` (`lockdefs.h`).
const ACCESS_SHARE_LOCK: i32 = 1;

impl<'a> Walk<'a, '_> {
    /// Adds the facts of any node that is not part of a query. A node that no file handles is `sql:other`.
    pub(crate) fn utility(&mut self, node: Node<'a>, position: Position) {
        match node {
            Node::CopyStmt(copy) => self.copy(copy),
            Node::ExplainStmt(explain) => self.explain(explain),
            Node::PrepareStmt(prepare) => self.prepare(prepare),
            Node::ExecuteStmt(execute) => {
                self.facts.database(Action::SqlExecute);
                self.facts.executes.push(execute.name().unwrap_or_default().into());
                self.push_all(execute.params(), Position::NESTED);
            }
            Node::DeclareCursorStmt(cursor) => {
                let mark = self.facts.accesses.len();
                Walk::run(self.facts, cursor.query(), Position::NESTED);
                if !self.facts.has_since(mark, Action::SqlSelect) {
                    self.facts.database(Action::SqlSelect);
                }
            }
            Node::CallStmt(call) => {
                self.facts.database(Action::SqlCall);
                self.push(call.funccall().map_or(Node::None, Node::FuncCall), Position::NESTED);
            }
            Node::DoStmt(_) => self.facts.database(Action::SqlCall),
            Node::TruncateStmt(truncate) => {
                for table in truncate.relations() {
                    self.target(Action::SqlTruncate, table);
                }
                // CASCADE empties tables that the text does not name.
                if truncate.behavior == DropBehavior::DROP_CASCADE {
                    self.facts.database(Action::SqlTruncate);
                }
            }
            Node::LockStmt(lock) => {
                // A query takes the same lock on what it reads.
                let reads = lock.mode == ACCESS_SHARE_LOCK;
                let action = if reads { Action::SqlSelect } else { Action::SqlLock };
                self.facts.table_lock |= !reads;
                for table in lock.relations() {
                    self.target(action, table);
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
                if !self.session(node) && !self.definition(node, position) {
                    self.facts.database(Action::SqlOther);
                }
            }
        }
    }

    /// `action` on a node that should be a relation's name.
    pub(crate) fn target(&mut self, action: Action, table: Node<'a>) {
        match table {
            Node::RangeVar(table) => self.facts.table(action, table),
            _ => self.facts.database(Action::SqlOther),
        }
    }

    /// `COPY`. To or from a file or program of the server it is `sql:server` as well.
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
        self.push(copy.where_clause(), Position::NESTED);
    }

    /// `COPY` of a query: every table that it reads is copied out. Otherwise `COPY (TABLE t)` would be
    /// allowed where `COPY t` is not.
    fn copied_query(&mut self, query: Node<'a>, action: Action) {
        let mark = self.facts.accesses.len();
        Walk::run(self.facts, query, Position::NESTED);
        let read = self.facts.accesses.iter().skip(mark).filter(|access| access.action == Action::SqlSelect);
        let tables: Vec<_> = read
            .filter_map(|access| match access.resource.sql()? {
                SqlResource::Table(table) => Some(table.clone()),
                SqlResource::Database => None,
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

    /// `EXPLAIN`. Without ANALYZE the statement is planned and not run: it only reads the relations that it
    /// names.
    fn explain(&mut self, explain: &'a ExplainStmt) {
        self.facts.database(Action::SqlExplain);
        let runs = explain.options().iter().any(|option| is_analyze(option) && !is_off(option));
        let mut inner = Collector { planned_only: !runs, ..Collector::default() };
        collect(&mut inner, explain.query());
        inner.settle_calls();
        self.facts.absorb(inner);
    }

    /// `PREPARE`. The facts of the prepared statement are also kept apart, for when it is executed.
    fn prepare(&mut self, prepare: &'a PrepareStmt) {
        self.facts.database(Action::SqlPrepare);
        let mut inner = Collector::default();
        collect(&mut inner, prepare.query());
        // Its parameters are not those of a Bind message.
        inner.settle_calls();
        self.facts.absorb(inner.clone());
        let facts = inner.take_facts(1);
        self.facts.prepares.push((prepare.name().unwrap_or_default().into(), facts));
    }

    /// `action` on a relation that a definition names beside its subject, if it names one.
    pub(crate) fn mention(&mut self, action: Action, table: Option<&'a RangeVar>) {
        if let Some(table) = table {
            self.facts.relation(action, relation(table));
        }
    }
}

fn is_analyze(option: &DefElem) -> bool {
    option.defname().is_some_and(|name| name.eq_ignore_ascii_case("analyze"))
}

/// Whether an option is certainly off. Of several, the server takes the last; here one that is on is enough.
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
