//! The keys by which `resources.toml` names resources: one for each level of the tree that resources form, an
//! upstream and below it what each protocol has.

use serde::Deserialize;

/// A key of a `[[resource]]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(field_identifier, rename_all = "lowercase")]
pub(crate) enum Key {
    Upstream,
    /// SQL's, as the next two.
    Database,
    Schema,
    Table,
    /// No level: the tags of the resource.
    Tags,
}

/// Where a resource stands: each level from the upstream down to its own, with the name there. `None` is a
/// name that the command leaves open: it could be any.
pub(crate) type Path<'a> = [(Key, Option<&'a str>)];
