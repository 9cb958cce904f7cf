//! The kinds of nodes, where the kind alone matters: mostly of nodes that have no facts of their own. Every
//! node of the grammar is here, or is handled in [`crate::walk`] or [`crate::utility`], or is `sql:other`.

use pg_raw_parse::{Node, raw::TransactionStmtKind};

/// Whether neither `node` nor anything below it names a relation or a function.
pub(crate) fn names_nothing(node: Node<'_>) -> bool {
    matches!(
        node,
        Node::Alias(_)
            | Node::A_Const(_)
            | Node::A_Star(_)
            | Node::BitString(_)
            | Node::Boolean(_)
            | Node::CurrentOfExpr(_)
            | Node::Float(_)
            | Node::Integer(_)
            | Node::JsonFormat(_)
            | Node::ReturningOption(_)
            | Node::SetToDefault(_)
            | Node::String(_)
    )
}

/// Whether all facts of `node` are those of the nodes below it, which PostgreSQL's own walker finds.
pub(crate) fn is_transparent(node: Node<'_>) -> bool {
    matches!(
        node,
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
            | Node::XmlSerialize(_)
    )
}

/// Whether a statement begins, ends or divides a transaction of the session.
pub(crate) fn is_transaction_control(statement: Node<'_>) -> bool {
    let Node::TransactionStmt(transaction) = statement else { return false };
    matches!(
        transaction.kind,
        TransactionStmtKind::TRANS_STMT_BEGIN
            | TransactionStmtKind::TRANS_STMT_START
            | TransactionStmtKind::TRANS_STMT_COMMIT
            | TransactionStmtKind::TRANS_STMT_ROLLBACK
            | TransactionStmtKind::TRANS_STMT_SAVEPOINT
            | TransactionStmtKind::TRANS_STMT_RELEASE
            | TransactionStmtKind::TRANS_STMT_ROLLBACK_TO
    )
}
