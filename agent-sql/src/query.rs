//! SELECT, INSERT, UPDATE, DELETE, MERGE and every expression in them.
//!
//! Children are found by PostgreSQL's own tree walker, so no field can be forgotten here; what that walker
//! doesn't know is [`Action::SqlOther`].

use std::ptr;

use agent_core::facts::Action;
use pg_raw_parse::{
    Node,
    nodes::{
        DeleteStmt, FuncCall, InsertStmt, MergeStmt, RangeVar, SQLValueFunction, SelectStmt, UpdateStmt,
        WithClause,
    },
    raw::{CmdType, OnConflictAction},
    walk::{Recurse, walk_manual},
};

use crate::gather::{DEPTH_MAX, Gathered};

/// Takes in a query or an expression.
pub fn visit(found: &mut Gathered, node: Node<'_>) {
    if found.depth >= DEPTH_MAX {
        return found.database(Action::SqlOther);
    }
    found.depth += 1;
    match node {
        Node::None => {}
        Node::Invalid(_) => found.database(Action::SqlOther),
        Node::SelectStmt(select) => {
            statement(found, node, select.with_clause(), |found| self::select(found, select))
        }
        Node::InsertStmt(insert) => {
            statement(found, node, insert.with_clause(), |found| self::insert(found, insert))
        }
        Node::UpdateStmt(update) => {
            statement(found, node, update.with_clause(), |found| self::update(found, update))
        }
        Node::DeleteStmt(delete) => {
            statement(found, node, delete.with_clause(), |found| self::delete(found, delete))
        }
        Node::MergeStmt(merge) => {
            statement(found, node, merge.with_clause(), |found| self::merge(found, merge))
        }
        Node::RangeVar(relation) => read(found, relation),
        Node::FuncCall(call) => {
            function(found, call);
            children(found, node, None);
        }
        Node::SQLValueFunction(function) => found.function(value_function(function)),
        Node::A_Expr(expression) => {
            operator(found, expression.name().iter().filter_map(Node::as_str));
            children(found, node, None);
        }
        Node::SubLink(link) => {
            operator(found, link.oper_name().iter().filter_map(Node::as_str));
            children(found, node, None);
        }
        // Names of relations in the query's own FROM, which are found there.
        Node::LockingClause(_) | Node::Alias(_) => {}
        _ => children(found, node, None),
    }
    found.depth -= 1;
}

/// A statement with its `WITH` clause: names count from their definition on, in a recursive clause from the
/// beginning.
fn statement(
    found: &mut Gathered,
    node: Node<'_>,
    with: Option<&WithClause>,
    own: impl FnOnce(&mut Gathered),
) {
    found.ctes.push(Vec::new());
    found.nesting += 1;
    if let Some(with) = with {
        let name = |found: &mut Gathered, name: Option<&str>| {
            if let (Some(scope), Some(name)) = (found.ctes.last_mut(), name) {
                scope.push(name.into());
            }
        };
        if with.recursive {
            with.ctes().iter().for_each(|cte| name(found, cte.ctename()));
        }
        for cte in with.ctes() {
            visit(found, cte.ctequery());
            if !with.recursive {
                name(found, cte.ctename());
            }
        }
    }
    found.nesting -= 1;
    own(found);
    found.nesting += 1;
    let target = match node {
        Node::InsertStmt(insert) => insert.relation(),
        Node::UpdateStmt(update) => update.relation(),
        Node::DeleteStmt(delete) => delete.relation(),
        Node::MergeStmt(merge) => merge.relation(),
        _ => None,
    };
    children(found, node, target);
    found.nesting -= 1;
    found.ctes.pop();
}

/// Visits what stands directly below a node, but for its `WITH` clause and the relation that it writes.
fn children(found: &mut Gathered, node: Node<'_>, target: Option<&RangeVar>) {
    let walked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        walk_manual::<()>(node, |child| {
            match child {
                Node::WithClause(_) => {}
                Node::RangeVar(relation) if target.is_some_and(|target| ptr::eq(target, relation)) => {}
                child => visit(found, child),
            }
            Recurse::no()
        });
    }));
    if walked.is_err() {
        found.database(Action::SqlOther);
    }
}

fn select(found: &mut Gathered, select: &SelectStmt) {
    if let Some(into) = select.into_clause().and_then(|into| into.rel()) {
        found.table(Action::SqlCreate, into);
    }
    // A query without a table reads, too: `SELECT f()`.
    found.database(Action::SqlSelect);
    if !select.locking_clause().is_empty() {
        select.from_clause().iter().for_each(|from| lock(found, from, 0));
    }
}

/// `FOR UPDATE` locks the rows of every table in the query's FROM, those of its subqueries included.
fn lock(found: &mut Gathered, from: Node<'_>, depth: usize) {
    if depth > DEPTH_MAX {
        return found.database(Action::SqlOther);
    }
    match from {
        Node::RangeVar(relation) if !is_cte(found, relation) => found.table(Action::SqlLock, relation),
        Node::JoinExpr(join) => {
            lock(found, join.larg(), depth + 1);
            lock(found, join.rarg(), depth + 1);
        }
        Node::RangeSubselect(subselect) => {
            if let Node::SelectStmt(inner) = subselect.subquery() {
                inner.from_clause().iter().for_each(|from| lock(found, from, depth + 1));
            }
        }
        _ => {}
    }
}

fn insert(found: &mut Gathered, insert: &InsertStmt) {
    found.write();
    let Some(target) = insert.relation() else { return found.database(Action::SqlOther) };
    found.table(Action::SqlInsert, target);
    if insert.returning_clause().is_some() {
        found.table(Action::SqlSelect, target);
    }
    if let Some(conflict) = insert.on_conflict_clause() {
        found.table(Action::SqlSelect, target);
        if conflict.action == OnConflictAction::ONCONFLICT_UPDATE {
            found.table(Action::SqlUpdate, target);
        }
    }
}

fn update(found: &mut Gathered, update: &UpdateStmt) {
    found.write();
    let Some(target) = update.relation() else { return found.database(Action::SqlOther) };
    found.table(Action::SqlUpdate, target);
    if reads(update.where_clause()) || update.returning_clause().is_some() || !update.from_clause().is_empty()
    {
        found.table(Action::SqlSelect, target);
    }
    if !is_condition(update.where_clause()) {
        found.unconditional();
    }
}

fn delete(found: &mut Gathered, delete: &DeleteStmt) {
    found.write();
    let Some(target) = delete.relation() else { return found.database(Action::SqlOther) };
    found.table(Action::SqlDelete, target);
    if reads(delete.where_clause())
        || delete.returning_clause().is_some()
        || !delete.using_clause().is_empty()
    {
        found.table(Action::SqlSelect, target);
    }
    if !is_condition(delete.where_clause()) {
        found.unconditional();
    }
}

fn merge(found: &mut Gathered, merge: &MergeStmt) {
    found.write();
    let Some(target) = merge.relation() else { return found.database(Action::SqlOther) };
    found.table(Action::SqlMerge, target);
    found.table(Action::SqlSelect, target);
    for arm in merge.merge_when_clauses() {
        match arm.command_type {
            CmdType::CMD_INSERT => found.table(Action::SqlInsert, target),
            CmdType::CMD_UPDATE => found.table(Action::SqlUpdate, target),
            CmdType::CMD_DELETE => found.table(Action::SqlDelete, target),
            CmdType::CMD_NOTHING => {}
            _ => found.database(Action::SqlOther),
        }
    }
}

fn read(found: &mut Gathered, relation: &RangeVar) {
    if !is_cte(found, relation) {
        found.table(Action::SqlSelect, relation);
    }
}

fn is_cte(found: &Gathered, relation: &RangeVar) -> bool {
    relation.schemaname().is_none() && relation.relname().is_some_and(|name| found.is_cte(name))
}

fn reads(condition: Node<'_>) -> bool {
    !matches!(condition, Node::None)
}

/// Whether a WHERE depends on anything: a column, a subquery, a parameter or a function. `WHERE true` and
/// `WHERE 1 = 1` are no conditions.
fn is_condition(condition: Node<'_>) -> bool {
    if !reads(condition) {
        return false;
    }
    let names =
        |node: Node<'_>| matches!(node, Node::ColumnRef(_) | Node::SubLink(_) | Node::CurrentOfExpr(_));
    if names(condition) {
        return true;
    }
    let mut depends = false;
    let walked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        walk_manual::<()>(condition, |node| {
            depends |= names(node);
            Recurse::recurse_unless(depends)
        });
    }));
    walked.is_ok() && depends
}

/// A call, spelled as it is called; `set_config` changes a setting.
pub fn function(found: &mut Gathered, call: &FuncCall) {
    let parts: Vec<&str> = call.funcname().iter().filter_map(Node::as_str).collect();
    found.function(parts.join("."));
    if parts.last() == Some(&"set_config") {
        let name = match call.args().iter().next() {
            Some(Node::A_Const(constant)) => {
                constant.val().and_then(|value| value.string_value().map(str::to_owned))
            }
            _ => None,
        };
        found.setting(name.as_deref().unwrap_or("?"));
    }
}

/// An operator that is named with a schema can be anybody's function.
fn operator<'a>(found: &mut Gathered, names: impl Iterator<Item = &'a str>) {
    if let [schema, name] = names.collect::<Vec<_>>().as_slice()
        && *schema != "pg_catalog"
    {
        found.function(format!("operator:{schema}.{name}"));
    }
}

fn value_function(function: &SQLValueFunction) -> &'static str {
    match function.op {
        0 => "current_date",
        1 | 2 => "current_time",
        3 | 4 => "current_timestamp",
        5 | 6 => "localtime",
        7 | 8 => "localtimestamp",
        9 => "current_role",
        10 => "current_user",
        11 => "user",
        12 => "session_user",
        13 => "current_catalog",
        14 => "current_schema",
        _ => "?",
    }
}
