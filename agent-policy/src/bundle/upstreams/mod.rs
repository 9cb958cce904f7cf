//! `upstreams.toml`: which destinations are servers that policies know by name, and how the agent reaches
//! them.
//!
//! An address belongs to one upstream or to none. Where ranges overlap, the longest prefix wins, as in a
//! routing table.

mod leg;
mod protocol;
mod range;
#[cfg(test)]
mod tests;

use std::{cmp::Reverse, net::SocketAddr};

use serde::{Deserialize, Serialize};
use toml::Spanned;

pub(crate) use self::range::canonical;
pub use self::{
    leg::{Leg, Role, TlsMode},
    protocol::Protocol,
};
use self::{
    leg::{LegEntry, TlsEntry},
    range::Range,
};
use super::source::{BundleError, Source};

/// How many addresses the upstreams of a bundle may have together.
const ADDRESSES_MAX: usize = 4_096;

/// How long an upstream's name may be.
const NAME_BYTES_MAX: usize = 64;

/// A server, or several servers that policies need not tell apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upstream {
    /// Its name, which is the first part of the name of every resource in it.
    pub name: Box<str>,
    /// What it speaks.
    pub protocol: Protocol,
    /// How the agent reaches it, and as whom it logs in.
    pub leg: Leg,
}

impl Upstream {
    /// An upstream with the default leg: the job's own password is passed on, and TLS is used if the server
    /// has it.
    pub fn new(name: &str, protocol: Protocol) -> Self {
        Self { name: name.into(), protocol, leg: Leg::default() }
    }
}

/// What happens to a destination that no upstream declares.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Undeclared {
    /// The connection is refused.
    #[default]
    Deny,
    /// Policies decide `connect` on the destination, as an `Endpoint`.
    Policy,
}

/// What becomes of the commands that a bundle denies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// They are denied.
    #[default]
    Enforce,
    /// They pass, and the denial is recorded.
    Observe,
}

/// All upstreams of a bundle.
#[derive(Debug, Default)]
pub(crate) struct Upstreams {
    pub(crate) undeclared: Undeclared,
    pub(crate) mode: Mode,
    upstreams: Vec<Upstream>,
    /// Each range with the index of its upstream. The longest prefix comes first, so the first match wins.
    ranges: Vec<(Range, usize)>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    undeclared: Option<Undeclared>,
    mode: Option<Mode>,
    #[serde(default)]
    upstream: Vec<Entry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    name: Spanned<String>,
    protocol: Protocol,
    addresses: Vec<Spanned<String>>,
    tls: Option<TlsEntry>,
    #[serde(rename = "credential")]
    login: Option<Box<str>>,
    #[serde(default, rename = "role")]
    roles: Vec<Role>,
}

impl Upstreams {
    /// Reads all files in their order. Each adds its upstreams; `undeclared` and `mode` are those of the last
    /// file that sets them.
    pub(crate) fn load(sources: &[&Source]) -> Result<Self, BundleError> {
        let mut all = Self::default();
        for source in sources {
            let file: File = toml::from_str(&source.text).map_err(|error| source.refuse_toml(&error))?;
            all.undeclared = file.undeclared.unwrap_or(all.undeclared);
            all.mode = file.mode.unwrap_or(all.mode);
            for entry in file.upstream {
                all.add(source, entry)?;
            }
        }
        all.ranges.sort_by_key(|(range, _)| Reverse(range.prefix));
        Ok(all)
    }

    fn add(&mut self, source: &Source, entry: Entry) -> Result<(), BundleError> {
        let Entry { name, protocol, addresses, tls, login, roles } = entry;
        let at = name.span().start;
        let name = name.into_inner();
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        if name.is_empty() || name.len() > NAME_BYTES_MAX || !name.chars().all(plain) {
            let reason = format_args!(
                "the upstream name {name:?} must be 1 to {NAME_BYTES_MAX} letters, digits, '-', '_' or '.'"
            );
            return Err(source.refuse_at(at, reason));
        }
        let refuse = |wrong: &str| source.refuse_at(at, format_args!("the upstream \"{name}\" {wrong}"));
        if self.upstreams.iter().any(|other| *other.name == *name) {
            return Err(refuse("is declared twice"));
        }
        if addresses.is_empty() {
            return Err(refuse("has no addresses"));
        }
        let mut all_single = true;
        for address in addresses {
            all_single &= self.add_address(source, &name, address)?;
        }
        let leg = LegEntry { tls, login, roles };
        if let Some(wrong) = protocol.without_leg().filter(|_| !leg.is_empty()) {
            return Err(refuse(wrong));
        }
        let leg = leg.check().map_err(refuse)?;
        if leg.login.is_some() && leg.tls != TlsMode::VerifyFull && !all_single {
            // The job chooses the destination within the range, and the login's secret is sent there.
            let wrong = "has a credential without tls.mode = \"verify-full\": each of its addresses must be \
                         one address, not a range in which a job could run the server";
            return Err(refuse(wrong));
        }
        self.upstreams.push(Upstream { name: name.into(), protocol, leg });
        Ok(())
    }

    /// Adds an address of the upstream that is declared next; true if it is a single one, false if it is a
    /// range.
    fn add_address(
        &mut self,
        source: &Source,
        upstream: &str,
        address: Spanned<String>,
    ) -> Result<bool, BundleError> {
        let at = address.span().start;
        let text = address.into_inner();
        let range = Range::parse(&text)
            .map_err(|wrong| source.refuse_at(at, format_args!("the address {text:?} {wrong}")))?;
        if let Some((_, owner)) = self.ranges.iter().find(|(other, _)| *other == range) {
            let owner = self.upstreams.get(*owner).map_or(upstream, |upstream| &*upstream.name);
            let reason = format_args!("the address {text:?} is already declared by the upstream \"{owner}\"");
            return Err(source.refuse_at(at, reason));
        }
        if self.ranges.len() == ADDRESSES_MAX {
            let reason = format_args!("more than {ADDRESSES_MAX} addresses in one bundle");
            return Err(source.refuse_at(at, reason));
        }
        self.ranges.push((range, self.upstreams.len()));
        Ok(range.is_single())
    }

    /// The upstream that a destination belongs to.
    pub(crate) fn at(&self, destination: SocketAddr) -> Option<&Upstream> {
        let address = canonical(destination.ip());
        self.ranges
            .iter()
            .find(|(range, _)| range.port == destination.port() && range.holds(address))
            .and_then(|(_, owner)| self.upstreams.get(*owner))
    }

    /// The upstream of a name.
    pub(crate) fn named(&self, name: &str) -> Option<&Upstream> {
        self.upstreams.iter().find(|upstream| *upstream.name == *name)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Upstream> {
        self.upstreams.iter()
    }
}
