//! Cedar's entities and contexts, made from lineal's own types. What stands here must agree with the schema;
//! a test validates every kind of request against it, so that the hot path need not.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::net::SocketAddr;
use std::str::FromStr as _;

use agent_core::facts::{Action, Relation, Resource, SqlFacts};
use cedar_policy::{Context, Entity, EntityId, EntityTypeName, EntityUid, RestrictedExpression, Schema};

use crate::access::{schema_name, spell, spell_schema};
use crate::subject::Subject;
use crate::tags::Tags;
use crate::time::Clock;
use crate::upstreams::Upstream;

/// The policy engine could not express what it was asked. Whoever gets this denies.
#[derive(Debug, thiserror::Error)]
#[error("the policy engine cannot express {what}: {reason}")]
pub struct EngineError {
    what: &'static str,
    reason: String,
}

impl EngineError {
    pub(crate) fn new(what: &'static str, reason: impl ToString) -> Self {
        Self { what, reason: reason.to_string() }
    }
}

/// The schema's entity types, parsed once, and its actions, each knowing its groups.
#[derive(Debug)]
pub(crate) struct Types {
    upstream: EntityTypeName,
    database: EntityTypeName,
    schema: EntityTypeName,
    table: EntityTypeName,
    endpoint: EntityTypeName,
    actions: HashMap<Action, Entity>,
}

impl Types {
    pub(crate) fn new(schema: &Schema) -> Result<Self, EngineError> {
        let named = |name: &str| {
            EntityTypeName::from_str(name).map_err(|error| EngineError::new("an entity type", error))
        };
        let kind = named("Action")?;
        let declared =
            schema.action_entities().map_err(|error| EngineError::new("the schema's actions", error))?;
        let action = |action: &Action| {
            let entity = declared.get(&uid(&kind, action.name()));
            entity.map(|entity| (*action, entity.clone())).ok_or_else(|| no_action(*action))
        };
        Ok(Self {
            upstream: named("Upstream")?,
            database: named("Database")?,
            schema: named("Schema")?,
            table: named("Table")?,
            endpoint: named("Endpoint")?,
            actions: Action::ALL.iter().map(action).collect::<Result<_, _>>()?,
        })
    }

    pub(crate) fn action(&self, action: Action) -> Result<&Entity, EngineError> {
        self.actions.get(&action).ok_or_else(|| no_action(action))
    }
}

fn no_action(action: Action) -> EngineError {
    EngineError::new("an action", action.name())
}

/// An entity's name of a type and an id.
pub(crate) fn uid(kind: &EntityTypeName, id: &str) -> EntityUid {
    EntityUid::from_type_name_and_id(kind.clone(), EntityId::new(id))
}

/// The resources of one session.
pub(crate) struct Place<'a> {
    pub(crate) types: &'a Types,
    pub(crate) tags: &'a Tags,
    pub(crate) upstream: &'a Upstream,
    pub(crate) database: &'a str,
}

impl Place<'_> {
    pub(crate) fn uid(&self, resource: &Resource) -> EntityUid {
        let kind = match resource {
            Resource::Upstream => &self.types.upstream,
            Resource::Database => &self.types.database,
            Resource::Table(_) => &self.types.table,
        };
        uid(kind, &spell(&self.upstream.name, self.database, resource))
    }

    /// The upstream and the database.
    pub(crate) fn fixed(&self) -> Result<[Entity; 2], EngineError> {
        let (upstream, database) = (self.uid(&Resource::Upstream), self.uid(&Resource::Database));
        let tags = |resource| self.tags.of(&self.upstream.name, self.database, resource);
        Ok([
            entity(
                upstream.clone(),
                vec![
                    ("name", string(&self.upstream.name)),
                    ("protocol", string(self.upstream.protocol.name())),
                    ("tags", strings(tags(&Resource::Upstream))),
                ],
                HashSet::new(),
            )?,
            entity(
                database,
                vec![("name", string(self.database)), ("tags", strings(tags(&Resource::Database)))],
                HashSet::from([upstream]),
            )?,
        ])
    }

    /// A table and the schema it stands in. Both name all their ancestors, so that no closure needs computing.
    pub(crate) fn table(&self, resource: &Resource, relation: &Relation) -> Result<[Entity; 2], EngineError> {
        let above = HashSet::from([self.uid(&Resource::Upstream), self.uid(&Resource::Database)]);
        let schema = uid(&self.types.schema, &spell_schema(&self.upstream.name, self.database, relation));
        let name = schema_name(relation);
        let schema_tags = self.tags.of_schema(&self.upstream.name, self.database, relation);
        let table_tags = self.tags.of(&self.upstream.name, self.database, resource);
        let schema_entity = entity(
            schema.clone(),
            vec![("name", string(&name)), ("tags", strings(schema_tags))],
            above.clone(),
        )?;
        let mut above = above;
        above.insert(schema);
        let table_entity = entity(
            self.uid(resource),
            vec![("name", string(&relation.name)), ("schema", string(&name)), ("tags", strings(table_tags))],
            above,
        )?;
        Ok([schema_entity, table_entity])
    }
}

/// A destination that no upstream declares.
pub(crate) fn endpoint(types: &Types, destination: SocketAddr) -> Result<Entity, EngineError> {
    let attributes = vec![
        ("address", RestrictedExpression::new_ip(destination.ip().to_string())),
        ("port", RestrictedExpression::new_long(destination.port().into())),
    ];
    entity(uid(&types.endpoint, &destination.to_string()), attributes, HashSet::new())
}

/// What a policy reads as `context`.
pub(crate) fn context(
    subject: &Subject,
    sql: Option<RestrictedExpression>,
    now_unix: i64,
    approvals: &[&str],
) -> Result<Context, EngineError> {
    let clock = Clock::at(now_unix);
    let time = record(vec![
        ("unix", RestrictedExpression::new_long(clock.unix)),
        ("hour", RestrictedExpression::new_long(clock.hour)),
        ("minute", RestrictedExpression::new_long(clock.minute)),
        ("weekday", RestrictedExpression::new_long(clock.weekday)),
    ])?;
    let mut pairs = vec![
        ("process".to_owned(), subject.process.clone()),
        ("time".to_owned(), time),
        ("approvals".to_owned(), strings(approvals.iter().copied())),
    ];
    pairs.extend(sql.map(|sql| ("sql".to_owned(), sql)));
    Context::from_pairs(pairs).map_err(|error| EngineError::new("the context", error))
}

/// `context.sql`. SQL of which nothing is known is the worst that it could be.
pub(crate) fn sql(facts: Option<&SqlFacts>, user: &str) -> Result<RestrictedExpression, EngineError> {
    let unknown = SqlFacts {
        statements: u32::MAX,
        has_where: false,
        functions: vec!["?".into()],
        settings: vec!["?".into()],
        alters_reading: None,
        writes_in_cte: true,
    };
    let facts = facts.unwrap_or(&unknown);
    let bare = facts.functions.iter().map(|name| name.rsplit('.').next().unwrap_or(name));
    // PostgreSQL compares the names of settings without regard to case (guc_name_compare).
    let settings: BTreeSet<_> = facts.settings.iter().map(|name| name.to_ascii_lowercase()).collect();
    record(vec![
        ("user", string(user)),
        ("statements", RestrictedExpression::new_long(facts.statements.into())),
        ("hasWhere", RestrictedExpression::new_bool(facts.has_where)),
        ("writesInCte", RestrictedExpression::new_bool(facts.writes_in_cte)),
        ("functions", strings(facts.functions.iter().map(|name| &**name))),
        ("functionNames", strings(bare)),
        ("settings", strings(settings.iter().map(String::as_str))),
    ])
}

fn entity(
    uid: EntityUid,
    attributes: Vec<(&str, RestrictedExpression)>,
    parents: HashSet<EntityUid>,
) -> Result<Entity, EngineError> {
    let attributes = attributes.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
    Entity::new(uid, attributes, parents).map_err(|error| EngineError::new("an entity", error))
}

pub(crate) fn record(fields: Vec<(&str, RestrictedExpression)>) -> Result<RestrictedExpression, EngineError> {
    let fields = fields.into_iter().map(|(name, value)| (name.to_owned(), value));
    RestrictedExpression::new_record(fields).map_err(|error| EngineError::new("a record", error))
}

pub(crate) fn string(text: &str) -> RestrictedExpression {
    RestrictedExpression::new_string(text.to_owned())
}

pub(crate) fn strings<'a>(texts: impl IntoIterator<Item = &'a str>) -> RestrictedExpression {
    RestrictedExpression::new_set(texts.into_iter().map(string))
}
