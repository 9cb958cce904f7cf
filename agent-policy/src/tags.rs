//! `resources.toml`: the tags that a bundle puts on databases, schemas and tables.
//!
//! Tags are inherited downwards, and a statement that leaves the schema out gets the tags of every table it
//! could mean: a rule that forbids by tag must not be escaped by spelling a name differently.

use std::collections::BTreeSet;

use agent_core::facts::{Relation, Resource};
use serde::Deserialize;
use toml::Spanned;

use crate::source::{BundleError, Source};

/// How many entries the files of one bundle may hold together: each is looked at for each new table.
const ENTRIES_MAX: usize = 4_096;

/// All tags of a bundle.
#[derive(Debug, Default)]
pub(crate) struct Tags {
    entries: Vec<Entry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    resource: Vec<Spanned<Entry>>,
}

/// What is left out matches everything.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    upstream: Option<String>,
    database: Option<String>,
    schema: Option<String>,
    table: Option<String>,
    tags: BTreeSet<String>,
}

impl Tags {
    /// Reads all files; their entries add up.
    pub(crate) fn load(sources: &[&Source]) -> Result<Self, BundleError> {
        let mut all = Self::default();
        for source in sources {
            let file: File = toml::from_str(&source.text).map_err(|error| source.refuse_toml(&error))?;
            for entry in file.resource {
                let at = entry.span().start;
                let entry = entry.into_inner();
                if entry.tags.is_empty() {
                    return Err(source.refuse_at(at, "the entry has no tags"));
                }
                if all.entries.len() == ENTRIES_MAX {
                    let reason = format_args!("more than {ENTRIES_MAX} entries in one bundle");
                    return Err(source.refuse_at(at, reason));
                }
                all.entries.push(entry);
            }
        }
        Ok(all)
    }

    /// The tags of a resource.
    pub(crate) fn of(&self, upstream: &str, database: &str, resource: &Resource) -> BTreeSet<&str> {
        self.collect(|entry| entry.covers(upstream, database, resource))
    }

    /// The tags of the schema that a relation stands in.
    pub(crate) fn of_schema(&self, upstream: &str, database: &str, relation: &Relation) -> BTreeSet<&str> {
        let relation = Resource::Table(relation.clone());
        self.collect(|entry| entry.table.is_none() && entry.covers(upstream, database, &relation))
    }

    fn collect(&self, covers: impl Fn(&Entry) -> bool) -> BTreeSet<&str> {
        self.entries.iter().filter(|e| covers(e)).flat_map(|e| e.tags.iter().map(String::as_str)).collect()
    }
}

impl Entry {
    /// True when the resource is what the entry names, or stands below it.
    fn covers(&self, upstream: &str, database: &str, resource: &Resource) -> bool {
        let is = |wanted: &Option<String>, have: &str| wanted.as_deref().is_none_or(|name| name == have);
        if !is(&self.upstream, upstream) {
            return false;
        }
        match resource {
            Resource::Upstream => self.database.is_none() && self.schema.is_none() && self.table.is_none(),
            Resource::Database => {
                is(&self.database, database) && self.schema.is_none() && self.table.is_none()
            }
            Resource::Table(Relation { schema, name }) => {
                is(&self.database, database)
                    && schema.as_deref().is_none_or(|schema| is(&self.schema, schema))
                    && is(&self.table, name)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tags(text: &str) -> Result<Tags, BundleError> {
        Tags::load(&[&Source::new("resources.toml", text)])
    }

    #[test]
    fn tags_are_inherited_and_an_unresolved_name_gets_all_it_could_mean() {
        let tags = tags(
            "[[resource]]\ntags = [\"all\"]\n\
             [[resource]]\nupstream = \"shop\"\ntags = [\"prod\"]\n\
             [[resource]]\ndatabase = \"shop\"\nschema = \"hr\"\ntags = [\"restricted\"]\n\
             [[resource]]\nupstream = \"shop\"\nschema = \"public\"\ntable = \"customers\"\ntags = [\"pii\"]\n",
        )
        .unwrap();
        let check = |upstream: &str, resource: Resource, expect: &[&str]| {
            let found: Vec<_> = tags.of(upstream, "shop", &resource).into_iter().collect();
            assert_eq!(found, expect, "{upstream} {resource:?}");
        };
        let table = |schema: Option<&str>, name: &str| {
            Resource::Table(Relation { schema: schema.map(Into::into), name: name.into() })
        };
        check("other", Resource::Upstream, &["all"]);
        check("shop", Resource::Upstream, &["all", "prod"]);
        check("shop", Resource::Database, &["all", "prod"]);
        check("shop", table(Some("public"), "orders"), &["all", "prod"]);
        check("shop", table(Some("public"), "customers"), &["all", "pii", "prod"]);
        check("shop", table(Some("hr"), "customers"), &["all", "prod", "restricted"]);
        check("shop", table(None, "customers"), &["all", "pii", "prod", "restricted"]);
        check("shop", table(None, "orders"), &["all", "prod", "restricted"]);
        check("other", table(None, "customers"), &["all", "restricted"]);
    }

    #[test]
    fn every_refusal_names_the_line_and_the_reason() {
        let check = |text: &str, line: usize, reason: &str| {
            let told = tags(text).unwrap_err().to_string();
            assert!(told.starts_with(&format!("resources.toml:{line}: ")), "{told}");
            assert!(told.contains(reason), "{told}");
        };
        check("[[resource]]\ntable = \"a\"\ntag = [\"b\"]", 3, "unknown field `tag`");
        check("[[resource]]\ntable = \"a\"", 1, "missing field `tags`");
        check("\n[[resource]]\ntable = \"a\"\ntags = []", 2, "has no tags");
    }
}
