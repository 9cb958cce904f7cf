//! Calls of `set_config`: which setting they change, and to what.
//!
//! The setting is told by a constant, by a parameter, or by a column that the query's `WHERE` sets equal to a
//! constant, as pg_dump has it. Anything else is a setting that can't be told.

use agent_core::facts::Action;
use pg_raw_parse::{
    ConstValue, Node,
    list::NodeList,
    nodes::{FuncCall, SelectStmt, TypeName},
    raw::{A_Expr_Kind, BoolExprType},
};

use crate::{
    parameters::{Operand, SetConfig, is_plain},
    settings::depends_on_value,
    walk::Walk,
};

/// How many calls of one query are looked at for a column that is equal to a constant.
const EQUATED_MAX: usize = 16;

/// Whether a function of this name is called, in whichever schema.
pub(crate) fn is_set_config(call: &FuncCall) -> bool {
    call.funcname().iter().next_back().and_then(Node::as_str) == Some("set_config")
}

impl<'a> Walk<'a, '_> {
    /// Adds the setting that a call changes.
    pub(crate) fn set_config(&mut self, call: &'a FuncCall) {
        let argument = |nth, name| operand(argument(call.args(), nth, name));
        let (mut name, mut certain) = argument(0, "setting_name");
        let (value, value_certain) = argument(1, "new_value");
        certain &= value_certain;
        if let Some((_, constant)) = self.equated.iter().find(|(equated, _)| std::ptr::eq(*equated, call)) {
            // The operator, and the collation that it compares by, may be somebody's own.
            (name, certain) = (Operand::Text(Box::from(*constant)), false);
        }
        let by_parameters = match (&name, &value) {
            (Operand::Parameter(_), _) => true,
            (Operand::Text(name), Operand::Parameter(_)) => depends_on_value(name),
            _ => false,
        };
        self.facts.database(Action::SqlSet);
        let call = SetConfig { name, value, certain };
        if by_parameters {
            self.facts.calls.push(call);
        } else {
            call.change(&mut self.facts.settings, |_| None);
        }
    }

    /// Notes each column `set_config(name, …)` of a query whose `WHERE` holds only for rows in which `name`
    /// is equal to a constant. Columns are computed for such rows alone, and `name` is the same column in
    /// both places, whatever the relation is: a temporary table can stand in for `pg_settings`.
    pub(crate) fn equate(&mut self, select: &'a SelectStmt) {
        let calls = select.target_list().iter().filter_map(|target| match target.val() {
            Node::FuncCall(call) if is_set_config(call) => Some(call),
            _ => None,
        });
        for call in calls.take(EQUATED_MAX) {
            if let Some(column) = argument(call.args(), 0, "setting_name").and_then(column)
                && let Some(constant) = equal_to(select.where_clause(), column)
            {
                self.equated.push((std::ptr::from_ref(call), constant));
            }
        }
    }
}

/// An argument by its position or its name.
fn argument<'a>(arguments: &'a NodeList, nth: usize, name: &str) -> Option<Node<'a>> {
    let named = arguments.iter().find_map(|argument| match argument {
        Node::NamedArgExpr(named) if named.name() == Some(name) => Some(named.arg()),
        _ => None,
    });
    named.or_else(|| arguments.iter().nth(nth).filter(|argument| !matches!(argument, Node::NamedArgExpr(_))))
}

/// What an argument is, and whether it certainly is that.
fn operand(argument: Option<Node<'_>>) -> (Operand, bool) {
    match argument {
        Some(Node::A_Const(constant)) => match constant.val() {
            Some(ConstValue::String(text)) => (Operand::Text(text.into()), true),
            _ => (Operand::Unknown, true),
        },
        Some(Node::ParamRef(parameter)) => (Operand::Parameter(parameter.number), true),
        Some(Node::TypeCast(cast)) => match (cast.type_name().and_then(character_type), cast.arg()) {
            (Some(certain), argument @ (Node::A_Const(_) | Node::ParamRef(_))) => {
                (operand(Some(argument)).0, certain)
            }
            _ => (Operand::Unknown, true),
        },
        _ => (Operand::Unknown, true),
    }
}

/// Whether this is certainly a character type without a length; `None` if it is another type. `text` without
/// a schema can be a type that somebody made.
fn character_type(type_name: &TypeName) -> Option<bool> {
    if !type_name.typmods().is_empty() || !type_name.array_bounds().is_empty() || type_name.setof {
        return None;
    }
    let names: Vec<_> = type_name.names().iter().filter_map(|name| name.sval()).collect();
    match *names {
        ["pg_catalog", "text" | "varchar"] => Some(true),
        ["text" | "varchar"] => Some(false),
        _ => None,
    }
}

/// The name of a column that stands without its relation's.
fn column(node: Node<'_>) -> Option<&str> {
    let Node::ColumnRef(column) = node else { return None };
    match (column.fields().len(), column.fields().first()?) {
        (1, Node::String(name)) => name.sval(),
        _ => None,
    }
}

/// The constant that a column is equal to in every row for which `condition` holds.
fn equal_to<'a>(condition: Node<'a>, name: &str) -> Option<&'a str> {
    let mut pending = vec![condition];
    while let Some(node) = pending.pop() {
        match node {
            Node::BoolExpr(terms) if terms.boolop == BoolExprType::AND_EXPR => {
                pending.extend(terms.args().iter());
            }
            Node::A_Expr(equation) if equation.kind == A_Expr_Kind::AEXPR_OP && is_equal(equation.name()) => {
                let (left, right) = (equation.lexpr(), equation.rexpr());
                for (side, other) in [(left, right), (right, left)] {
                    if column(side) == Some(name)
                        && let Node::A_Const(constant) = other
                        && let Some(ConstValue::String(text)) = constant.val()
                        && is_plain(text)
                    {
                        return Some(text);
                    }
                }
            }
            _ => {}
        }
    }
    None
}

/// Whether an operator is spelled as PostgreSQL's own equality.
fn is_equal(name: &NodeList) -> bool {
    let parts: Vec<_> = name.iter().map(Node::as_str).collect();
    matches!(*parts, [Some("=")] | [Some("pg_catalog"), Some("=")])
}
