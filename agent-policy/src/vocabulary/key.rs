//! The keys of `resources.toml`. Resources form a tree: an upstream, and below it the levels of its protocol.
//! Each level has a key, whose value is a name.

use serde::Deserialize;

/// A key of a `[[resource]]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(field_identifier, rename_all = "lowercase")]
pub(crate) enum Key {
    Upstream,
    // The levels of SQL.
    Database,
    Schema,
    Table,
    /// The tags that the entry gives; the only key that is no level.
    Tags,
}

/// Where a resource stands: each level from the upstream down to its own, with the name there. `None` is a
/// name that the command leaves open: it could be any.
pub(crate) type Path<'a> = [(Key, Option<&'a str>)];
