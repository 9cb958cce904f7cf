//! Where a token may be used again: by the CI run it was issued to, and nowhere else.
//!
//! A table of the tokens seen on this host, each with the run it names and the context it was first used
//! in. A token is remembered until it could no longer pass verification; an unexpired one is never
//! forgotten to make room. Whoever keeps the table must have stored it (see [`UseTable::save`]) before it lets
//! the job in: a first use that is lost is a second first use.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::token::TokenId;

/// How many unexpired tokens a host remembers. At 10 jobs a second and an hour's lifetime it holds 36,000.
pub const USES_MAX: usize = 65_536;

/// The claims that name a CI run, with their values. Empty is impossible: a token without them has no run.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "BTreeMap<String, String>", into = "BTreeMap<String, String>")]
pub struct RunKey(BTreeMap<String, String>);

/// A run that no claim names.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("a run is named by at least one claim")]
pub struct NamelessRun;

impl RunKey {
    /// The claims and their values.
    pub fn claims(&self) -> &BTreeMap<String, String> {
        &self.0
    }
}

impl TryFrom<BTreeMap<String, String>> for RunKey {
    type Error = NamelessRun;

    fn try_from(claims: BTreeMap<String, String>) -> Result<Self, NamelessRun> {
        if claims.is_empty() { Err(NamelessRun) } else { Ok(Self(claims)) }
    }
}

impl From<RunKey> for BTreeMap<String, String> {
    fn from(run: RunKey) -> Self {
        run.0
    }
}

/// The context a token is used in, as the kernel shows it: never as the enroller says it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Enroller {
    /// The enrolling process' user id, in the host's user namespace.
    pub uid: u32,
    /// The UID of the Kubernetes pod its cgroup belongs to, spelled as the API server spells it.
    pub pod_uid: Option<String>,
}

/// A verified token that is about to be used.
#[derive(Clone, Copy, Debug)]
pub struct Use<'a> {
    /// Which token.
    pub token: TokenId,
    /// The run it was issued to, where its issuer's tokens name one.
    pub run: Option<&'a RunKey>,
    /// The pod it is bound to: it is good in that pod's processes only.
    pub pod_uid: Option<&'a str>,
    /// From when on verification refuses it: its expiry and the clock skew, in seconds since the Unix epoch.
    pub forget_unix: i64,
}

/// How a token was let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admitted {
    /// For the first time: the table has changed and must be stored.
    First,
    /// Again, by the run it was issued to.
    Again,
}

/// Why a token was first used elsewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Elsewhere {
    /// It names no run, so it is good for one use.
    NoRun,
    /// Another token of the same id named another run.
    OtherRun,
    /// Another user used it.
    OtherUser,
    /// It was used from another pod.
    OtherPod,
}

impl std::fmt::Display for Elsewhere {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(match self {
            Self::NoRun => "and names no CI run that could use it again",
            Self::OtherRun => "by another CI run",
            Self::OtherUser => "by another user",
            Self::OtherPod => "from another pod",
        })
    }
}

/// Why a token may not be used.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum Refusal {
    /// It was used, and this is not the run it was issued to.
    #[error("the token was already used {ago_s} s ago, {elsewhere}; request a new one for this job")]
    Replayed {
        /// How long ago.
        ago_s: i64,
        /// Where.
        elsewhere: Elsewhere,
    },
    /// It is bound to a pod that the enroller is not in.
    #[error("the token is bound to a pod that the enrolling process is not in")]
    WrongPod,
    /// It expired since it was verified.
    #[error("the token has expired; request a new one for this job")]
    Expired,
    /// The clock was set back, and tokens of this age have been forgotten.
    #[error(
        "the host's clock was set back, so it can't be known whether the token was used; request a new one"
    )]
    Forgotten,
    /// The table is full of unexpired tokens.
    #[error(
        "{uses_max} unexpired tokens were used on this host and no more are remembered; retry when some have expired"
    )]
    Full {
        /// Its bound.
        uses_max: usize,
    },
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct FirstUse {
    run: Option<RunKey>,
    enroller: Enroller,
    first_unix: i64,
    forget_unix: i64,
}

/// The table as it is stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SavedUses {
    v: u32,
    forgotten_unix: i64,
    uses: BTreeMap<TokenId, FirstUse>,
}

/// A stored table of a layout that this version doesn't know.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error(
    "the stored table of used tokens has version {found}, this lineal reads version {}",
    SavedUses::VERSION
)]
pub struct UnknownVersion {
    found: u32,
}

impl SavedUses {
    const VERSION: u32 = 1;
}

/// The tokens used on this host.
#[derive(Debug)]
pub struct UseTable {
    uses: BTreeMap<TokenId, FirstUse>,
    by_forget: BTreeSet<(i64, TokenId)>,
    /// The latest expiry among what was forgotten. A token that expires no later and yet seems valid
    /// can only come after the clock was set back: whether it was used is not known.
    forgotten_unix: i64,
    uses_max: usize,
}

impl UseTable {
    /// An empty table for at most `uses_max` unexpired tokens, [`USES_MAX`] unless there is a reason.
    pub fn new(uses_max: usize) -> Self {
        Self { uses: BTreeMap::new(), by_forget: BTreeSet::new(), forgotten_unix: i64::MIN, uses_max }
    }

    /// The table as it was saved. One that holds more than `uses_max` is kept whole, and is full.
    pub fn restore(saved: SavedUses, uses_max: usize) -> Result<Self, UnknownVersion> {
        let SavedUses { v, forgotten_unix, uses } = saved;
        if v != SavedUses::VERSION {
            return Err(UnknownVersion { found: v });
        }
        let by_forget = uses.iter().map(|(token, first)| (first.forget_unix, *token)).collect();
        Ok(Self { uses, by_forget, forgotten_unix, uses_max })
    }

    /// The table as a value to store.
    pub fn save(&self) -> SavedUses {
        SavedUses { v: SavedUses::VERSION, forgotten_unix: self.forgotten_unix, uses: self.uses.clone() }
    }

    /// How many tokens it remembers.
    pub fn len(&self) -> usize {
        self.uses.len()
    }

    /// True if it remembers none.
    pub fn is_empty(&self) -> bool {
        self.uses.is_empty()
    }

    /// Lets `token` in for `enroller` or says why not, and remembers a first use.
    pub fn admit(&mut self, token: Use<'_>, enroller: &Enroller, now_unix: i64) -> Result<Admitted, Refusal> {
        if token.forget_unix <= now_unix {
            return Err(Refusal::Expired);
        }
        // In any use, not just a second one: a bound token that left its pod was stolen.
        if token.pod_uid.is_some() && token.pod_uid != enroller.pod_uid.as_deref() {
            return Err(Refusal::WrongPod);
        }
        self.forget(now_unix);
        if let Some(first) = self.uses.get(&token.token) {
            return match elsewhere(first, &token, enroller) {
                None => Ok(Admitted::Again),
                Some(elsewhere) => {
                    let ago_s = now_unix.saturating_sub(first.first_unix).max(0);
                    Err(Refusal::Replayed { ago_s, elsewhere })
                }
            };
        }
        if token.forget_unix <= self.forgotten_unix {
            return Err(Refusal::Forgotten);
        }
        if self.uses.len() >= self.uses_max {
            return Err(Refusal::Full { uses_max: self.uses_max });
        }
        self.by_forget.insert((token.forget_unix, token.token));
        self.uses.insert(
            token.token,
            FirstUse {
                run: token.run.cloned(),
                enroller: enroller.clone(),
                first_unix: now_unix,
                forget_unix: token.forget_unix,
            },
        );
        Ok(Admitted::First)
    }

    fn forget(&mut self, now_unix: i64) {
        while let Some(&(forget_unix, token)) = self.by_forget.first() {
            if forget_unix > now_unix {
                break;
            }
            self.by_forget.pop_first();
            self.uses.remove(&token);
            self.forgotten_unix = self.forgotten_unix.max(forget_unix);
        }
    }
}

fn elsewhere(first: &FirstUse, token: &Use<'_>, enroller: &Enroller) -> Option<Elsewhere> {
    if token.run.is_none() || first.run.is_none() {
        Some(Elsewhere::NoRun)
    } else if first.run.as_ref() != token.run {
        Some(Elsewhere::OtherRun)
    } else if first.enroller.uid != enroller.uid {
        Some(Elsewhere::OtherUser)
    } else if first.enroller.pod_uid != enroller.pod_uid {
        Some(Elsewhere::OtherPod)
    } else {
        None
    }
}

#[cfg(test)]
mod tests;
