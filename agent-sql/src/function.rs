//! Functions and operators: which ones a statement calls.

use pg_raw_parse::{Node, list::NodeList, nodes::FuncCall, raw::SQLValueFunctionOp};

use crate::{set_config::is_set_config, walk::Walk};

impl<'a> Walk<'a, '_> {
    /// Adds an operator, unless it is one of PostgreSQL's own: anybody can make an operator of any function.
    pub(crate) fn operator(&mut self, name: &NodeList) {
        let schema = name.iter().rev().nth(1).and_then(Node::as_str);
        if schema.is_some_and(|schema| schema != "pg_catalog") {
            self.facts.function("operator:", name);
        }
    }

    /// Adds a function that is called.
    pub(crate) fn call(&mut self, call: &'a FuncCall) {
        self.facts.function("", call.funcname());
        if is_set_config(call) {
            self.set_config(call);
        }
    }

    /// Adds a function that is called without parentheses, such as `current_user`.
    pub(crate) fn value_function(&mut self, op: SQLValueFunctionOp::Type) {
        let name = match op {
            SQLValueFunctionOp::SVFOP_CURRENT_DATE => "current_date",
            SQLValueFunctionOp::SVFOP_CURRENT_TIME | SQLValueFunctionOp::SVFOP_CURRENT_TIME_N => {
                "current_time"
            }
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
        };
        self.facts.functions.push(name.into());
    }
}
