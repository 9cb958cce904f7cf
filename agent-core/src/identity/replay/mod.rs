//! Where a token may be used again: in the CI run that it was issued to, and nowhere else.
//!
//! A table of the tokens used on this host, each with the run that it names and the context of its first use.
//! A token is remembered for as long as it could pass verification, and never forgotten to make room. Whoever
//! keeps the table must store it (see [`UseTable::save`]) before admitting the job: if a first use were lost
//! in a crash, a replay would count as the first.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::token::TokenId;

/// How many unexpired tokens a host remembers. 10 jobs a second, with tokens that are valid for an hour, need
/// 36,000.
pub const USES_MAX: usize = 65_536;

/// The claims that name a CI run, with their values. Never empty.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "BTreeMap<String, String>", into = "BTreeMap<String, String>")]
pub struct RunKey(BTreeMap<String, String>);

/// A run was to be made of no claims.
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

/// The context in which a token is used, as the kernel shows it: never as the enroller claims.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Enroller {
    /// The user id of the enrolling process, in the host's user namespace.
    pub uid: u32,
    /// The UID of the Kubernetes pod that its cgroup belongs to, spelled as the API server spells it.
    pub pod_uid: Option<String>,
}

/// A verified token that is about to be used.
#[derive(Clone, Copy, Debug)]
pub struct Use<'a> {
    /// Which token.
    pub token: TokenId,
    /// The run that it was issued to, if its issuer's tokens name one.
    pub run: Option<&'a RunKey>,
    /// The pod that it is bound to, if it is: only processes in that pod may use it.
    pub pod_uid: Option<&'a str>,
    /// From when on verification refuses it: its expiry plus the clock skew, in seconds since the Unix epoch.
    pub forget_unix: i64,
}

/// How a token was admitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admitted {
    /// For the first time: the table has changed and must be stored.
    First,
    /// Again, by the run that it was issued to.
    Again,
}

/// How a second use differs from the first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Elsewhere {
    /// The token names no run, so it may be used once only.
    NoRun,
    /// The first token of this id named another run.
    OtherRun,
    /// Another user used it first.
    OtherUser,
    /// It was first used in another pod.
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
    /// It was used before, and not in the same run, by the same user, in the same pod.
    #[error("the token was already used {ago_s} s ago, {elsewhere}; request a new one for this job")]
    Replayed {
        /// Seconds since the first use.
        ago_s: i64,
        /// How this use differs from the first.
        elsewhere: Elsewhere,
    },
    /// It is bound to a pod, and the enroller is not in it.
    #[error("the token is bound to a pod that the enrolling process is not in; use it in that pod")]
    WrongPod,
    /// It has expired since it was verified.
    #[error("the token has expired; request a new one for this job")]
    Expired,
    /// The clock was set back, and tokens as old as this have been forgotten.
    #[error(
        "the host's clock was set back, so it can't be known whether the token was used; request a new one"
    )]
    Forgotten,
    /// The table is full of unexpired tokens.
    #[error(
        "{uses_max} unexpired tokens were used on this host and no more are remembered; retry when some have \
         expired"
    )]
    Full {
        /// How many it holds.
        uses_max: usize,
    },
}

/// A token's first use.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct FirstUse {
    run: Option<RunKey>,
    enroller: Enroller,
    first_unix: i64,
    forget_unix: i64,
}

/// The table, as it is stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SavedUses {
    v: u32,
    forgotten_unix: i64,
    uses: BTreeMap<TokenId, FirstUse>,
}

/// A stored table has a layout that this version does not know.
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
    /// The latest `forget_unix` of the forgotten tokens. A token whose `forget_unix` is no later can pass
    /// verification only after the clock was set back. Whether such a token was used is not known.
    forgotten_unix: i64,
    uses_max: usize,
}

impl UseTable {
    /// An empty table for at most `uses_max` unexpired tokens; [`USES_MAX`] outside tests.
    pub fn new(uses_max: usize) -> Self {
        Self { uses: BTreeMap::new(), by_forget: BTreeSet::new(), forgotten_unix: i64::MIN, uses_max }
    }

    /// The table that was saved. If it holds more than `uses_max` tokens, it keeps all of them, and is full.
    pub fn restore(saved: SavedUses, uses_max: usize) -> Result<Self, UnknownVersion> {
        let SavedUses { v, forgotten_unix, uses } = saved;
        if v != SavedUses::VERSION {
            return Err(UnknownVersion { found: v });
        }
        let by_forget = uses.iter().map(|(token, first)| (first.forget_unix, *token)).collect();
        Ok(Self { uses, by_forget, forgotten_unix, uses_max })
    }

    /// The table, to be stored.
    pub fn save(&self) -> SavedUses {
        SavedUses { v: SavedUses::VERSION, forgotten_unix: self.forgotten_unix, uses: self.uses.clone() }
    }

    /// How many tokens are remembered.
    pub fn len(&self) -> usize {
        self.uses.len()
    }

    /// Whether no token is remembered.
    pub fn is_empty(&self) -> bool {
        self.uses.is_empty()
    }

    /// Admits `token` for `enroller`, or says why not. Remembers a first use.
    pub fn admit(&mut self, token: Use<'_>, enroller: &Enroller, now_unix: i64) -> Result<Admitted, Refusal> {
        if token.forget_unix <= now_unix {
            return Err(Refusal::Expired);
        }
        // At the first use as well: a bound token outside its pod was stolen.
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

    /// Forgets the tokens that verification refuses by now.
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

/// How a use differs from the first one; `None` if it may be repeated.
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
