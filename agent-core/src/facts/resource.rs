//! What actions are done to. Resources hold only what a command itself names; the session's upstream,
//! database and the like are in its [`Target`](crate::target::Target).

use super::sql::{Relation, SqlResource};

/// What an action is done to, within the target of the session.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Resource {
    /// The session's upstream.
    Upstream,
    /// A part of a database server.
    Sql(SqlResource),
}

impl Resource {
    /// The part of a database server; `None` for any other resource.
    pub fn sql(&self) -> Option<&SqlResource> {
        match self {
            Self::Sql(resource) => Some(resource),
            Self::Upstream => None,
        }
    }

    /// The bytes of the names that a command gives the resource; `None` for a resource that the session
    /// determines.
    pub(super) fn name_bytes(&self) -> Option<usize> {
        match self {
            Self::Upstream => None,
            Self::Sql(resource) => resource.name_bytes(),
        }
    }
}

impl From<SqlResource> for Resource {
    fn from(resource: SqlResource) -> Self {
        Self::Sql(resource)
    }
}

impl From<Relation> for Resource {
    fn from(relation: Relation) -> Self {
        Self::Sql(SqlResource::Table(relation))
    }
}
