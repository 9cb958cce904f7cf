//! What policies can say: the schema that they are validated against, and the entities and contexts that
//! requests are made of. Both must agree: in tests every request is validated against the schema, so that the
//! hot path need not.
//!
//! This file holds the one match over protocols. What a protocol adds stands in a file of its own beside it
//! ([`sql`]), with its part of the schema.

pub(crate) mod key;
mod spelling;
mod sql;
#[cfg(test)]
mod tests;
pub(crate) mod value;

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    fmt::Write as _,
    net::SocketAddr,
};

use agent_core::{
    facts::{Action, Facts, Family, Resource},
    target::Scope,
};
use cedar_policy::{Context, Entity, EntityTypeName, EntityUid, RestrictedExpression, Schema};

use self::{
    key::Key,
    sql::SqlScope,
    value::{EngineError, entity, entity_type, record, string, strings, uid},
};
use crate::{
    bundle::{tags::Tags, upstreams::Upstream},
    time::Clock,
};

/// Entity and context types that every protocol shares.
const BASE_SCHEMA: &str = include_str!("base.cedarschema");

/// The schema of policies as Cedar schema text, for `lineal policy` and for editors.
pub fn schema_text() -> String {
    let mut text = [BASE_SCHEMA, sql::SCHEMA].concat();
    text.push_str("\n// Every action that any protocol's facts can hold, in its group.\n");
    // Writing to a String cannot fail, here and below.
    for root in Family::ALL.iter().map(|family| family.root()).filter(|root| !root.is_empty()) {
        let _ = writeln!(text, "action \"{root}\";");
    }
    let groups: BTreeSet<_> = Action::ALL.iter().map(|a| (a.group(), a.family().root())).collect();
    for (group, root) in groups.into_iter().filter(|(group, root)| !group.is_empty() && group != root) {
        let _ = writeln!(text, "action \"{group}\" in [\"{root}\"];");
    }
    for action in Action::ALL {
        let (name, applies_to) = (action.name(), applies_to(action.family()));
        let _ = match action.group() {
            "" => writeln!(text, "action \"{name}\" appliesTo {{ principal: [Job], {applies_to} }};"),
            group => {
                writeln!(
                    text,
                    "action \"{name}\" in [\"{group}\"] appliesTo {{ principal: [Job], {applies_to} }};"
                )
            }
        };
    }
    text
}

/// The resources and the context of a family's actions, in the schema's notation.
const fn applies_to(family: Family) -> &'static str {
    match family {
        Family::Connection => "resource: [Upstream, Endpoint], context: Context",
        Family::Sql => sql::APPLIES_TO,
    }
}

/// The schema's entity types, parsed once, and its actions, each with its groups.
#[derive(Debug)]
pub(crate) struct Vocabulary {
    upstream: EntityTypeName,
    endpoint: EntityTypeName,
    sql: sql::Types,
    actions: HashMap<Action, Entity>,
}

impl Vocabulary {
    pub(crate) fn new(schema: &Schema) -> Result<Self, EngineError> {
        let kind = entity_type("Action")?;
        let declared =
            schema.action_entities().map_err(|error| EngineError::new("the schema's actions", error))?;
        let action = |action: &Action| {
            let entity = declared.get(&uid(&kind, action.name()));
            entity.map(|entity| (*action, entity.clone())).ok_or_else(|| unknown_action(*action))
        };
        Ok(Self {
            upstream: entity_type("Upstream")?,
            endpoint: entity_type("Endpoint")?,
            sql: sql::Types::new()?,
            actions: Action::ALL.iter().map(action).collect::<Result<_, _>>()?,
        })
    }

    pub(crate) fn action(&self, action: Action) -> Result<&Entity, EngineError> {
        self.actions.get(&action).ok_or_else(|| unknown_action(action))
    }

    /// A destination that no upstream declares.
    pub(crate) fn endpoint(&self, destination: SocketAddr) -> Result<Entity, EngineError> {
        let attributes = vec![
            ("address", RestrictedExpression::new_ip(destination.ip().to_string())),
            ("port", RestrictedExpression::new_long(destination.port().into())),
        ];
        entity(uid(&self.endpoint, &destination.to_string()), attributes, HashSet::new())
    }
}

fn unknown_action(action: Action) -> EngineError {
    EngineError::new("an action", action.name())
}

/// The resources of one session, as policies name them.
pub(crate) struct Resources<'a> {
    pub(crate) vocabulary: &'a Vocabulary,
    pub(crate) tags: &'a Tags,
    pub(crate) upstream: &'a Upstream,
    pub(crate) scope: &'a Scope,
}

impl Resources<'_> {
    /// The name that policies, decisions and the trail know a resource by.
    pub(crate) fn spell(&self, resource: &Resource) -> String {
        match resource {
            Resource::Upstream => self.upstream.name.to_string(),
            Resource::Sql(resource) => self.sql().spell(resource),
        }
    }

    pub(crate) fn uid(&self, resource: &Resource) -> EntityUid {
        match resource {
            Resource::Upstream => uid(&self.vocabulary.upstream, &self.upstream.name),
            Resource::Sql(resource) => self.sql().uid(resource),
        }
    }

    /// The entities that all commands of the session share: the upstream and what the session has chosen in
    /// it.
    pub(crate) fn of_session(&self) -> Result<Vec<Entity>, EngineError> {
        let upstream = self.uid(&Resource::Upstream);
        let path = [(Key::Upstream, Some(&*self.upstream.name))];
        let attributes = vec![
            ("name", string(&self.upstream.name)),
            ("protocol", string(self.upstream.protocol.name())),
            ("tags", strings(self.tags.of(&path))),
            ("certainTags", strings(self.tags.certainly_of(&path))),
        ];
        let mut entities = vec![entity(upstream.clone(), attributes, HashSet::new())?];
        match self.scope {
            Scope::Connection => {}
            Scope::Sql { .. } => entities.push(self.sql().database(upstream)?),
        }
        Ok(entities)
    }

    /// The entities that a resource adds to the session's. Each names all its ancestors.
    pub(crate) fn entities(&self, resource: &Resource) -> Result<Vec<Entity>, EngineError> {
        match (resource, self.scope) {
            (Resource::Upstream, _) => Ok(Vec::new()),
            (Resource::Sql(resource), Scope::Sql { .. }) => {
                self.sql().entities(self.uid(&Resource::Upstream), resource)
            }
            (Resource::Sql(_), Scope::Connection) => {
                Err(EngineError::new("a database or table", "the session has chosen no database"))
            }
        }
    }

    fn sql(&self) -> SqlScope<'_> {
        SqlScope {
            types: &self.vocabulary.sql,
            tags: self.tags,
            upstream: &self.upstream.name,
            database: self.scope.database(),
        }
    }
}

/// What a decision depends on beside the facts and the session.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Moment<'a> {
    /// The time, in seconds since the epoch.
    pub(crate) now_unix: i64,
    /// The approver groups that have approved the command.
    pub(crate) approvals: &'a [&'a str],
}

/// What a policy reads as `context` of an action of this family. `process` is `context.process`.
pub(crate) fn context(
    process: &RestrictedExpression,
    family: Family,
    facts: &Facts,
    scope: &Scope,
    moment: Moment<'_>,
) -> Result<Context, EngineError> {
    let clock = Clock::at(moment.now_unix);
    let time = record(vec![
        ("unix", RestrictedExpression::new_long(clock.unix)),
        ("hour", RestrictedExpression::new_long(clock.hour)),
        ("minute", RestrictedExpression::new_long(clock.minute)),
        ("weekday", RestrictedExpression::new_long(clock.weekday)),
    ])?;
    let mut pairs = vec![
        ("process".to_owned(), process.clone()),
        ("time".to_owned(), time),
        ("approvals".to_owned(), strings(moment.approvals.iter().copied())),
    ];
    match family {
        Family::Connection => {}
        Family::Sql => pairs.push(("sql".to_owned(), sql::context(facts.sql(), scope.role())?)),
    }
    Context::from_pairs(pairs).map_err(|error| EngineError::new("the context", error))
}
