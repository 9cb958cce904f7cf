//! Queries and data-modifying statements: the tables that they read, write and lock.

use agent_core::facts::Action;
use pg_raw_parse::{
    Node,
    nodes::{DeleteStmt, InsertStmt, MergeStmt, RangeVar, SelectStmt, UpdateStmt, WithClause},
    raw::{CmdType, MergeMatchKind, OnConflictAction},
    walk::{Recurse, walk_manual},
};

use crate::{
    scope::Scope,
    settings::{UNTOLD, Value},
    walk::{Position, Walk},
};

/// The view through which `UPDATE` changes settings, as `set_config` does.
const SETTINGS_VIEW: &str = "pg_settings";

impl<'a> Walk<'a, '_> {
    /// `sql:select` on a table in a query, and `sql:lock` if its rows are locked. Nothing if the name is a
    /// common table expression's.
    pub(crate) fn read(&mut self, table: &RangeVar, position: Position) {
        let bare = table.schemaname().is_none() && table.catalogname().is_none();
        if bare && table.relname().is_some_and(|name| self.scopes.sees(position.scope, name)) {
            return;
        }
        self.facts.table(Action::SqlSelect, table);
        if position.locked {
            self.facts.table(Action::SqlLock, table);
        }
    }

    /// Adds the queries of a statement's `WITH` to the nodes still to be visited. Returns the scope for the
    /// rest of the statement.
    pub(crate) fn with(&mut self, with: Option<&'a WithClause>, position: Position) -> Scope {
        let Some(with) = with else { return position.scope };
        let mut scope = position.scope;
        let mut queries = Vec::with_capacity(with.ctes().len());
        for cte in with.ctes() {
            // Without RECURSIVE, a query sees only the expressions before its own.
            queries.push((cte, scope));
            if let Some(name) = cte.ctename() {
                scope = self.scopes.with(scope, name);
            }
        }
        for (cte, before) in queries {
            let seen = if with.recursive { scope } else { before };
            let position = position.below(seen).unlocked();
            self.push(cte.ctequery(), position);
            if let Some(cycle) = cte.cycle_clause() {
                self.push(cycle.cycle_mark_value(), position);
                self.push(cycle.cycle_mark_default(), position);
            }
        }
        scope
    }

    /// `SELECT`, `VALUES`, `TABLE`, and those joined by `UNION` and its like.
    pub(crate) fn select(&mut self, select: &'a SelectStmt, position: Position) {
        let scope = self.with(select.with_clause(), position);
        self.equate(select);
        let locks = !select.locking_clause().is_empty();
        if locks && select.from_clause().is_empty() {
            self.facts.database(Action::SqlLock);
        }
        // The lock is on the tables in FROM alone. Every other table that is read stands in a subquery within
        // an expression, where `visit` ends the lock.
        let below = Position { locked: position.locked || locks, ..position.below(scope) };
        self.descend(Node::SelectStmt(select), below);
    }

    /// `action` on the table that a statement changes.
    fn write(&mut self, action: Action, table: Option<&RangeVar>, position: Position) {
        self.facts.nested_write |= position.nested;
        self.facts.table_or_database(action, table);
        if table.and_then(|table| table.relname()) == Some(SETTINGS_VIEW) {
            self.facts.setting(UNTOLD, &Value::Unknown);
        }
    }

    /// `INSERT`. Reads its table if it returns rows or updates on conflict.
    pub(crate) fn insert(&mut self, insert: &'a InsertStmt, position: Position) {
        let table = insert.relation();
        self.write(Action::SqlInsert, table, position);
        let updates = insert
            .on_conflict_clause()
            .is_some_and(|conflict| conflict.action != OnConflictAction::ONCONFLICT_NOTHING);
        if updates {
            self.write(Action::SqlUpdate, table, position);
        }
        if updates || insert.returning_clause().is_some() {
            self.facts.table_or_database(Action::SqlSelect, table);
        }
        let below = position.below(self.with(insert.with_clause(), position));
        self.push_all(insert.cols(), below);
        self.push(insert.select_stmt(), below);
        self.push(insert.on_conflict_clause().map_or(Node::None, Node::OnConflictClause), below);
        self.push(insert.returning_clause().map_or(Node::None, Node::ReturningClause), below);
    }

    /// `UPDATE`. Reads its table if it has a `WHERE`, `FROM` or `RETURNING`, or a new value that can depend
    /// on the row.
    pub(crate) fn update(&mut self, update: &'a UpdateStmt, position: Position) {
        let table = update.relation();
        self.write(Action::SqlUpdate, table, position);
        self.facts.reaches_every_row |= !depends_on_row(update.where_clause());
        let reads = !matches!(update.where_clause(), Node::None)
            || update.returning_clause().is_some()
            || !update.from_clause().is_empty()
            || update.target_list().iter().any(|target| depends_on_row(target.val()));
        if reads {
            self.facts.table_or_database(Action::SqlSelect, table);
        }
        let below = position.below(self.with(update.with_clause(), position));
        for target in update.target_list() {
            self.push(Node::ResTarget(target), below);
        }
        self.push(update.where_clause(), below);
        self.push_all(update.from_clause(), below);
        self.push(update.returning_clause().map_or(Node::None, Node::ReturningClause), below);
    }

    /// `DELETE`. Reads its table if it has a `WHERE`, `USING` or `RETURNING`.
    pub(crate) fn delete(&mut self, delete: &'a DeleteStmt, position: Position) {
        let table = delete.relation();
        self.write(Action::SqlDelete, table, position);
        self.facts.reaches_every_row |= !depends_on_row(delete.where_clause());
        let reads = !matches!(delete.where_clause(), Node::None)
            || delete.returning_clause().is_some()
            || !delete.using_clause().is_empty();
        if reads {
            self.facts.table_or_database(Action::SqlSelect, table);
        }
        let below = position.below(self.with(delete.with_clause(), position));
        self.push_all(delete.using_clause(), below);
        self.push(delete.where_clause(), below);
        self.push(delete.returning_clause().map_or(Node::None, Node::ReturningClause), below);
    }

    /// `MERGE`, and what each of its arms does.
    pub(crate) fn merge(&mut self, merge: &'a MergeStmt, position: Position) {
        let table = merge.relation();
        self.write(Action::SqlMerge, table, position);
        // The join condition reads the target table.
        self.facts.table_or_database(Action::SqlSelect, table);
        let below = position.below(self.with(merge.with_clause(), position));
        let joins = depends_on_row(merge.join_condition());
        for arm in merge.merge_when_clauses() {
            let changes = matches!(arm.command_type, CmdType::CMD_UPDATE | CmdType::CMD_DELETE);
            // The join condition narrows only what WHEN MATCHED changes. WHEN NOT MATCHED BY SOURCE changes
            // the target's rows without a match, which may be almost all.
            let narrowed = joins && arm.match_kind == MergeMatchKind::MERGE_WHEN_MATCHED;
            self.facts.reaches_every_row |= changes && !narrowed && !depends_on_row(arm.condition());
            match arm.command_type {
                CmdType::CMD_INSERT => self.write(Action::SqlInsert, table, position),
                CmdType::CMD_UPDATE => self.write(Action::SqlUpdate, table, position),
                CmdType::CMD_DELETE => self.write(Action::SqlDelete, table, position),
                CmdType::CMD_NOTHING => {}
                _ => self.facts.database(Action::SqlOther),
            }
            self.push(Node::MergeWhenClause(arm), below);
        }
        self.push(merge.source_relation(), below);
        self.push(merge.join_condition(), below);
        self.push(merge.returning_clause().map_or(Node::None, Node::ReturningClause), below);
    }
}

/// Whether an expression can have another value for another row: it names a column, holds a query, or is
/// `CURRENT OF` a cursor. As a condition, it can then tell rows apart.
fn depends_on_row(expression: Node<'_>) -> bool {
    if matches!(expression, Node::None) {
        return false;
    }
    let mut pending = vec![expression];
    while let Some(node) = pending.pop() {
        match node {
            Node::ColumnRef(_) | Node::SubLink(_) | Node::CurrentOfExpr(_) | Node::SelectStmt(_) => {
                return true;
            }
            Node::None => {}
            // `(a, b) = (SELECT …)`: all columns have one source. It is searched for the first alone.
            Node::MultiAssignRef(assign) if assign.colno > 1 => {}
            Node::NodeList(list) => pending.extend(list.iter()),
            _ => {
                walk_manual::<()>(node, |child| {
                    pending.push(child);
                    Recurse::no()
                });
            }
        }
    }
    false
}
