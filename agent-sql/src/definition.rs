//! Statements that define, change, remove or hand out objects, and the nodes that only these have.
//!
//! A relation that a definition names beside its subject appears as well: read, when it is copied or referred to, and
//! altered, when it gets a new child.

use agent_core::facts::{Action, Relation};
use pg_raw_parse::Node;
use pg_raw_parse::list::NodeList;
use pg_raw_parse::nodes::{
    AlterTableStmt, Constraint, CreateStmt, CreateTrigStmt, DropStmt, GrantStmt, IndexStmt, RangeVar,
    RuleStmt,
};
use pg_raw_parse::raw::{GrantTargetType, ObjectType};

use crate::collector::named;
use crate::query::{Place, Walk};

/// What the name of an object of some type says about a relation.
enum Names {
    /// It is one.
    Relation,
    /// It belongs to one: the last part is its own.
    Part,
    /// Nothing.
    Nothing,
}

impl Names {
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
            | ObjectType::OBJECT_TRIGGER => Self::Part,
            _ => Self::Nothing,
        }
    }
}

impl<'a> Walk<'a, '_> {
    /// Adds the facts of a definition, or of a node inside one; false when `node` is neither.
    pub(crate) fn definition(&mut self, node: Node<'a>, place: Place) -> bool {
        self.creation(node)
            || self.alteration(node)
            || self.removal_or_grant(node)
            || self.publication(node)
            || self.element(node, place)
    }

    fn creation(&mut self, node: Node<'a>) -> bool {
        match node {
            Node::CreateStmt(create) => self.create_table(create),
            Node::CreateTableAsStmt(create) => {
                self.facts.table_or_database(Action::SqlCreate, create.into().and_then(|into| into.rel()));
                self.push(create.query(), Place::NESTED);
            }
            Node::ViewStmt(view) => {
                self.facts.table_or_database(Action::SqlCreate, view.view());
                self.push(view.query(), Place::NESTED);
            }
            Node::CreateSeqStmt(create) => {
                self.facts.table_or_database(Action::SqlCreate, create.sequence());
            }
            Node::IndexStmt(index) => self.create_index(index),
            Node::CreateStatsStmt(create) => {
                self.facts.database(Action::SqlCreate);
                for table in create.relations() {
                    self.facts.table(Action::SqlSelect, table);
                }
                self.push_all(create.exprs(), Place::NESTED);
            }
            Node::CreateTrigStmt(trigger) => self.create_trigger(trigger),
            Node::RuleStmt(rule) => self.create_rule(rule),
            Node::CreatePolicyStmt(policy) => {
                self.facts.database(Action::SqlCreate);
                self.mention(Action::SqlAlter, policy.table());
                self.push(policy.qual(), Place::NESTED);
                self.push(policy.with_check(), Place::NESTED);
            }
            Node::CreateFunctionStmt(function) => {
                self.facts.database(Action::SqlCreate);
                for parameter in function.parameters() {
                    self.push(parameter.defexpr(), Place::NESTED);
                }
                self.push(function.sql_body(), Place::NESTED);
            }
            Node::CreateSchemaStmt(schema) => {
                self.facts.database(Action::SqlCreate);
                self.push_all(schema.schema_elts(), Place::NESTED);
            }
            Node::CreateDomainStmt(domain) => {
                self.facts.database(Action::SqlCreate);
                for constraint in domain.constraints() {
                    self.push(Node::Constraint(constraint), Place::NESTED);
                }
            }
            Node::ImportForeignSchemaStmt(import) => {
                self.facts.database(Action::SqlCreate);
                for table in import.table_list() {
                    self.facts.table(Action::SqlCreate, table);
                }
            }
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
            | Node::DefineStmt(_) => self.facts.database(Action::SqlCreate),
            _ => return false,
        }
        true
    }

    fn create_table(&mut self, create: &'a CreateStmt) {
        self.facts.table_or_database(Action::SqlCreate, create.relation());
        self.push_all(create.table_elts(), Place::NESTED);
        for constraint in create.constraints() {
            self.push(Node::Constraint(constraint), Place::NESTED);
        }
        for parent in create.inh_relations() {
            self.target(Action::SqlAlter, parent);
        }
        self.push(create.partbound().map_or(Node::None, Node::PartitionBoundSpec), Place::NESTED);
        self.push(create.partspec().map_or(Node::None, Node::PartitionSpec), Place::NESTED);
    }

    fn create_index(&mut self, index: &'a IndexStmt) {
        self.facts.table_or_database(Action::SqlCreate, index.relation());
        for key in index.index_params() {
            self.push(Node::IndexElem(key), Place::NESTED);
        }
        self.push(index.where_clause(), Place::NESTED);
    }

    fn create_trigger(&mut self, trigger: &'a CreateTrigStmt) {
        self.facts.database(Action::SqlCreate);
        self.mention(Action::SqlAlter, trigger.relation());
        self.mention(Action::SqlAlter, trigger.constrrel());
        self.facts.function("", trigger.funcname());
        self.push(trigger.when_clause(), Place::NESTED);
    }

    fn create_rule(&mut self, rule: &'a RuleStmt) {
        self.facts.database(Action::SqlCreate);
        self.mention(Action::SqlAlter, rule.relation());
        self.push(rule.where_clause(), Place::NESTED);
        self.push_all(rule.actions(), Place::NESTED);
    }

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
                self.push(alter.qual(), Place::NESTED);
                self.push(alter.with_check(), Place::NESTED);
            }
            Node::RefreshMatViewStmt(refresh) => {
                self.facts.table_or_database(Action::SqlAlter, refresh.relation());
            }
            Node::AlterDomainStmt(alter) => {
                self.facts.database(Action::SqlAlter);
                self.push(alter.def(), Place::NESTED);
            }
            Node::AlterCollationStmt(_)
            | Node::AlterDatabaseRefreshCollStmt(_)
            | Node::AlterDatabaseSetStmt(_)
            | Node::AlterDatabaseStmt(_)
            | Node::AlterEnumStmt(_)
            | Node::AlterEventTrigStmt(_)
            | Node::AlterExtensionStmt(_)
            | Node::AlterFdwStmt(_)
            | Node::AlterForeignServerStmt(_)
            | Node::AlterFunctionStmt(_)
            | Node::AlterOpFamilyStmt(_)
            | Node::AlterOperatorStmt(_)
            | Node::AlterStatsStmt(_)
            | Node::AlterSubscriptionStmt(_)
            | Node::AlterTSConfigurationStmt(_)
            | Node::AlterTSDictionaryStmt(_)
            | Node::AlterTableMoveAllStmt(_)
            | Node::AlterTableSpaceOptionsStmt(_)
            | Node::AlterTypeStmt(_)
            | Node::AlterUserMappingStmt(_) => self.facts.database(Action::SqlAlter),
            _ => return false,
        }
        true
    }

    fn alter_table(&mut self, alter: &'a AlterTableStmt) {
        // A composite type's name is no relation that holds rows.
        let table = alter.relation().filter(|_| alter.objtype != ObjectType::OBJECT_TYPE);
        self.facts.table_or_database(Action::SqlAlter, table);
        for command in alter.cmds() {
            match command {
                Node::AlterTableCmd(command) => match command.def() {
                    // INHERIT and NO INHERIT.
                    Node::RangeVar(parent) => self.facts.table(Action::SqlAlter, parent),
                    def => self.push(def, Place::NESTED),
                },
                _ => self.facts.database(Action::SqlOther),
            }
        }
    }

    fn alter_object(&mut self, object_type: ObjectType::Type, table: Option<&'a RangeVar>, object: Node<'a>) {
        let relation = match (table, object) {
            (Some(table), _) if object_type != ObjectType::OBJECT_TYPE => {
                Some(crate::collector::relation(table))
            }
            (_, Node::NodeList(name)) => subject(object_type, name),
            _ => None,
        };
        match relation {
            Some(relation) => self.facts.relation(Action::SqlAlter, relation),
            None => self.facts.database(Action::SqlAlter),
        }
    }

    fn removal_or_grant(&mut self, node: Node<'a>) -> bool {
        match node {
            Node::DropStmt(drop) => self.drop_objects(drop),
            Node::DropOwnedStmt(_)
            | Node::DropSubscriptionStmt(_)
            | Node::DropTableSpaceStmt(_)
            | Node::DropUserMappingStmt(_)
            | Node::DropdbStmt(_) => self.facts.database(Action::SqlDrop),
            Node::GrantStmt(grant) => self.grant(grant),
            Node::AlterDefaultPrivilegesStmt(_)
            | Node::AlterRoleSetStmt(_)
            | Node::AlterRoleStmt(_)
            | Node::CreateRoleStmt(_)
            | Node::DropRoleStmt(_)
            | Node::GrantRoleStmt(_)
            | Node::ReassignOwnedStmt(_) => self.facts.database(Action::SqlGrant),
            _ => return false,
        }
        true
    }

    fn drop_objects(&mut self, drop: &'a DropStmt) {
        for object in drop.objects() {
            let names = Names::of(drop.remove_type);
            let relation = match object {
                Node::NodeList(name) => subject(drop.remove_type, name),
                _ => None,
            };
            match (names, relation) {
                (Names::Relation, Some(relation)) => self.facts.relation(Action::SqlDrop, relation),
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
            // The objects are no relations, whatever the bindings call them.
            self.facts.database(Action::SqlGrant);
            return;
        }
        for table in grant.objects() {
            self.facts.table(Action::SqlGrant, table);
        }
    }

    fn publication(&mut self, node: Node<'a>) -> bool {
        match node {
            Node::CreatePublicationStmt(create) => {
                self.facts.database(Action::SqlCreate);
                self.push_all(create.pubobjects(), Place::NESTED);
            }
            Node::AlterPublicationStmt(alter) => {
                self.facts.database(Action::SqlAlter);
                self.push_all(alter.pubobjects(), Place::NESTED);
            }
            Node::PublicationObjSpec(object) => {
                self.push(object.pubtable().map_or(Node::None, Node::PublicationTable), Place::NESTED);
            }
            // Every change of the table leaves through it.
            Node::PublicationTable(published) => {
                self.mention(Action::SqlSelect, published.relation());
                self.push(published.where_clause(), Place::NESTED);
            }
            _ => return false,
        }
        true
    }

    /// The nodes of which definitions are made.
    fn element(&mut self, node: Node<'a>, place: Place) -> bool {
        match node {
            Node::ColumnDef(column) => {
                self.push(column.type_name().map_or(Node::None, Node::TypeName), place);
                self.push(column.raw_default(), place);
                self.push_all(column.constraints(), place);
            }
            Node::Constraint(constraint) => self.constraint(constraint, place),
            Node::TableLikeClause(like) => self.mention(Action::SqlSelect, like.relation()),
            Node::PartitionCmd(partition) => {
                self.mention(Action::SqlAlter, partition.name());
                self.push(partition.bound().map_or(Node::None, Node::PartitionBoundSpec), place);
            }
            Node::PartitionSpec(partition) => {
                for key in partition.part_params() {
                    self.push(key.expr(), place);
                }
            }
            Node::PartitionBoundSpec(bound) => {
                self.push_all(bound.listdatums(), place);
                self.push_all(bound.lowerdatums(), place);
                self.push_all(bound.upperdatums(), place);
            }
            Node::StatsElem(element) => self.push(element.expr(), place),
            Node::ReturnStmt(result) => self.push(result.returnval(), place),
            Node::ATAlterConstraint(_)
            | Node::DefElem(_)
            | Node::ReplicaIdentityStmt(_)
            | Node::RoleSpec(_) => {}
            _ => return false,
        }
        true
    }

    fn constraint(&mut self, constraint: &'a Constraint, place: Place) {
        self.push(constraint.raw_expr(), place);
        self.push(constraint.where_clause(), place);
        self.mention(Action::SqlSelect, constraint.pktable());
        for exclusion in constraint.exclusions() {
            self.push(exclusion, place);
        }
    }
}

/// The relation that an object of some type is, or belongs to.
fn subject(object_type: ObjectType::Type, name: &NodeList) -> Option<Relation> {
    match Names::of(object_type) {
        Names::Relation => named(name, 0),
        Names::Part => named(name, 1),
        Names::Nothing => None,
    }
}
