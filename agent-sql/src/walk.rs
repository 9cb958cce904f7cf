//! Walks the tree of one statement, and gathers its facts.
//!
//! The walk keeps the nodes still to be visited in a list instead of recursing, so that a deeply nested
//! statement costs memory and never overflows the stack. It must never skip a node that it doesn't know: what
//! neither this file nor
//! [`crate::utility`] names is `sql:other`.
//!
//! What a node means is said elsewhere: [`crate::query`] has queries and data-modifying statements,
//! [`crate::function`] functions and operators, [`crate::utility`] all other statements, [`crate::nodes`] the
//! nodes that mean nothing by themselves.

use agent_core::facts::Action;
use pg_raw_parse::{
    Node,
    list::NodeList,
    nodes::FuncCall,
    walk::{Recurse, walk_manual},
};

use crate::{
    collector::Collector,
    nodes::{is_transaction_control, is_transparent, names_nothing},
    scope::{Scope, Scopes},
};

/// Where in the statement a node is.
#[derive(Clone, Copy, Default)]
pub(crate) struct Position {
    /// The common table expressions that it can name.
    pub(crate) scope: Scope,
    /// Whether it is below the statement itself.
    pub(crate) nested: bool,
    /// Whether it is in a `FROM` whose rows `FOR UPDATE` or `FOR SHARE` locks.
    pub(crate) locked: bool,
}

impl Position {
    /// Below the statement itself, without common table expressions.
    pub(crate) const NESTED: Self = Self { scope: Scope::NONE, nested: true, locked: false };

    /// One level further down, with other common table expressions.
    pub(crate) fn below(self, scope: Scope) -> Self {
        Self { scope, nested: true, ..self }
    }

    /// This position, but outside the `FROM` whose rows are locked.
    pub(crate) fn unlocked(self) -> Self {
        Self { locked: false, ..self }
    }
}

/// A walk in progress. The files for the kinds of statements add methods to it.
pub(crate) struct Walk<'a, 'c> {
    pub(crate) facts: &'c mut Collector,
    /// The nodes still to be visited.
    pending: Vec<(Node<'a>, Position)>,
    pub(crate) scopes: Scopes<'a>,
    /// Calls of `set_config` whose setting is a column, each with the constant that the column is equal to.
    pub(crate) equated: Vec<(*const FuncCall, &'a str)>,
}

/// Adds the facts of one top-level statement.
pub(crate) fn collect(facts: &mut Collector, statement: Node<'_>) {
    let mark = facts.accesses.len();
    facts.statements = facts.statements.saturating_add(1);
    if is_transaction_control(statement) {
        facts.transaction_statements = facts.transaction_statements.saturating_add(1);
    }
    Walk::run(facts, statement, Position::default());
    if matches!(statement, Node::SelectStmt(_)) && !facts.has_since(mark, Action::SqlSelect) {
        facts.database(Action::SqlSelect);
    }
    // In other statements, `$1` may be a parameter of the statement's own, such as a function's.
    if !is_query(statement) {
        facts.settle_calls();
    }
    if !runs_at_once(statement) {
        facts.settings.bar_awaited();
    }
    // A statement is never without an access, but for one that is only explained: EXPLAIN has its own.
    if facts.accesses.len() == mark && !facts.planned_only {
        facts.database(Action::SqlOther);
    }
}

/// Whether a statement is a query or changes data.
fn is_query(statement: Node<'_>) -> bool {
    matches!(
        statement,
        Node::SelectStmt(_)
            | Node::InsertStmt(_)
            | Node::UpdateStmt(_)
            | Node::DeleteStmt(_)
            | Node::MergeStmt(_)
    )
}

/// Whether the functions in a statement are called when it runs, or when `EXECUTE` runs it, which has its
/// facts. Those in a view or a cursor are called by other statements.
fn runs_at_once(statement: Node<'_>) -> bool {
    is_query(statement)
        || matches!(
            statement,
            Node::CopyStmt(_)
                | Node::ExecuteStmt(_)
                | Node::ExplainStmt(_)
                | Node::PrepareStmt(_)
                | Node::VariableSetStmt(_)
        )
}

impl<'a, 'c> Walk<'a, 'c> {
    /// Visits `node` and everything below it.
    pub(crate) fn run(facts: &'c mut Collector, node: Node<'a>, position: Position) {
        let pending = vec![(node, position)];
        let mut walk = Self { facts, pending, scopes: Scopes::default(), equated: Vec::new() };
        while let Some((node, position)) = walk.pending.pop() {
            walk.visit(node, position);
        }
    }

    /// Adds `node` to those still to be visited.
    pub(crate) fn push(&mut self, node: Node<'a>, position: Position) {
        if !matches!(node, Node::None) {
            self.pending.push((node, position));
        }
    }

    /// Adds every node of `list` to those still to be visited.
    pub(crate) fn push_all(&mut self, list: &'a NodeList, position: Position) {
        for node in list {
            self.push(node, position);
        }
    }

    /// Adds the nodes directly below `node` to those still to be visited. Only for nodes that PostgreSQL's
    /// own walker knows.
    pub(crate) fn descend(&mut self, node: Node<'a>, position: Position) {
        walk_manual::<()>(node, |child| {
            self.pending.push((child, position));
            Recurse::no()
        });
    }

    fn visit(&mut self, node: Node<'a>, position: Position) {
        match node {
            Node::None => {}
            Node::NodeList(list) => self.push_all(list, position),

            Node::SelectStmt(select) => self.select(select, position),
            Node::InsertStmt(insert) => self.insert(insert, position),
            Node::UpdateStmt(update) => self.update(update, position),
            Node::DeleteStmt(delete) => self.delete(delete, position),
            Node::MergeStmt(merge) => self.merge(merge, position),
            Node::RangeVar(table) => self.read(table, position),
            Node::IntoClause(into) => self.facts.creates(into.rel()),

            Node::FuncCall(call) => {
                self.call(call);
                self.descend(node, position);
            }
            // If there is no such column, this calls a function (the manual, "Function Calls").
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
                self.descend(node, position);
            }
            Node::SQLValueFunction(function) => {
                self.value_function(function.op);
            }
            Node::ParamRef(parameter) => self.facts.parameters.push(parameter.number),
            Node::MergeSupportFunc(_) => self.facts.functions.push("merge_action".into()),
            Node::A_Expr(expression) => {
                self.operator(expression.name());
                self.descend(node, position);
            }
            Node::SortBy(sort) => {
                self.operator(sort.use_op());
                self.descend(node, position);
            }
            Node::SubLink(link) => {
                self.operator(link.oper_name());
                self.descend(node, position.unlocked());
            }
            // Every column of `(a, b) = (SELECT …)` has the same source. It is visited for the first column
            // alone: for each of n columns it would cost n² steps.
            Node::MultiAssignRef(assign) if assign.colno > 1 => {}
            Node::MultiAssignRef(_) => self.descend(node, position),
            Node::JsonArrayQueryConstructor(_) => self.descend(node, position.unlocked()),

            // Handled with their statement: the first makes its scope, the second names aliases, not tables.
            Node::WithClause(_) | Node::LockingClause(_) => {}

            node if names_nothing(node) => {}
            node if is_transparent(node) => self.descend(node, position),
            node => self.utility(node, position),
        }
    }
}
