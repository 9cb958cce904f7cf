//! Every statement that is no query: what it does, and to what. A type that isn't listed is
//! [`Action::SqlOther`].

use agent_core::facts::Action;
use pg_raw_parse::{
    Node,
    nodes::{CopyStmt, DefElem, DropStmt, ExplainStmt, PrepareStmt, RangeVar, VariableSetStmt},
    raw::{ObjectType, TransactionStmtKind, VariableSetKind},
};

use crate::{
    gather::Gathered,
    query::{function, visit},
};

/// Takes in one statement of a text.
pub fn top(found: &mut Gathered, node: Node<'_>) {
    found.statement();
    statement(found, node);
}

fn statement(found: &mut Gathered, node: Node<'_>) {
    use Action as A;
    match node {
        Node::SelectStmt(_)
        | Node::InsertStmt(_)
        | Node::UpdateStmt(_)
        | Node::DeleteStmt(_)
        | Node::MergeStmt(_) => visit(found, node),

        Node::ExplainStmt(explain) => self::explain(found, explain),
        Node::VariableShowStmt(_) => found.database(A::SqlShow),
        Node::DeclareCursorStmt(cursor) => visit(found, cursor.query()),
        Node::FetchStmt(_) => found.database(A::SqlFetch),
        Node::CopyStmt(copy) => self::copy(found, copy),

        Node::TransactionStmt(transaction) => match transaction.kind {
            TransactionStmtKind::TRANS_STMT_PREPARE
            | TransactionStmtKind::TRANS_STMT_COMMIT_PREPARED
            | TransactionStmtKind::TRANS_STMT_ROLLBACK_PREPARED => found.database(A::SqlOther),
            _ => found.database(A::SqlTransaction),
        },
        Node::ConstraintsSetStmt(_) => found.database(A::SqlTransaction),
        Node::PrepareStmt(prepare) => self::prepare(found, prepare),
        Node::ExecuteStmt(execute) => {
            found.database(A::SqlExecute);
            found.execute(execute.name().unwrap_or_default());
            execute.params().iter().for_each(|parameter| visit(found, parameter));
        }
        Node::DeallocateStmt(deallocate) => {
            found.database(A::SqlDiscard);
            found.deallocate(deallocate.name());
        }
        Node::DiscardStmt(_) => {
            found.database(A::SqlDiscard);
            found.deallocate(None);
        }
        Node::ClosePortalStmt(_) | Node::UnlistenStmt(_) => found.database(A::SqlDiscard),
        Node::ListenStmt(_) | Node::NotifyStmt(_) => found.database(A::SqlNotify),
        Node::VariableSetStmt(set) => self::set(found, set),
        Node::LockStmt(lock) => tables(found, A::SqlLock, lock.relations().iter()),
        Node::TruncateStmt(truncate) => tables(found, A::SqlTruncate, truncate.relations().iter()),

        Node::DoStmt(_) => found.database(A::SqlCall),
        Node::CallStmt(call) => {
            found.database(A::SqlCall);
            if let Some(called) = call.funccall() {
                function(found, called);
                called.args().iter().for_each(|argument| visit(found, argument));
            }
        }

        Node::CreateTableAsStmt(create) => {
            table(found, A::SqlCreate, create.into().and_then(|into| into.rel()));
            statement_inside(found, create.query());
        }
        Node::ViewStmt(view) => {
            table(found, A::SqlCreate, view.view());
            visit_inside(found, view.query());
        }
        Node::CreateStmt(create) => {
            table(found, A::SqlCreate, create.relation());
            tables(found, A::SqlAlter, create.inh_relations().iter());
        }
        Node::IndexStmt(index) => table(found, A::SqlCreate, index.relation()),
        Node::RuleStmt(rule) => {
            table(found, A::SqlCreate, rule.relation());
            rule.actions().iter().for_each(|action| visit_inside(found, action));
        }
        Node::CreateTrigStmt(trigger) => table(found, A::SqlCreate, trigger.relation()),
        Node::CreatePolicyStmt(policy) => table(found, A::SqlCreate, policy.table()),
        Node::CreateFunctionStmt(_)
        | Node::CreateExtensionStmt(_)
        | Node::CreateSchemaStmt(_)
        | Node::CreateSeqStmt(_)
        | Node::CreateDomainStmt(_)
        | Node::CreateEnumStmt(_)
        | Node::CreateRangeStmt(_)
        | Node::CompositeTypeStmt(_)
        | Node::CreateCastStmt(_)
        | Node::CreateConversionStmt(_)
        | Node::CreateTransformStmt(_)
        | Node::CreateOpClassStmt(_)
        | Node::CreateOpFamilyStmt(_)
        | Node::CreateStatsStmt(_)
        | Node::CreateEventTrigStmt(_)
        | Node::CreatePLangStmt(_)
        | Node::CreateAmStmt(_)
        | Node::CreateFdwStmt(_)
        | Node::CreateForeignServerStmt(_)
        | Node::CreateUserMappingStmt(_)
        | Node::CreatePublicationStmt(_)
        | Node::CreateSubscriptionStmt(_)
        | Node::CreateTableSpaceStmt(_)
        | Node::CreatedbStmt(_)
        | Node::DefineStmt(_)
        | Node::ImportForeignSchemaStmt(_) => found.database(A::SqlCreate),

        Node::AlterTableStmt(alter) => table(found, A::SqlAlter, alter.relation()),
        Node::RenameStmt(rename) => match rename.relation() {
            Some(relation) => found.table(A::SqlAlter, relation),
            None => found.database(A::SqlAlter),
        },
        Node::AlterObjectSchemaStmt(alter) => match alter.relation() {
            Some(relation) => found.table(A::SqlAlter, relation),
            None => found.database(A::SqlAlter),
        },
        Node::RefreshMatViewStmt(refresh) => table(found, A::SqlAlter, refresh.relation()),
        Node::AlterPolicyStmt(policy) => table(found, A::SqlAlter, policy.table()),
        Node::CommentStmt(_)
        | Node::SecLabelStmt(_)
        | Node::AlterOwnerStmt(_)
        | Node::AlterSeqStmt(_)
        | Node::AlterFunctionStmt(_)
        | Node::AlterDomainStmt(_)
        | Node::AlterEnumStmt(_)
        | Node::AlterTypeStmt(_)
        | Node::AlterStatsStmt(_)
        | Node::AlterCollationStmt(_)
        | Node::AlterOperatorStmt(_)
        | Node::AlterOpFamilyStmt(_)
        | Node::AlterExtensionStmt(_)
        | Node::AlterExtensionContentsStmt(_)
        | Node::AlterFdwStmt(_)
        | Node::AlterForeignServerStmt(_)
        | Node::AlterUserMappingStmt(_)
        | Node::AlterEventTrigStmt(_)
        | Node::AlterPublicationStmt(_)
        | Node::AlterSubscriptionStmt(_)
        | Node::AlterTableMoveAllStmt(_)
        | Node::AlterTableSpaceOptionsStmt(_)
        | Node::AlterTSDictionaryStmt(_)
        | Node::AlterTSConfigurationStmt(_)
        | Node::AlterObjectDependsStmt(_)
        | Node::AlterDatabaseStmt(_)
        | Node::AlterDatabaseSetStmt(_)
        | Node::AlterDatabaseRefreshCollStmt(_)
        | Node::ReplicaIdentityStmt(_) => found.database(A::SqlAlter),

        Node::DropStmt(drop) => self::drop(found, drop),
        Node::DropdbStmt(_)
        | Node::DropOwnedStmt(_)
        | Node::DropSubscriptionStmt(_)
        | Node::DropTableSpaceStmt(_)
        | Node::DropUserMappingStmt(_) => found.database(A::SqlDrop),

        Node::GrantStmt(_)
        | Node::GrantRoleStmt(_)
        | Node::AlterDefaultPrivilegesStmt(_)
        | Node::CreateRoleStmt(_)
        | Node::AlterRoleStmt(_)
        | Node::AlterRoleSetStmt(_)
        | Node::DropRoleStmt(_)
        | Node::ReassignOwnedStmt(_) => found.database(A::SqlGrant),

        Node::VacuumStmt(_) | Node::ClusterStmt(_) | Node::ReindexStmt(_) | Node::CheckPointStmt(_) => {
            found.database(A::SqlMaintenance);
        }
        Node::AlterSystemStmt(_) | Node::LoadStmt(_) => found.database(A::SqlServer),
        _ => found.database(A::SqlOther),
    }
}

/// A statement that stands inside another and runs with it.
fn statement_inside(found: &mut Gathered, node: Node<'_>) {
    found.nesting += 1;
    statement(found, node);
    found.nesting -= 1;
}

fn visit_inside(found: &mut Gathered, node: Node<'_>) {
    found.nesting += 1;
    visit(found, node);
    found.nesting -= 1;
}

/// Without `ANALYZE` nothing runs, but the plan tells about every relation in it.
fn explain(found: &mut Gathered, explain: &ExplainStmt) {
    found.database(Action::SqlExplain);
    if explain.options().iter().any(|option| option.defname() == Some("analyze") && !is_off(option)) {
        return statement(found, explain.query());
    }
    let mut planned = Gathered::default();
    statement(&mut planned, explain.query());
    for access in planned.facts().accesses {
        found.planned(&access);
    }
    found.functions_of(&planned);
}

/// Whether an option's value is one of those that PostgreSQL reads as false (`defGetBoolean`).
fn is_off(option: &DefElem) -> bool {
    match option.arg() {
        Node::Integer(number) => number.ival == 0,
        Node::Boolean(value) => !value.boolval,
        Node::String(text) => {
            text.sval().is_some_and(|text| ["false", "off"].contains(&text.to_ascii_lowercase().as_str()))
        }
        _ => false,
    }
}

/// Everything the prepared statement does counts now, and again wherever it is executed.
fn prepare(found: &mut Gathered, prepare: &PrepareStmt) {
    let mut inner = Gathered::default();
    top(&mut inner, prepare.query());
    found.database(Action::SqlPrepare);
    found.absorb(&inner);
    found.prepare(prepare.name().unwrap_or_default(), inner.facts());
}

fn copy(found: &mut Gathered, copy: &CopyStmt) {
    if copy.filename().is_some() || copy.is_program {
        found.database(Action::SqlServer);
    }
    if copy.is_from {
        return table(found, Action::SqlCopyIn, copy.relation());
    }
    match copy.relation() {
        Some(relation) => {
            found.table(Action::SqlCopyOut, relation);
            found.table(Action::SqlSelect, relation);
        }
        None => {
            found.database(Action::SqlCopyOut);
            statement_inside(found, copy.query());
        }
    }
}

fn set(found: &mut Gathered, set: &VariableSetStmt) {
    match set.kind {
        VariableSetKind::VAR_SET_MULTI => match set.name() {
            Some("TRANSACTION") => found.database(Action::SqlTransaction),
            Some(name) => found.setting(name),
            None => found.setting("?"),
        },
        VariableSetKind::VAR_RESET_ALL => found.setting("all"),
        _ => found.setting(set.name().unwrap_or("?")),
    }
}

fn drop(found: &mut Gathered, drop: &DropStmt) {
    let relations = [
        ObjectType::OBJECT_TABLE,
        ObjectType::OBJECT_VIEW,
        ObjectType::OBJECT_MATVIEW,
        ObjectType::OBJECT_FOREIGN_TABLE,
    ];
    // A rule, trigger or policy is named behind its table.
    if relations.contains(&drop.remove_type) {
        drop.objects().iter().for_each(|object| found.table_named(Action::SqlDrop, object));
    } else {
        found.database(Action::SqlDrop);
    }
}

fn table(found: &mut Gathered, action: Action, relation: Option<&RangeVar>) {
    match relation {
        Some(relation) => found.table(action, relation),
        None => found.database(Action::SqlOther),
    }
}

fn tables<'a>(found: &mut Gathered, action: Action, relations: impl Iterator<Item = Node<'a>>) {
    for relation in relations {
        match relation {
            Node::RangeVar(relation) => found.table(action, relation),
            _ => found.database(Action::SqlOther),
        }
    }
}
