//! Statements about the session: settings, transactions, cursors, notification channels and prepared
//! statements. Their accesses are all to the database.

use std::borrow::Cow;

use agent_core::facts::Action;
use pg_raw_parse::{ConstValue, Node, nodes::VariableSetStmt, raw::VariableSetKind};

use crate::{
    nodes::is_transaction_control,
    settings::{UNTOLD, Value},
    walk::Walk,
};

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
            (VariableSetKind::VAR_RESET_ALL, _) => self.facts.setting("all", &Value::Initial),
            (VariableSetKind::VAR_SET_MULTI, Some("TRANSACTION" | "TRANSACTION SNAPSHOT")) => {
                self.facts.database(Action::SqlTransaction);
            }
            (VariableSetKind::VAR_SET_MULTI, Some("SESSION CHARACTERISTICS")) => {
                for mode in set.args() {
                    match mode {
                        Node::DefElem(mode) => {
                            let name = mode.defname().unwrap_or(UNTOLD);
                            self.facts.setting(&format!("default_{name}"), &Value::Unknown);
                        }
                        _ => self.facts.setting(UNTOLD, &Value::Unknown),
                    }
                }
            }
            (VariableSetKind::VAR_SET_MULTI, _) | (_, None) => self.facts.setting(UNTOLD, &Value::Unknown),
            (VariableSetKind::VAR_SET_VALUE, Some(name)) => {
                let words: Option<Vec<_>> = set.args().iter().map(constant).collect();
                self.facts.setting(name, &words.map_or(Value::Unknown, Value::Words));
            }
            (_, Some(name)) => self.facts.setting(name, &Value::Initial),
        }
    }

    /// `SET` as a part of a definition: it is in force for later sessions, or while a function runs. Text
    /// that this session sends is read as before.
    pub(crate) fn set_for_later(&mut self, set: Option<&'a VariableSetStmt>) {
        let Some(set) = set else { return };
        let before = self.facts.settings.alters_reading.take();
        self.set(set);
        self.facts.settings.alters_reading = before;
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
