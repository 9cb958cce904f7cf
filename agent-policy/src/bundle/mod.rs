//! A bundle: the content of a policy directory, parsed and checked as a whole. One bad policy, table or name
//! makes the whole bundle invalid; the error names file and line.
//!
//! A bundle only holds what its authors wrote. [`decide`](crate::decide) makes decisions by it.

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
    upstreams::{Mode, Protocol, Undeclared, Upstream, Upstreams},
};
use crate::vocabulary::{Vocabulary, schema_text};

/// A valid bundle: policies, upstreams and tags.
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
    /// Makes a bundle of the texts of its files. The caller must bring the files for every host first, then
    /// those for this host: the last `upstreams.toml` that sets `mode` or `undeclared` wins.
    ///
    /// A file's name says what it holds: `*.cedar`, `upstreams.toml`, `resources.toml`, or `*.cases.toml`,
    /// which decides nothing and is read by [`crate::run_cases`] alone. A bundle without any policy is valid,
    /// and allows nothing.
    ///
    /// # Errors
    /// A file is not valid, or has another name than these: its author meant it to have an effect.
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

    /// The bundle's identity in the trail: the first 16 hex digits of a SHA-256 over the names and texts of
    /// all files but test cases. The names are without their directories, so the version does not depend on
    /// where the files are.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// Every policy, sorted by name.
    pub fn policies(&self) -> impl Iterator<Item = &PolicyInfo> {
        self.policies.iter()
    }

    /// Every declared upstream, in the order of the files.
    pub fn upstreams(&self) -> impl Iterator<Item = &Upstream> {
        self.upstreams.iter()
    }

    /// Whether a login may be relayed between a client's TLS and a server's. It must not be bound to either.
    pub fn relays_logins_over_tls(&self) -> bool {
        self.upstreams()
            .any(|upstream| upstream.protocol == Protocol::Postgres && upstream.leg.relays_logins_over_tls())
    }

    /// The upstream of this name; `None` if the bundle declares none.
    pub fn upstream_named(&self, name: &str) -> Option<&Upstream> {
        self.upstreams.named(name)
    }

    /// The upstream that a destination belongs to; `None` if no upstream declares its address. Then
    /// [`crate::decide_undeclared`] decides.
    pub fn upstream_for(&self, destination: SocketAddr) -> Option<&Upstream> {
        self.upstreams.at(destination)
    }

    /// What happens to a connection whose destination no upstream declares.
    pub fn undeclared(&self) -> Undeclared {
        self.upstreams.undeclared
    }

    /// Whether the bundle's denials are enforced or only recorded.
    pub fn mode(&self) -> Mode {
        self.upstreams.mode
    }

    /// Applies the bundle's mode to a decision: in observe mode a denial is only observed, so the command
    /// passes and the denial is recorded. Any earlier value of `observed` is overwritten.
    pub(crate) fn observed(&self, decision: Decision) -> Decision {
        let observed = decision.effect != Effect::Allow && self.upstreams.mode == Mode::Observe;
        Decision { observed, ..decision }
    }
}

/// See [`Bundle::version`]. Each text is hashed behind its length, so that no two lists of files give the
/// same stream of bytes.
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
