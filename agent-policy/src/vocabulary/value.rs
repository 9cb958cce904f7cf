//! Cedar's values made from plain Rust ones, and the error for those that Cedar does not take.

use std::{collections::HashSet, str::FromStr as _};

use cedar_policy::{Entity, EntityId, EntityTypeName, EntityUid, RestrictedExpression};

/// The policy engine cannot express a request, or something that requests are made of. The caller must deny
/// what it was asked about: a session, a command or a destination.
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

/// The entity type of this name. Whether the schema declares it is not checked.
pub(crate) fn entity_type(name: &str) -> Result<EntityTypeName, EngineError> {
    EntityTypeName::from_str(name).map_err(|error| EngineError::new("an entity type", error))
}

/// The reference to the entity that has this type and this id.
pub(crate) fn uid(kind: &EntityTypeName, id: &str) -> EntityUid {
    EntityUid::from_type_name_and_id(kind.clone(), EntityId::new(id))
}

/// An entity with its attributes. `ancestors` holds not only its parents but all that is above it: Cedar then
/// need not compute the transitive closure.
pub(crate) fn entity(
    uid: EntityUid,
    attributes: Vec<(&str, RestrictedExpression)>,
    ancestors: HashSet<EntityUid>,
) -> Result<Entity, EngineError> {
    let attributes = attributes.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
    Entity::new(uid, attributes, ancestors).map_err(|error| EngineError::new("an entity", error))
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
