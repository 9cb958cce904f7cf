//! `resources.toml`: the tags that a bundle puts on resources.
//!
//! A resource inherits the tags of those above it. A name that a command leaves open gets the tags of every
//! resource it could be: a rule that forbids by tag must not be escaped by spelling a name differently.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use serde::{
    Deserialize, Deserializer,
    de::{Error, MapAccess, Visitor},
};
use toml::Spanned;

use super::source::{BundleError, Source};
use crate::vocabulary::key::{Key, Path};

/// How many entries the files of one bundle may hold together: all are compared with each new resource.
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

/// A `[[resource]]`: the tags of every resource whose names are these. A level that is left out matches any
/// name.
#[derive(Debug)]
struct Entry {
    names: BTreeMap<Key, String>,
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

    /// The tags of the resource at a path: those that it has, and those that it may have.
    pub(crate) fn of(&self, path: &Path<'_>) -> BTreeSet<&str> {
        self.where_covered(path, true)
    }

    /// The tags that the resource at a path has, whichever of those it could be it is: a rule that permits by
    /// tag must not be reached by leaving a name open.
    pub(crate) fn certainly_of(&self, path: &Path<'_>) -> BTreeSet<&str> {
        self.where_covered(path, false)
    }

    /// The tags of the entries that cover a path; `open` says whether a name left open is any name or none.
    fn where_covered(&self, path: &Path<'_>, open: bool) -> BTreeSet<&str> {
        let entries = self.entries.iter().filter(|entry| entry.covers(path, open));
        entries.flat_map(|entry| entry.tags.iter().map(String::as_str)).collect()
    }
}

impl Entry {
    /// True if the entry names the resource at the path, or a resource above it; `open` for a name left open.
    fn covers(&self, path: &Path<'_>, open: bool) -> bool {
        self.names.iter().all(|(key, name)| {
            let found = path.iter().find(|(level, _)| level == key);
            found.is_some_and(|(_, found)| found.map_or(open, |found| found == name))
        })
    }
}

impl<'de> Deserialize<'de> for Entry {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct EntryVisitor;

        impl<'de> Visitor<'de> for EntryVisitor {
            type Value = Entry;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a resource")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Entry, A::Error> {
                let (mut names, mut tags) = (BTreeMap::new(), None);
                while let Some(key) = map.next_key()? {
                    match key {
                        Key::Tags => tags = Some(map.next_value()?),
                        level => drop(names.insert(level, map.next_value()?)),
                    }
                }
                Ok(Entry { names, tags: tags.ok_or_else(|| A::Error::missing_field("tags"))? })
            }
        }

        deserializer.deserialize_map(EntryVisitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tags(text: &str) -> Result<Tags, BundleError> {
        Tags::load(&[&Source::new("resources.toml", text)])
    }

    #[test]
    fn tags_are_inherited_and_a_name_left_open_gets_the_tags_of_all_it_could_be() {
        let tags = tags(
            "[[resource]]\ntags = [\"all\"]\n\
             [[resource]]\nupstream = \"shop\"\ntags = [\"prod\"]\n\
             [[resource]]\ndatabase = \"shop\"\nschema = \"hr\"\ntags = [\"restricted\"]\n\
             [[resource]]\nupstream = \"shop\"\nschema = \"public\"\ntable = \"customers\"\n\
             tags = [\"pii\"]\n",
        )
        .unwrap();
        let check = |path: &[&str], expect: &[&str]| {
            let found = tags.of(&keyed(path));
            assert_eq!(found.into_iter().collect::<Vec<_>>(), expect, "{path:?}");
        };
        check(&["other"], &["all"]);
        check(&["shop"], &["all", "prod"]);
        check(&["shop", "shop"], &["all", "prod"]);
        check(&["shop", "shop", "hr"], &["all", "prod", "restricted"]);
        check(&["shop", "shop", "?"], &["all", "prod", "restricted"]);
        check(&["shop", "shop", "public", "orders"], &["all", "prod"]);
        check(&["shop", "shop", "public", "customers"], &["all", "pii", "prod"]);
        check(&["shop", "shop", "hr", "customers"], &["all", "prod", "restricted"]);
        check(&["shop", "shop", "?", "customers"], &["all", "pii", "prod", "restricted"]);
        check(&["shop", "shop", "?", "orders"], &["all", "prod", "restricted"]);
        check(&["other", "shop", "?", "customers"], &["all", "restricted"]);
    }

    #[test]
    fn a_name_left_open_certainly_has_the_tags_alone_that_any_name_would_have() {
        let tags = tags(
            "[[resource]]\ndatabase = \"test\"\ntags = [\"whole\"]\n\
             [[resource]]\nschema = \"scratch\"\ntags = [\"one-schema\"]\n\
             [[resource]]\ntable = \"posts\"\ntags = [\"any-schema\"]\n",
        )
        .unwrap();
        let check = |path: &[&str], expect: &[&str]| {
            let found = tags.certainly_of(&keyed(path));
            assert_eq!(found.into_iter().collect::<Vec<_>>(), expect, "{path:?}");
        };
        check(&["shop", "test", "?", "posts"], &["any-schema", "whole"]);
        check(&["shop", "test", "?", "orders"], &["whole"]);
        check(&["shop", "shop", "?", "orders"], &[]);
        check(&["shop", "shop", "scratch", "orders"], &["one-schema"]);
        check(&["shop", "shop"], &[]);
    }

    /// Upstream, database, schema and table; `?` is left open.
    fn keyed<'a>(path: &[&'a str]) -> Vec<(Key, Option<&'a str>)> {
        let names = path.iter().map(|name| (*name != "?").then_some(*name));
        [Key::Upstream, Key::Database, Key::Schema, Key::Table].into_iter().zip(names).collect()
    }

    #[test]
    fn every_refusal_names_the_line_and_the_reason() {
        let check = |text: &str, line: usize, reason: &str| {
            let error = tags(text).unwrap_err().to_string();
            assert!(error.starts_with(&format!("resources.toml:{line}: ")), "{error}");
            assert!(error.contains(reason), "{error}");
        };
        check("[[resource]]\ntable = \"a\"\ntag = [\"b\"]", 3, "unknown field `tag`");
        check("[[resource]]\ntable = \"a\"", 1, "missing field `tags`");
        check("\n[[resource]]\ntable = \"a\"\ntags = []", 2, "has no tags");
    }
}
