//! A bundle: everything a policy directory says, read and checked as one. It exists only whole.

use std::net::SocketAddr;
use std::sync::Arc;

use agent_core::decision::{Decision, Verdict};
use cedar_policy::Schema;
use sha2::{Digest as _, Sha256};

use crate::entities::{EngineError, Types};
use crate::policies::{Policies, PolicyInfo};
use crate::schema::schema_text;
use crate::session::{self, Session};
use crate::source::{BundleError, Kind, Source};
use crate::subject::Subject;
use crate::tags::Tags;
use crate::upstreams::{Mode, Undeclared, Upstream, Upstreams};

/// The policies, upstreams and tags in force.
#[derive(Debug)]
pub struct Bundle {
    version: Box<str>,
    pub(crate) policies: Policies,
    pub(crate) upstreams: Upstreams,
    pub(crate) tags: Tags,
    pub(crate) types: Types,
    #[cfg(test)]
    pub(crate) schema: Schema,
}

impl Bundle {
    /// Reads a bundle from its files, in order: what applies to every host, then what its host adds.
    ///
    /// A file is known by its name: `*.cedar`, `upstreams.toml`, `resources.toml`, `*.cases.toml` (which decides
    /// nothing and is read by [`crate::run_cases`] alone). Any other refuses the bundle: it was meant to say
    /// something. A bundle without any policy is valid, and allows nothing.
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
                    let reason = "a bundle has no such file; it holds *.cedar, *.cases.toml, upstreams.toml and resources.toml";
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
            types: Types::new(&schema).map_err(|e| ours(e.to_string()))?,
            #[cfg(test)]
            schema,
        })
    }

    /// What the bundle is known by in the trail: 16 hex digits of a SHA-256 over the names and texts of all its
    /// files that decide anything, wherever the directory lies.
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

    /// The upstream that a destination belongs to; without one, [`Bundle::decide_undeclared`] decides.
    pub fn upstream_for(&self, destination: SocketAddr) -> Option<&Upstream> {
        self.upstreams.at(destination)
    }

    /// The rule for destinations that no upstream declares.
    pub fn undeclared(&self) -> Undeclared {
        self.upstreams.undeclared
    }

    /// What becomes of what it denies.
    pub fn mode(&self) -> Mode {
        self.upstreams.mode
    }

    /// A decision as this bundle's mode has it.
    pub(crate) fn observed(&self, decision: Decision) -> Decision {
        let observed = decision.verdict != Verdict::Allow && self.upstreams.mode == Mode::Observe;
        Decision { observed, ..decision }
    }

    /// A session of the subject with an upstream. Before the client has said which database it wants and as
    /// whom, both are empty: what names them comes later than `connect`.
    pub fn session(
        self: &Arc<Self>,
        subject: &Subject,
        upstream: &Upstream,
        database: &str,
        user: &str,
    ) -> Result<Session, EngineError> {
        Session::new(Arc::clone(self), subject, upstream, database, user)
    }

    /// Decides the connection to a destination that no upstream declares.
    pub fn decide_undeclared(
        &self,
        subject: &Subject,
        destination: SocketAddr,
        now_unix: i64,
        approvals: &[&str],
    ) -> Decision {
        session::decide_undeclared(self, subject, destination, now_unix, approvals)
    }
}

/// Lengths go in before texts, so that no two lists of files give one stream of bytes.
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
