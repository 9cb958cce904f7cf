//! A bundle: everything that a policy directory says, read and checked as one. It exists only whole: one bad
//! policy, table or name refuses all of it, with file and line.
//!
//! A bundle holds what was written and decides nothing: deciding is in [`decide`](crate::decide).

pub(crate) mod policies;
pub(crate) mod source;
pub(crate) mod tags;
#[cfg(test)]
mod tests;
pub(crate) mod upstreams;

use std::net::SocketAddr;

use agent_core::decision::{Decision, Effect};
use cedar_policy::Schema;
use sha2::{Digest as _, Sha256};

use self::{
    policies::{Policies, PolicyInfo},
    source::{BundleError, Kind, Source},
    tags::Tags,
    upstreams::{Mode, Undeclared, Upstream, Upstreams},
};
use crate::vocabulary::{Vocabulary, schema_text};

/// The policies, upstreams and tags in force.
#[derive(Debug)]
pub struct Bundle {
    version: Box<str>,
    pub(crate) policies: Policies,
    pub(crate) upstreams: Upstreams,
    pub(crate) tags: Tags,
    pub(crate) vocabulary: Vocabulary,
    #[cfg(test)]
    pub(crate) schema: Schema,
}

impl Bundle {
    /// Reads a bundle from its files, in order: first the files for every host, then those for this one.
    ///
    /// A file's name says what it holds: `*.cedar`, `upstreams.toml`, `resources.toml`, or `*.cases.toml`,
    /// which decides nothing and is read by [`crate::run_cases`] alone. A file of any other name refuses the
    /// bundle: its author meant it to have an effect. A bundle without any policy is valid, and allows
    /// nothing.
    pub fn load(sources: &[Source]) -> Result<Self, BundleError> {
        let mut policies = Vec::new();
        let mut upstreams = Vec::new();
        let mut resources = Vec::new();
        for source in sources {
            match source.kind() {
                Some(Kind::Policies) => policies.push(source),
                Some(Kind::Upstreams) => upstreams.push(source),
                Some(Kind::Resources) => resources.push(source),
                Some(Kind::Cases) => {}
                None => {
                    let reason = "a bundle has no such file; it holds *.cedar, *.cases.toml, upstreams.toml \
                                  and resources.toml";
                    return Err(source.refuse_line(1, reason));
                }
            }
        }
        let ours = |reason: String| BundleError { file: "(lineal's own schema)".to_owned(), line: 1, reason };
        let (schema, _) = Schema::from_cedarschema_str(&schema_text()).map_err(|e| ours(e.to_string()))?;
        Ok(Self {
            version: version(sources),
            policies: Policies::load(&policies, &schema)?,
            upstreams: Upstreams::load(&upstreams)?,
            tags: Tags::load(&resources)?,
            vocabulary: Vocabulary::new(&schema).map_err(|e| ours(e.to_string()))?,
            #[cfg(test)]
            schema,
        })
    }

    /// The bundle's identity in the trail: 16 hex digits of a SHA-256 over the names and texts of all files
    /// that decide anything. It does not depend on where the directory is.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// Every policy, by name.
    pub fn policies(&self) -> impl Iterator<Item = &PolicyInfo> {
        self.policies.iter()
    }

    /// Every declared upstream, in the order of the files.
    pub fn upstreams(&self) -> impl Iterator<Item = &Upstream> {
        self.upstreams.iter()
    }

    /// The upstream of a name.
    pub fn upstream_named(&self, name: &str) -> Option<&Upstream> {
        self.upstreams.named(name)
    }

    /// The upstream that a destination belongs to. If there is none, [`crate::decide_undeclared`] decides.
    pub fn upstream_for(&self, destination: SocketAddr) -> Option<&Upstream> {
        self.upstreams.at(destination)
    }

    /// The rule for destinations that no upstream declares.
    pub fn undeclared(&self) -> Undeclared {
        self.upstreams.undeclared
    }

    /// What becomes of a command that it denies.
    pub fn mode(&self) -> Mode {
        self.upstreams.mode
    }

    /// The decision as the bundle's mode makes it: in observe mode, a denial is observed only.
    pub(crate) fn observed(&self, decision: Decision) -> Decision {
        let observed = decision.effect != Effect::Allow && self.upstreams.mode == Mode::Observe;
        Decision { observed, ..decision }
    }
}

/// Lengths are hashed before texts, so that no two lists of files give the same stream of bytes.
fn version(sources: &[Source]) -> Box<str> {
    let mut hash = Sha256::new();
    for source in sources.iter().filter(|source| source.kind() != Some(Kind::Cases)) {
        for text in [source.file_name(), &source.text] {
            hash.update(u64::try_from(text.len()).unwrap_or(u64::MAX).to_be_bytes());
            hash.update(text);
        }
    }
    hash.finalize().iter().take(8).map(|byte| format!("{byte:02x}")).collect::<String>().into()
}
