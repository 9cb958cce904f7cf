//! `upstreams.toml`: which destinations are servers that policies know by name.
//!
//! An address belongs to one upstream or to none; it is never guessed. Where ranges overlap, the longest
//! prefix wins, as in a routing table.

mod leg;
mod range;

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};
use toml::Spanned;

pub use leg::{Leg, Role, TlsMode};
pub(crate) use range::canonical;

use crate::source::{BundleError, Source};
use leg::{LegEntry, TlsEntry};
use range::Range;

/// How many addresses the upstreams of a bundle may have together.
const ADDRESSES_MAX: usize = 4_096;

/// How long an upstream's name may be.
const NAME_BYTES_MAX: usize = 64;

/// A server, or several that policies need not tell apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upstream {
    /// Its name: the first part of every resource in it.
    pub name: Box<str>,
    /// What is spoken there.
    pub protocol: Protocol,
    /// How the agent gets there, and as whom.
    pub leg: Leg,
}

impl Upstream {
    /// One that is reached like most: in the job's name, by TLS where the server has it.
    pub fn new(name: &str, protocol: Protocol) -> Self {
        Self { name: name.into(), protocol, leg: Leg::default() }
    }
}

/// What an upstream speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// PostgreSQL: each statement is decided.
    Postgres,
    /// Any other: the connection is decided, and nothing of what crosses it is seen.
    Tcp,
}

impl Protocol {
    /// Its name in `upstreams.toml` and in policies.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Postgres => "postgres",
            Self::Tcp => "tcp",
        }
    }
}

/// What happens to a destination that no upstream declares.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Undeclared {
    /// It is refused.
    #[default]
    Deny,
    /// Policies decide `connect` on it, as an `Endpoint`.
    Policy,
}

/// What becomes of what the bundle denies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// It is denied.
    #[default]
    Enforce,
    /// It is recorded, and passes.
    Observe,
}

/// All upstreams of a bundle.
#[derive(Debug, Default)]
pub(crate) struct Upstreams {
    pub(crate) undeclared: Undeclared,
    pub(crate) mode: Mode,
    upstreams: Vec<Upstream>,
    /// Longest prefix first, so that the first match is the best one.
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
    credential: Option<Box<str>>,
    #[serde(default, rename = "role")]
    roles: Vec<Role>,
}

impl Upstreams {
    /// Reads all files in their order. Each adds its upstreams; the last word on `undeclared` and on `mode` holds.
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
        all.ranges.sort_by_key(|(range, _)| std::cmp::Reverse(range.prefix));
        Ok(all)
    }

    fn add(&mut self, source: &Source, entry: Entry) -> Result<(), BundleError> {
        let Entry { name, protocol, addresses, tls, credential, roles } = entry;
        let at = name.span().start;
        let name = name.into_inner();
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        if name.is_empty() || name.len() > NAME_BYTES_MAX || !name.chars().all(plain) {
            let reason = format_args!(
                "the upstream name {name:?} must be 1 to {NAME_BYTES_MAX} letters, digits, '-', '_' or '.'"
            );
            return Err(source.refuse_at(at, reason));
        }
        if self.upstreams.iter().any(|other| *other.name == *name) {
            return Err(source.refuse_at(at, format_args!("the upstream \"{name}\" is declared twice")));
        }
        if addresses.is_empty() {
            return Err(source.refuse_at(at, format_args!("the upstream \"{name}\" has no addresses")));
        }
        let mut all_single = true;
        for address in addresses {
            let at = address.span().start;
            let text = address.into_inner();
            let range = Range::parse(&text)
                .map_err(|wrong| source.refuse_at(at, format_args!("the address {text:?} {wrong}")))?;
            if let Some((_, owner)) = self.ranges.iter().find(|(other, _)| *other == range) {
                let owner = self.upstreams.get(*owner).map_or(&*name, |upstream| &*upstream.name);
                let reason =
                    format_args!("the address {text:?} is already declared by the upstream \"{owner}\"");
                return Err(source.refuse_at(at, reason));
            }
            if self.ranges.len() == ADDRESSES_MAX {
                let reason = format_args!("more than {ADDRESSES_MAX} addresses in one bundle");
                return Err(source.refuse_at(at, reason));
            }
            all_single &= range.is_single();
            self.ranges.push((range, self.upstreams.len()));
        }
        let leg = LegEntry { tls, credential, roles };
        if protocol == Protocol::Tcp && !leg.is_silent() {
            let reason =
                format_args!("the upstream \"{name}\" is a pipe: TLS and credentials are its ends' own");
            return Err(source.refuse_at(at, reason));
        }
        let leg = leg
            .check()
            .map_err(|wrong| source.refuse_at(at, format_args!("the upstream \"{name}\" {wrong}")))?;
        if leg.credential.is_some() && leg.tls != TlsMode::VerifyFull && !all_single {
            // A job picks its destination, and might stand within the range itself.
            let reason = format_args!(
                "the upstream \"{name}\" has a credential and no tls.mode = \"verify-full\": each of its addresses \
                 must be one address, not a range"
            );
            return Err(source.refuse_at(at, reason));
        }
        self.upstreams.push(Upstream { name: name.into(), protocol, leg });
        Ok(())
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

#[cfg(test)]
mod tests {
    use super::*;

    fn load(texts: &[&str]) -> Result<Upstreams, BundleError> {
        let sources: Vec<_> = texts
            .iter()
            .enumerate()
            .map(|(i, text)| Source::new(format!("{i}/upstreams.toml"), *text))
            .collect();
        Upstreams::load(&sources.iter().collect::<Vec<_>>())
    }

    fn shop(addresses: &str) -> String {
        format!("[[upstream]]\nname = \"shop\"\nprotocol = \"postgres\"\naddresses = [{addresses}]\n")
    }

    #[test]
    fn a_destination_finds_its_upstream() {
        let check = |declared: &str, destination: &str, expect: bool| {
            let upstreams = load(&[&shop(declared)]).unwrap();
            let found = upstreams.at(destination.parse().unwrap()).is_some();
            assert_eq!(found, expect, "{destination} in {declared}");
        };
        check("\"127.0.0.1:5432\"", "127.0.0.1:5432", true);
        check("\"127.0.0.1:5432\"", "127.0.0.1:5433", false);
        check("\"127.0.0.1:5432\"", "127.0.0.2:5432", false);
        check("\"127.0.0.1:5432\"", "[::ffff:127.0.0.1]:5432", true);
        check("\"127.0.0.1:5432\"", "[::1]:5432", false);
        check("\"10.0.0.0/8:5432\"", "10.255.0.1:5432", true);
        check("\"10.0.0.0/8:5432\"", "11.0.0.1:5432", false);
        check("\"10.0.0.0/8:5432\"", "[::ffff:10.1.2.3]:5432", true);
        check("\"0.0.0.0/0:5432\"", "192.0.2.1:5432", true);
        check("\"0.0.0.0/0:5432\"", "[2001:db8::1]:5432", false);
        check("\"[::1]:5432\"", "[::1]:5432", true);
        check("\"[::1]:5432\"", "[::2]:5432", false);
        check("\"[fd00::/8]:5432\"", "[fdff::1]:5432", true);
        check("\"[fd00::/8]:5432\"", "[fe00::1]:5432", false);
        check("\"[::/0]:5432\"", "[2001:db8::1]:5432", true);
        check("\"[::ffff:10.0.0.0/104]:5432\"", "10.9.9.9:5432", true);
        check("\"[::ffff:127.0.0.1]:5432\"", "127.0.0.1:5432", true);
    }

    #[test]
    fn the_longest_prefix_wins_in_any_order() {
        let entry = |name: &str, address: &str| {
            format!("[[upstream]]\nname = \"{name}\"\nprotocol = \"tcp\"\naddresses = [\"{address}\"]\n")
        };
        let wide = entry("wide", "10.0.0.0/8:5432");
        let narrow = entry("narrow", "10.1.0.0/16:5432");
        let host = entry("host", "10.1.2.3:5432");
        for texts in [[&wide, &narrow, &host], [&host, &narrow, &wide], [&narrow, &host, &wide]] {
            let upstreams = load(&texts.map(String::as_str)).unwrap();
            let name = |to: &str| upstreams.at(to.parse().unwrap()).map(|u| u.name.to_string());
            assert_eq!(name("10.1.2.3:5432").as_deref(), Some("host"));
            assert_eq!(name("10.1.2.4:5432").as_deref(), Some("narrow"));
            assert_eq!(name("10.2.0.1:5432").as_deref(), Some("wide"));
            assert_eq!(name("10.1.2.3:5433"), None);
        }
    }

    #[test]
    fn a_host_adds_upstreams_and_has_the_last_word_on_undeclared_destinations() {
        let host = format!("undeclared = \"policy\"\n{}", shop("\"127.0.0.1:5432\""));
        assert_eq!(load(&["undeclared = \"deny\"", &host]).unwrap().undeclared, Undeclared::Policy);
        assert_eq!(load(&[&host, ""]).unwrap().undeclared, Undeclared::Policy);
        assert_eq!(load(&[]).unwrap().undeclared, Undeclared::Deny);
        assert!(load(&["", &host]).unwrap().named("shop").is_some());
    }

    #[test]
    fn the_way_to_an_upstream_is_as_said() {
        let leg = |more: &str| {
            let upstreams = load(&[&format!("{}{more}", shop("\"127.0.0.1:1\""))]).unwrap();
            upstreams.named("shop").unwrap().leg.clone()
        };
        assert_eq!(leg(""), Leg::default());
        let verified = leg("[upstream.tls]\nca = \"/ca.pem\"\nserver_name = \"db.example\"");
        assert_eq!(
            (verified.tls, verified.server_name.as_deref()),
            (TlsMode::VerifyFull, Some("db.example"))
        );
        assert_eq!(leg("[upstream.tls]\nca = \"/ca.pem\"\nmode = \"verify-ca\"").tls, TlsMode::VerifyCa);
        assert!(leg("[upstream.tls]\noffer = false").declines_tls);
        let roles = leg("credential = \"rw\"\n[[upstream.role]]\ngroup = \"b\"\ncredential = \"ro\"\n\
             [[upstream.role]]\ngroup = \"a\"\ncredential = \"none\"");
        assert_eq!(roles.credential_for(&["a", "b"]), Some("ro"));
        assert_eq!(roles.credential_for(&["a"]), Some("none"));
        assert_eq!(roles.credential_for(&["c"]), Some("rw"));
        assert_eq!(roles.credentials().collect::<Vec<_>>(), ["ro", "none", "rw"]);
        assert_eq!(leg("").credential_for(&["a"]), None);
    }

    #[test]
    fn every_refusal_names_the_line_and_the_reason() {
        let check = |text: &str, line: usize, reason: &str| {
            let told = load(&[text]).unwrap_err().to_string();
            assert!(told.starts_with(&format!("0/upstreams.toml:{line}: ")), "{told}");
            assert!(told.contains(reason), "{told}");
        };
        check("undeclared = \"deny\"\nundeclard = 1", 2, "unknown field `undeclard`");
        let lent = |address: &str, mode: &str| {
            format!("{}credential = \"c\"\n[upstream.tls]\n{mode}", shop(&format!("{address:?}")))
        };
        for mode in ["mode = \"disable\"", "mode = \"require\"", "mode = \"verify-ca\"\nca = \"/ca.pem\""] {
            check(&lent("10.0.0.0/8:5432", mode), 2, "must be one address, not a range");
            check(&lent("[fd00::/8]:5432", mode), 2, "must be one address, not a range");
            assert!(load(&[&lent("10.0.0.1:5432", mode)]).is_ok());
        }
        assert!(load(&[&lent("10.0.0.0/8:5432", "ca = \"/ca.pem\"")]).is_ok());
        check("undeclared = \"allow\"", 1, "unknown variant `allow`");
        check(&format!("{}port = 1", shop("\"127.0.0.1:1\"")), 5, "unknown field `port`");
        check(
            "[[upstream]]\nname = \"a\"\nprotocol = \"mysql\"\naddresses = []",
            3,
            "unknown variant `mysql`",
        );
        check(&shop(""), 2, "has no addresses");
        let shop_with = |more: &str| format!("{}{more}", shop("\"127.0.0.1:1\""));
        check(&shop_with("[upstream.tls]\nmode = \"verify-full\""), 2, "verifies nothing without tls.ca");
        check(&shop_with("[upstream.tls]\nmode = \"require\"\nca = \"/a\""), 2, "does not look at");
        check(&shop_with("[upstream.tls]\nmode = \"verify\""), 6, "unknown variant `verify`");
        check(&shop_with("[upstream.tls]\nca = \"a\""), 2, "no absolute path");
        check(&shop_with("[upstream.tls]\nserver_name = \"a\""), 2, "does not look at");
        check(&shop_with("[[upstream.role]]\ngroup = \"a\"\ncredential = \"b\""), 2, "no credential for who");
        check(&shop_with("credential = \"b\"").replace("postgres", "tcp"), 2, "is a pipe");
        check(&shop("\"a\"").replace("shop", "a/b"), 2, "must be 1 to 64");
        check(&shop("\n\"db.example:5432\""), 5, "names are not resolved");
        check(&shop("\"127.0.0.1\""), 4, "has no port");
        check(&shop("\"127.0.0.1:0\""), 4, "has no port from 1");
        check(&shop("\"127.0.0.1:+1\""), 4, "has no port from 1");
        check(&shop("\"127.0.0.1:65536\""), 4, "has no port from 1");
        check(&shop("\"::1:5432\""), 4, "write [ADDRESS]:PORT");
        check(&shop("\"[::1:5432\""), 4, "has no ']'");
        check(&shop("\"10.0.0.1/8:5432\""), 4, "the network is 10.0.0.0");
        check(&shop("\"10.0.0.0/33:5432\""), 4, "impossible prefix");
        check(&shop("\"10.0.0.0/-1:5432\""), 4, "impossible prefix");
        check(&shop("\"127.0.0.1:1\", \"127.0.0.1:1\""), 4, "already declared by the upstream \"shop\"");
        check(&shop("\"127.0.0.1:1\", \"[::ffff:127.0.0.1]:1\""), 4, "already declared");
        let twice = format!("{}{}", shop("\"127.0.0.1:1\""), shop("\"127.0.0.1:2\""));
        check(&twice, 6, "declared twice");
        let taken =
            format!("{}{}", shop("\"127.0.0.1:1\""), shop("\"127.0.0.1:1\"").replace("shop", "other"));
        check(&taken, 8, "already declared by the upstream \"shop\"");
    }
}
