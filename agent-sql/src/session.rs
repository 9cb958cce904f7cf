//! Statements about the session: settings, transactions, cursors, notification channels and prepared
//! statements. Their accesses are all to the database.

use std::borrow::Cow;

use agent_core::facts::Action;
use pg_raw_parse::{ConstValue, Node, nodes::VariableSetStmt, raw::VariableSetKind};

use crate::{collector::Value, nodes::is_transaction_control, walk::Walk};

impl<'a> Walk<'a, '_> {
    /// Adds the facts of a statement about the session; false if `node` is not one.
    pub(crate) fn session(&mut self, node: Node<'a>) -> bool {
        match node {
            Node::VariableSetStmt(set) => self.set(set),
            Node::VariableShowStmt(_) => self.facts.database(Action::SqlShow),
            node if is_transaction_control(node) => self.facts.database(Action::SqlTransaction),
            // Two-phase commit: it acts on transactions that outlive the session.
            Node::TransactionStmt(_) => self.facts.database(Action::SqlOther),
            Node::ConstraintsSetStmt(_) => self.facts.database(Action::SqlTransaction),
            Node::FetchStmt(fetch) => {
                self.facts.database(Action::SqlFetch);
                self.facts.fetches.push(fetch.portalname().unwrap_or_default().into());
            }
            Node::ListenStmt(_) | Node::NotifyStmt(_) => self.facts.database(Action::SqlNotify),
            Node::ClosePortalStmt(_) | Node::UnlistenStmt(_) | Node::DiscardStmt(_) => {
                self.facts.database(Action::SqlDiscard)
            }
            Node::DeallocateStmt(deallocate) => {
                self.facts.database(Action::SqlDiscard);
                self.facts.deallocates.extend(deallocate.name().map(Into::into));
            }
            _ => return false,
        }
        true
    }

    /// `SET` and `RESET`: which setting is changed, and to what.
    fn set(&mut self, set: &'a VariableSetStmt) {
        match (set.kind, set.name()) {
            (VariableSetKind::VAR_RESET_ALL, _) => self.facts.setting("all", Value::Initial),
            (VariableSetKind::VAR_SET_MULTI, Some("TRANSACTION" | "TRANSACTION SNAPSHOT")) => {
                self.facts.database(Action::SqlTransaction);
            }
            (VariableSetKind::VAR_SET_MULTI, Some("SESSION CHARACTERISTICS")) => {
                for mode in set.args() {
                    match mode {
                        Node::DefElem(mode) => {
                            let name = mode.defname().unwrap_or("?");
                            self.facts.setting(&format!("default_{name}"), Value::Unknown);
                        }
                        _ => self.facts.setting("?", Value::Unknown),
                    }
                }
            }
            (VariableSetKind::VAR_SET_MULTI, _) | (_, None) => self.facts.setting("?", Value::Unknown),
            (VariableSetKind::VAR_SET_VALUE, Some(name)) => {
                let mut arguments = set.args().iter();
                let value = arguments.next().and_then(constant).filter(|_| arguments.next().is_none());
                self.facts.setting(name, value.as_deref().map_or(Value::Unknown, Value::Text));
            }
            (_, Some(name)) => self.facts.setting(name, Value::Initial),
        }
    }
}

/// A constant, as the text of a setting's value.
fn constant(node: Node<'_>) -> Option<Cow<'_, str>> {
    let Node::A_Const(constant) = node else { return None };
    match constant.val()? {
        ConstValue::String(text) => Some(text.into()),
        ConstValue::Integer(number) => Some(number.to_string().into()),
        _ => None,
    }
}
