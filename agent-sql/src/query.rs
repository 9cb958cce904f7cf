//! Walks a statement's tree: queries, data-modifying statements, and every expression.
//!
//! The walk keeps its own stack, so that a deeply nested statement costs memory and never the thread. It must never
//! pass over a node it doesn't know: what isn't named here or in [`crate::utility`] is `sql:other`.

use agent_core::facts::Action;
use pg_raw_parse::list::NodeList;
use pg_raw_parse::nodes::{
    DeleteStmt, FuncCall, InsertStmt, MergeStmt, RangeVar, SelectStmt, UpdateStmt, WithClause,
};
use pg_raw_parse::raw::{CmdType, MergeMatchKind, OnConflictAction, SQLValueFunctionOp};
use pg_raw_parse::walk::{Recurse, walk_manual};
use pg_raw_parse::{ConstValue, Node};

use crate::collector::{Collector, Value};
use crate::scope::{Scope, Scopes};

/// The view through which `UPDATE` changes settings, as `set_config` does.
const SETTINGS_VIEW: &str = "pg_settings";

/// Where in the statement a node stands.
#[derive(Clone, Copy, Default)]
pub(crate) struct Place {
    scope: Scope,
    /// Below the statement itself.
    pub(crate) nested: bool,
    /// In a `FROM` whose rows `FOR UPDATE` or `FOR SHARE` locks.
    locked: bool,
}

impl Place {
    /// Below the statement itself, where no common table expression is known.
    pub(crate) const NESTED: Self = Self { scope: Scope::NONE, nested: true, locked: false };

    fn below(self, scope: Scope) -> Self {
        Self { scope, nested: true, ..self }
    }

    fn unlocked(self) -> Self {
        Self { locked: false, ..self }
    }
}

/// A walk in progress.
pub(crate) struct Walk<'a, 'c> {
    pub(crate) facts: &'c mut Collector,
    pending: Vec<(Node<'a>, Place)>,
    scopes: Scopes<'a>,
}

/// Adds the facts of one top-level statement.
pub(crate) fn collect(facts: &mut Collector, statement: Node<'_>) {
    let mark = facts.accesses.len();
    facts.statements = facts.statements.saturating_add(1);
    Walk::run(facts, statement, Place::default());
    if matches!(statement, Node::SelectStmt(_)) && !facts.has_since(mark, Action::SqlSelect) {
        facts.database(Action::SqlSelect);
    }
    // A plan of what touches no relation does nothing beside EXPLAIN.
    if facts.accesses.len() == mark && !facts.planned_only {
        facts.database(Action::SqlOther);
    }
}

impl<'a, 'c> Walk<'a, 'c> {
    /// Walks `node` and all below it.
    pub(crate) fn run(facts: &'c mut Collector, node: Node<'a>, place: Place) {
        let mut walk = Self { facts, pending: vec![(node, place)], scopes: Scopes::default() };
        while let Some((node, place)) = walk.pending.pop() {
            walk.visit(node, place);
        }
    }

    /// Has `node` visited later.
    pub(crate) fn push(&mut self, node: Node<'a>, place: Place) {
        if !matches!(node, Node::None) {
            self.pending.push((node, place));
        }
    }

    /// Has every node of `list` visited later.
    pub(crate) fn push_all(&mut self, list: &'a NodeList, place: Place) {
        for node in list {
            self.push(node, place);
        }
    }

    /// Has the nodes below `node` visited later. Only for nodes that PostgreSQL's own walker knows.
    fn descend(&mut self, node: Node<'a>, place: Place) {
        walk_manual::<()>(node, |child| {
            self.pending.push((child, place));
            Recurse::no()
        });
    }

    fn visit(&mut self, node: Node<'a>, place: Place) {
        match node {
            Node::None => {}
            Node::NodeList(list) => self.push_all(list, place),

            Node::SelectStmt(select) => self.select(select, place),
            Node::InsertStmt(insert) => self.insert(insert, place),
            Node::UpdateStmt(update) => self.update(update, place),
            Node::DeleteStmt(delete) => self.delete(delete, place),
            Node::MergeStmt(merge) => self.merge(merge, place),
            Node::RangeVar(table) => self.read(table, place),
            Node::IntoClause(into) => self.facts.table_or_database(Action::SqlCreate, into.rel()),

            Node::FuncCall(call) => {
                self.call(call);
                self.descend(node, place);
            }
            // What isn't a column there is a function of what stands before it (manual, "Function Calls").
            Node::ColumnRef(column) => {
                if let Some(Node::String(last)) = column.fields().iter().skip(1).last() {
                    self.facts.field(last.sval().unwrap_or("?"));
                }
            }
            Node::A_Indirection(indirection) => {
                for step in indirection.indirection() {
                    if let Node::String(name) = step {
                        self.facts.field(name.sval().unwrap_or("?"));
                    }
                }
                self.descend(node, place);
            }
            Node::SQLValueFunction(function) => {
                self.facts.functions.push(value_function(function.op).into());
            }
            Node::MergeSupportFunc(_) => self.facts.functions.push("merge_action".into()),
            Node::A_Expr(expression) => {
                self.operator(expression.name());
                self.descend(node, place);
            }
            Node::SortBy(sort) => {
                self.operator(sort.use_op());
                self.descend(node, place);
            }
            Node::SubLink(link) => {
                self.operator(link.oper_name());
                self.descend(node, place.unlocked());
            }
            // Every column of `(a, b) = (SELECT …)` carries the same source: one visit is enough, and n are a square.
            Node::MultiAssignRef(assign) if assign.colno > 1 => {}
            Node::MultiAssignRef(_) => self.descend(node, place),
            Node::JsonArrayQueryConstructor(_) => self.descend(node, place.unlocked()),

            // Read where the statement that carries them is: they make its scope, and name aliases, not tables.
            Node::WithClause(_) | Node::LockingClause(_) => {}

            // Without anything below them that names a relation or a function.
            Node::Alias(_)
            | Node::A_Const(_)
            | Node::A_Star(_)
            | Node::BitString(_)
            | Node::Boolean(_)
            | Node::CurrentOfExpr(_)
            | Node::Float(_)
            | Node::Integer(_)
            | Node::JsonFormat(_)
            | Node::ParamRef(_)
            | Node::ReturningOption(_)
            | Node::SetToDefault(_)
            | Node::String(_) => {}

            Node::A_ArrayExpr(_)
            | Node::A_Indices(_)
            | Node::BoolExpr(_)
            | Node::BooleanTest(_)
            | Node::CaseExpr(_)
            | Node::CoalesceExpr(_)
            | Node::CollateClause(_)
            | Node::GroupingFunc(_)
            | Node::GroupingSet(_)
            | Node::IndexElem(_)
            | Node::InferClause(_)
            | Node::JoinExpr(_)
            | Node::JsonAggConstructor(_)
            | Node::JsonArgument(_)
            | Node::JsonArrayAgg(_)
            | Node::JsonArrayConstructor(_)
            | Node::JsonBehavior(_)
            | Node::JsonFuncExpr(_)
            | Node::JsonIsPredicate(_)
            | Node::JsonKeyValue(_)
            | Node::JsonObjectAgg(_)
            | Node::JsonObjectConstructor(_)
            | Node::JsonOutput(_)
            | Node::JsonParseExpr(_)
            | Node::JsonReturning(_)
            | Node::JsonScalarExpr(_)
            | Node::JsonSerializeExpr(_)
            | Node::JsonTable(_)
            | Node::JsonTableColumn(_)
            | Node::JsonTablePathSpec(_)
            | Node::JsonValueExpr(_)
            | Node::MergeWhenClause(_)
            | Node::MinMaxExpr(_)
            | Node::NamedArgExpr(_)
            | Node::NullTest(_)
            | Node::OnConflictClause(_)
            | Node::RangeFunction(_)
            | Node::RangeSubselect(_)
            | Node::RangeTableFunc(_)
            | Node::RangeTableFuncCol(_)
            | Node::RangeTableSample(_)
            | Node::ResTarget(_)
            | Node::ReturningClause(_)
            | Node::RowExpr(_)
            | Node::TypeCast(_)
            | Node::TypeName(_)
            | Node::WindowDef(_)
            | Node::XmlExpr(_)
            | Node::XmlSerialize(_) => self.descend(node, place),

            _ => self.utility(node, place),
        }
    }

    fn read(&mut self, table: &RangeVar, place: Place) {
        let bare = table.schemaname().is_none() && table.catalogname().is_none();
        if bare && table.relname().is_some_and(|name| self.scopes.sees(place.scope, name)) {
            return;
        }
        self.facts.table(Action::SqlSelect, table);
        if place.locked {
            self.facts.table(Action::SqlLock, table);
        }
    }

    /// The scope below a statement with this `WITH`, whose queries are visited later.
    fn with(&mut self, with: Option<&'a WithClause>, place: Place) -> Scope {
        let Some(with) = with else { return place.scope };
        let mut scope = place.scope;
        let mut queries = Vec::with_capacity(with.ctes().len());
        for cte in with.ctes() {
            // Without RECURSIVE a query sees the expressions before its own.
            queries.push((cte, scope));
            if let Some(name) = cte.ctename() {
                scope = self.scopes.with(scope, name);
            }
        }
        for (cte, before) in queries {
            let seen = if with.recursive { scope } else { before };
            let place = place.below(seen).unlocked();
            self.push(cte.ctequery(), place);
            if let Some(cycle) = cte.cycle_clause() {
                self.push(cycle.cycle_mark_value(), place);
                self.push(cycle.cycle_mark_default(), place);
            }
        }
        scope
    }

    fn select(&mut self, select: &'a SelectStmt, place: Place) {
        let scope = self.with(select.with_clause(), place);
        let locks = !select.locking_clause().is_empty();
        if locks && select.from_clause().is_empty() {
            self.facts.database(Action::SqlLock);
        }
        // PostgreSQL's walker visits every part; only FROM holds tables that aren't inside a SubLink, which ends the lock.
        let below = Place { locked: place.locked || locks, ..place.below(scope) };
        self.descend(Node::SelectStmt(select), below);
    }

    fn write(&mut self, action: Action, table: Option<&RangeVar>, place: Place) {
        self.facts.nested_write |= place.nested;
        self.facts.table_or_database(action, table);
        if table.and_then(|table| table.relname()) == Some(SETTINGS_VIEW) {
            self.facts.setting("?", Value::Unknown);
        }
    }

    fn insert(&mut self, insert: &'a InsertStmt, place: Place) {
        let table = insert.relation();
        self.write(Action::SqlInsert, table, place);
        let updates = insert
            .on_conflict_clause()
            .is_some_and(|conflict| conflict.action != OnConflictAction::ONCONFLICT_NOTHING);
        if updates {
            self.write(Action::SqlUpdate, table, place);
        }
        if updates || insert.returning_clause().is_some() {
            self.facts.table_or_database(Action::SqlSelect, table);
        }
        let below = place.below(self.with(insert.with_clause(), place));
        self.push_all(insert.cols(), below);
        self.push(insert.select_stmt(), below);
        self.push(insert.on_conflict_clause().map_or(Node::None, Node::OnConflictClause), below);
        self.push(insert.returning_clause().map_or(Node::None, Node::ReturningClause), below);
    }

    fn update(&mut self, update: &'a UpdateStmt, place: Place) {
        let table = update.relation();
        self.write(Action::SqlUpdate, table, place);
        self.facts.reaches_every_row |= !selects_rows(update.where_clause());
        let reads = !matches!(update.where_clause(), Node::None)
            || update.returning_clause().is_some()
            || !update.from_clause().is_empty()
            || update.target_list().iter().any(|target| selects_rows(target.val()));
        if reads {
            self.facts.table_or_database(Action::SqlSelect, table);
        }
        let below = place.below(self.with(update.with_clause(), place));
        for target in update.target_list() {
            self.push(Node::ResTarget(target), below);
        }
        self.push(update.where_clause(), below);
        self.push_all(update.from_clause(), below);
        self.push(update.returning_clause().map_or(Node::None, Node::ReturningClause), below);
    }

    fn delete(&mut self, delete: &'a DeleteStmt, place: Place) {
        let table = delete.relation();
        self.write(Action::SqlDelete, table, place);
        self.facts.reaches_every_row |= !selects_rows(delete.where_clause());
        let reads = !matches!(delete.where_clause(), Node::None)
            || delete.returning_clause().is_some()
            || !delete.using_clause().is_empty();
        if reads {
            self.facts.table_or_database(Action::SqlSelect, table);
        }
        let below = place.below(self.with(delete.with_clause(), place));
        self.push_all(delete.using_clause(), below);
        self.push(delete.where_clause(), below);
        self.push(delete.returning_clause().map_or(Node::None, Node::ReturningClause), below);
    }

    fn merge(&mut self, merge: &'a MergeStmt, place: Place) {
        let table = merge.relation();
        self.write(Action::SqlMerge, table, place);
        // The join condition reads the target.
        self.facts.table_or_database(Action::SqlSelect, table);
        let below = place.below(self.with(merge.with_clause(), place));
        let joins = selects_rows(merge.join_condition());
        for arm in merge.merge_when_clauses() {
            let changes = matches!(arm.command_type, CmdType::CMD_UPDATE | CmdType::CMD_DELETE);
            // What the source lacks is every row of the target but some: the join condition narrows nothing there.
            let narrowed = joins && arm.match_kind == MergeMatchKind::MERGE_WHEN_MATCHED;
            self.facts.reaches_every_row |= changes && !narrowed && !selects_rows(arm.condition());
            match arm.command_type {
                CmdType::CMD_INSERT => self.write(Action::SqlInsert, table, place),
                CmdType::CMD_UPDATE => self.write(Action::SqlUpdate, table, place),
                CmdType::CMD_DELETE => self.write(Action::SqlDelete, table, place),
                CmdType::CMD_NOTHING => {}
                _ => self.facts.database(Action::SqlOther),
            }
            self.push(Node::MergeWhenClause(arm), below);
        }
        self.push(merge.source_relation(), below);
        self.push(merge.join_condition(), below);
        self.push(merge.returning_clause().map_or(Node::None, Node::ReturningClause), below);
    }

    /// An operator's name matters when it isn't one of PostgreSQL's own: anybody may have made it, of any function.
    fn operator(&mut self, name: &NodeList) {
        let schema = name.iter().rev().nth(1).and_then(Node::as_str);
        if schema.is_some_and(|schema| schema != "pg_catalog") {
            self.facts.function("operator:", name);
        }
    }

    fn call(&mut self, call: &FuncCall) {
        self.facts.function("", call.funcname());
        let name = call.funcname().iter().next_back().and_then(Node::as_str);
        if name == Some("set_config") {
            self.facts.setting(changed_setting(call.args()).unwrap_or("?"), Value::Unknown);
        }
    }
}

/// The name that a call of `set_config` sets, if it is a constant.
fn changed_setting(arguments: &NodeList) -> Option<&str> {
    let named = arguments.iter().find_map(|argument| match argument {
        Node::NamedArgExpr(named) if named.name() == Some("setting_name") => Some(named.arg()),
        _ => None,
    });
    match named.or_else(|| arguments.first())? {
        Node::A_Const(constant) => match constant.val()? {
            ConstValue::String(name) => Some(name),
            _ => None,
        },
        _ => None,
    }
}

/// Whether a condition can tell rows apart: it names a column, asks a query, or is `CURRENT OF` a cursor.
fn selects_rows(condition: Node<'_>) -> bool {
    if matches!(condition, Node::None) {
        return false;
    }
    let mut pending = vec![condition];
    while let Some(node) = pending.pop() {
        match node {
            Node::ColumnRef(_) | Node::SubLink(_) | Node::CurrentOfExpr(_) | Node::SelectStmt(_) => {
                return true;
            }
            Node::None => {}
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

fn value_function(op: SQLValueFunctionOp::Type) -> &'static str {
    match op {
        SQLValueFunctionOp::SVFOP_CURRENT_DATE => "current_date",
        SQLValueFunctionOp::SVFOP_CURRENT_TIME | SQLValueFunctionOp::SVFOP_CURRENT_TIME_N => "current_time",
        SQLValueFunctionOp::SVFOP_CURRENT_TIMESTAMP | SQLValueFunctionOp::SVFOP_CURRENT_TIMESTAMP_N => {
            "current_timestamp"
        }
        SQLValueFunctionOp::SVFOP_LOCALTIME | SQLValueFunctionOp::SVFOP_LOCALTIME_N => "localtime",
        SQLValueFunctionOp::SVFOP_LOCALTIMESTAMP | SQLValueFunctionOp::SVFOP_LOCALTIMESTAMP_N => {
            "localtimestamp"
        }
        SQLValueFunctionOp::SVFOP_CURRENT_ROLE => "current_role",
        SQLValueFunctionOp::SVFOP_CURRENT_USER => "current_user",
        SQLValueFunctionOp::SVFOP_USER => "user",
        SQLValueFunctionOp::SVFOP_SESSION_USER => "session_user",
        SQLValueFunctionOp::SVFOP_CURRENT_CATALOG => "current_catalog",
        SQLValueFunctionOp::SVFOP_CURRENT_SCHEMA => "current_schema",
        _ => "?",
    }
}
