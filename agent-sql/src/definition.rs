//! Statements that create, alter or drop objects or grant access to them, and the nodes that only these have.
//!
//! Relations are accesses of their own; all other objects count as accesses to the database. A relation that
//! a statement names beside its subject has an access, too: it is read if the statement copies or references
//! it, and altered if it gets a child, a trigger, a rule or a policy.

use agent_core::facts::{Action, Relation};
use pg_raw_parse::{
    Node,
    list::{CastNodeList, NodeList},
    nodes::{
        AlterTableStmt, Constraint, CreateStmt, CreateTrigStmt, DefElem, DropStmt, GrantStmt, IndexStmt,
        RangeVar, RuleStmt,
    },
    raw::{GrantTargetType, ObjectType},
};

use crate::{
    collector::{TEMPORARY_SCHEMA, made_relation, named, relation},
    walk::{Position, Walk},
};

/// What the name of an object, by the object's type, says about a relation.
enum ObjectName {
    /// It is a relation's.
    Relation,
    /// It is a relation's, with the object's own name behind it.
    PartOfRelation,
    /// Nothing.
    Unrelated,
}

impl ObjectName {
    fn of(object_type: ObjectType::Type) -> Self {
        match object_type {
            ObjectType::OBJECT_TABLE
            | ObjectType::OBJECT_VIEW
            | ObjectType::OBJECT_MATVIEW
            | ObjectType::OBJECT_FOREIGN_TABLE
            | ObjectType::OBJECT_SEQUENCE => Self::Relation,
            ObjectType::OBJECT_COLUMN
            | ObjectType::OBJECT_POLICY
            | ObjectType::OBJECT_RULE
            | ObjectType::OBJECT_TABCONSTRAINT
            | ObjectType::OBJECT_TRIGGER => Self::PartOfRelation,
            _ => Self::Unrelated,
        }
    }
}

impl<'a> Walk<'a, '_> {
    /// Adds the facts of a definition, or of a node in one; false if `node` is neither.
    pub(crate) fn definition(&mut self, node: Node<'a>, position: Position) -> bool {
        self.other_object(node)
            || self.creation(node)
            || self.alteration(node)
            || self.removal_or_grant(node)
            || self.publication(node)
            || self.element(node, position)
    }

    /// Statements about objects that are not relations and name none, such as extensions, roles and
    /// databases.
    fn other_object(&mut self, node: Node<'a>) -> bool {
        let action = match node {
            Node::CompositeTypeStmt(_)
            | Node::CreateAmStmt(_)
            | Node::CreateCastStmt(_)
            | Node::CreateConversionStmt(_)
            | Node::CreateEnumStmt(_)
            | Node::CreateEventTrigStmt(_)
            | Node::CreateExtensionStmt(_)
            | Node::CreateFdwStmt(_)
            | Node::CreateForeignServerStmt(_)
            | Node::CreateOpClassStmt(_)
            | Node::CreateOpFamilyStmt(_)
            | Node::CreatePLangStmt(_)
            | Node::CreateRangeStmt(_)
            | Node::CreateSubscriptionStmt(_)
            | Node::CreateTableSpaceStmt(_)
            | Node::CreateTransformStmt(_)
            | Node::CreateUserMappingStmt(_)
            | Node::CreatedbStmt(_)
            | Node::DefineStmt(_) => Action::SqlCreate,
            Node::AlterCollationStmt(_)
            | Node::AlterDatabaseRefreshCollStmt(_)
            | Node::AlterDatabaseStmt(_)
            | Node::AlterEnumStmt(_)
            | Node::AlterEventTrigStmt(_)
            | Node::AlterExtensionStmt(_)
            | Node::AlterFdwStmt(_)
            | Node::AlterForeignServerStmt(_)
            | Node::AlterOpFamilyStmt(_)
            | Node::AlterOperatorStmt(_)
            | Node::AlterStatsStmt(_)
            | Node::AlterSubscriptionStmt(_)
            | Node::AlterTSConfigurationStmt(_)
            | Node::AlterTSDictionaryStmt(_)
            | Node::AlterTableMoveAllStmt(_)
            | Node::AlterTableSpaceOptionsStmt(_)
            | Node::AlterTypeStmt(_)
            | Node::AlterUserMappingStmt(_) => Action::SqlAlter,
            Node::DropOwnedStmt(_)
            | Node::DropSubscriptionStmt(_)
            | Node::DropTableSpaceStmt(_)
            | Node::DropUserMappingStmt(_)
            | Node::DropdbStmt(_) => Action::SqlDrop,
            Node::AlterDefaultPrivilegesStmt(_)
            | Node::AlterRoleStmt(_)
            | Node::CreateRoleStmt(_)
            | Node::DropRoleStmt(_)
            | Node::GrantRoleStmt(_)
            | Node::ReassignOwnedStmt(_) => Action::SqlGrant,
            _ => return false,
        };
        self.facts.database(action);
        true
    }

    /// `CREATE`.
    fn creation(&mut self, node: Node<'a>) -> bool {
        match node {
            Node::CreateStmt(create) => self.create_table(create),
            Node::CreateTableAsStmt(create) => {
                self.facts.creates(create.into().and_then(|into| into.rel()));
                self.push(create.query(), Position::NESTED);
            }
            Node::ViewStmt(view) => {
                self.facts.creates(view.view());
                self.create_lasting(view.view());
                self.push(view.query(), Position::NESTED);
            }
            Node::CreateSeqStmt(create) => {
                self.facts.creates(create.sequence());
            }
            Node::IndexStmt(index) => self.create_index(index),
            Node::CreateStatsStmt(create) => {
                self.facts.database(Action::SqlCreate);
                for table in create.relations() {
                    self.facts.table(Action::SqlSelect, table);
                }
                self.push_all(create.exprs(), Position::NESTED);
            }
            Node::CreateTrigStmt(trigger) => self.create_trigger(trigger),
            Node::RuleStmt(rule) => self.create_rule(rule),
            Node::CreatePolicyStmt(policy) => {
                self.facts.database(Action::SqlCreate);
                self.mention(Action::SqlAlter, policy.table());
                self.push(policy.qual(), Position::NESTED);
                self.push(policy.with_check(), Position::NESTED);
            }
            Node::CreateFunctionStmt(function) => {
                self.facts.database(Action::SqlCreate);
                for parameter in function.parameters() {
                    self.push(parameter.defexpr(), Position::NESTED);
                }
                self.push(function.sql_body(), Position::NESTED);
                self.options_set(function.options());
            }
            Node::CreateSchemaStmt(schema) => {
                self.facts.database(Action::SqlCreate);
                // Names in its elements are looked for in the new schema first.
                if !schema.schema_elts().is_empty() {
                    self.facts.settings.look_in(schema.schemaname());
                }
                self.push_all(schema.schema_elts(), Position::NESTED);
            }
            Node::CreateDomainStmt(domain) => {
                self.facts.database(Action::SqlCreate);
                for constraint in domain.constraints() {
                    self.push(Node::Constraint(constraint), Position::NESTED);
                }
            }
            Node::ImportForeignSchemaStmt(import) => {
                self.facts.database(Action::SqlCreate);
                for table in import.table_list() {
                    self.facts.table(Action::SqlCreate, table);
                }
            }
            _ => return false,
        }
        true
    }

    /// A temporary view changes the tables below it when it is written to, under its own name. So it counts
    /// as more than a temporary object.
    fn create_lasting(&mut self, view: Option<&'a RangeVar>) {
        let schema = view.and_then(|view| made_relation(view).schema);
        if schema.as_deref() == Some(TEMPORARY_SCHEMA) {
            self.facts.database(Action::SqlCreate);
        }
    }

    /// The settings among a function's options.
    fn options_set(&mut self, options: &'a CastNodeList<DefElem>) {
        for option in options {
            if let Node::VariableSetStmt(set) = option.arg() {
                self.set_for_later(Some(set));
            }
        }
    }

    fn create_table(&mut self, create: &'a CreateStmt) {
        self.facts.creates(create.relation());
        self.push_all(create.table_elts(), Position::NESTED);
        for constraint in create.constraints() {
            self.push(Node::Constraint(constraint), Position::NESTED);
        }
        for parent in create.inh_relations() {
            self.target(Action::SqlAlter, parent);
        }
        self.push(create.partbound().map_or(Node::None, Node::PartitionBoundSpec), Position::NESTED);
        self.push(create.partspec().map_or(Node::None, Node::PartitionSpec), Position::NESTED);
    }

    fn create_index(&mut self, index: &'a IndexStmt) {
        self.facts.table_or_database(Action::SqlCreate, index.relation());
        for key in index.index_params() {
            self.push(Node::IndexElem(key), Position::NESTED);
        }
        self.push(index.where_clause(), Position::NESTED);
    }

    fn create_trigger(&mut self, trigger: &'a CreateTrigStmt) {
        self.facts.database(Action::SqlCreate);
        self.mention(Action::SqlAlter, trigger.relation());
        self.mention(Action::SqlAlter, trigger.constrrel());
        self.facts.function("", trigger.funcname());
        self.push(trigger.when_clause(), Position::NESTED);
    }

    fn create_rule(&mut self, rule: &'a RuleStmt) {
        self.facts.database(Action::SqlCreate);
        self.mention(Action::SqlAlter, rule.relation());
        self.push(rule.where_clause(), Position::NESTED);
        self.push_all(rule.actions(), Position::NESTED);
    }

    /// `ALTER`, `COMMENT`, `SECURITY LABEL` and `REFRESH`.
    fn alteration(&mut self, node: Node<'a>) -> bool {
        match node {
            Node::AlterTableStmt(alter) => self.alter_table(alter),
            Node::RenameStmt(rename) => {
                self.alter_object(rename.rename_type, rename.relation(), rename.object());
            }
            Node::AlterObjectSchemaStmt(alter) => {
                self.alter_object(alter.object_type, alter.relation(), alter.object());
            }
            Node::AlterOwnerStmt(alter) => {
                self.alter_object(alter.object_type, alter.relation(), alter.object());
            }
            Node::AlterObjectDependsStmt(alter) => {
                self.alter_object(alter.object_type, alter.relation(), alter.object());
            }
            Node::CommentStmt(comment) => self.alter_object(comment.objtype, None, comment.object()),
            Node::SecLabelStmt(label) => self.alter_object(label.objtype, None, label.object()),
            Node::AlterExtensionContentsStmt(alter) => {
                self.facts.database(Action::SqlAlter);
                self.alter_object(alter.objtype, None, alter.object());
            }
            Node::AlterSeqStmt(alter) => self.facts.table_or_database(Action::SqlAlter, alter.sequence()),
            Node::AlterPolicyStmt(alter) => {
                self.facts.table_or_database(Action::SqlAlter, alter.table());
                self.push(alter.qual(), Position::NESTED);
                self.push(alter.with_check(), Position::NESTED);
            }
            Node::RefreshMatViewStmt(refresh) => {
                self.facts.table_or_database(Action::SqlAlter, refresh.relation());
            }
            Node::AlterDatabaseSetStmt(alter) => {
                self.facts.database(Action::SqlAlter);
                self.set_for_later(alter.setstmt());
            }
            Node::AlterRoleSetStmt(alter) => {
                self.facts.database(Action::SqlGrant);
                self.set_for_later(alter.setstmt());
            }
            Node::AlterFunctionStmt(alter) => {
                self.facts.database(Action::SqlAlter);
                self.options_set(alter.actions());
            }
            Node::AlterDomainStmt(alter) => {
                self.facts.database(Action::SqlAlter);
                self.push(alter.def(), Position::NESTED);
            }
            _ => return false,
        }
        true
    }

    fn alter_table(&mut self, alter: &'a AlterTableStmt) {
        // A composite type is not a relation with rows.
        let table = alter.relation().filter(|_| alter.objtype != ObjectType::OBJECT_TYPE);
        self.facts.table_or_database(Action::SqlAlter, table);
        for command in alter.cmds() {
            match command {
                Node::AlterTableCmd(command) => match command.def() {
                    // The parent in INHERIT and NO INHERIT.
                    Node::RangeVar(parent) => self.facts.table(Action::SqlAlter, parent),
                    def => self.push(def, Position::NESTED),
                },
                _ => self.facts.database(Action::SqlOther),
            }
        }
    }

    /// A change of an object that is named by `table`, or by `object` and its type.
    fn alter_object(&mut self, object_type: ObjectType::Type, table: Option<&'a RangeVar>, object: Node<'a>) {
        let relation = match (table, object) {
            (Some(table), _) if object_type != ObjectType::OBJECT_TYPE => Some(relation(table)),
            (_, Node::NodeList(name)) => subject(object_type, name),
            _ => None,
        };
        match relation {
            Some(relation) => self.facts.relation(Action::SqlAlter, relation),
            None => self.facts.database(Action::SqlAlter),
        }
    }

    /// `DROP`, `GRANT` and `REVOKE` of what may be a relation.
    fn removal_or_grant(&mut self, node: Node<'a>) -> bool {
        match node {
            Node::DropStmt(drop) => self.drop_objects(drop),
            Node::GrantStmt(grant) => self.grant(grant),
            _ => return false,
        }
        true
    }

    /// `DROP`. Dropping a part of a relation, such as a trigger, alters the relation.
    fn drop_objects(&mut self, drop: &'a DropStmt) {
        for object in drop.objects() {
            let object_name = ObjectName::of(drop.remove_type);
            let relation = match object {
                Node::NodeList(name) => subject(drop.remove_type, name),
                _ => None,
            };
            match (object_name, relation) {
                (ObjectName::Relation, Some(relation)) => self.facts.relation(Action::SqlDrop, relation),
                (_, relation) => {
                    self.facts.database(Action::SqlDrop);
                    if let Some(relation) = relation {
                        self.facts.relation(Action::SqlAlter, relation);
                    }
                }
            }
        }
    }

    fn grant(&mut self, grant: &'a GrantStmt) {
        let relations = matches!(grant.objtype, ObjectType::OBJECT_TABLE | ObjectType::OBJECT_SEQUENCE);
        if grant.targtype != GrantTargetType::ACL_TARGET_OBJECT || !relations {
            // The objects are not relations, although the bindings give them as such.
            self.facts.database(Action::SqlGrant);
            return;
        }
        for table in grant.objects() {
            self.facts.table(Action::SqlGrant, table);
        }
    }

    /// Publications, and the tables in them.
    fn publication(&mut self, node: Node<'a>) -> bool {
        match node {
            Node::CreatePublicationStmt(create) => {
                self.facts.database(Action::SqlCreate);
                self.push_all(create.pubobjects(), Position::NESTED);
            }
            Node::AlterPublicationStmt(alter) => {
                self.facts.database(Action::SqlAlter);
                self.push_all(alter.pubobjects(), Position::NESTED);
            }
            Node::PublicationObjSpec(object) => {
                self.push(object.pubtable().map_or(Node::None, Node::PublicationTable), Position::NESTED);
            }
            // A publication sends every change of the table to its subscribers: that reads it.
            Node::PublicationTable(published) => {
                self.mention(Action::SqlSelect, published.relation());
                self.push(published.where_clause(), Position::NESTED);
            }
            _ => return false,
        }
        true
    }

    /// The nodes that definitions are made of.
    fn element(&mut self, node: Node<'a>, position: Position) -> bool {
        match node {
            Node::ColumnDef(column) => {
                self.push(column.type_name().map_or(Node::None, Node::TypeName), position);
                self.push(column.raw_default(), position);
                self.push_all(column.constraints(), position);
            }
            Node::Constraint(constraint) => self.constraint(constraint, position),
            Node::TableLikeClause(like) => self.mention(Action::SqlSelect, like.relation()),
            Node::PartitionCmd(partition) => {
                self.mention(Action::SqlAlter, partition.name());
                self.push(partition.bound().map_or(Node::None, Node::PartitionBoundSpec), position);
            }
            Node::PartitionSpec(partition) => {
                for key in partition.part_params() {
                    self.push(key.expr(), position);
                }
            }
            Node::PartitionBoundSpec(bound) => {
                self.push_all(bound.listdatums(), position);
                self.push_all(bound.lowerdatums(), position);
                self.push_all(bound.upperdatums(), position);
            }
            Node::StatsElem(element) => self.push(element.expr(), position),
            Node::ReturnStmt(result) => self.push(result.returnval(), position),
            Node::ATAlterConstraint(_)
            | Node::DefElem(_)
            | Node::ReplicaIdentityStmt(_)
            | Node::RoleSpec(_) => {}
            _ => return false,
        }
        true
    }

    fn constraint(&mut self, constraint: &'a Constraint, position: Position) {
        self.push(constraint.raw_expr(), position);
        self.push(constraint.where_clause(), position);
        self.mention(Action::SqlSelect, constraint.pktable());
        for exclusion in constraint.exclusions() {
            self.push(exclusion, position);
        }
    }
}

/// The relation that an object is, or belongs to, by its type and name.
fn subject(object_type: ObjectType::Type, name: &NodeList) -> Option<Relation> {
    match ObjectName::of(object_type) {
        ObjectName::Relation => named(name, 0),
        ObjectName::PartOfRelation => named(name, 1),
        ObjectName::Unrelated => None,
    }
}
