//! Why a token was not accepted: one variant and one sentence for each reason.
//!
//! No sentence holds a token or a part of a signature. Of the claims only the issuer and the audience are
//! named, as [`Shown`], because they are what somebody has to correct.

use std::fmt;

use agent_core::identity::{claims::ClaimsError, token::TOKEN_BYTES_MAX};

use super::fetch::FetchError;

/// Text from a token or an issuer that has not been verified: escaped and cut, so that it can't forge a log
/// line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Shown(String);

/// How much of such a text is shown.
const SHOWN_CHARS_MAX: usize = 120;

impl Shown {
    pub(crate) fn new(text: &str) -> Self {
        let mut shown: String = text.chars().take(SHOWN_CHARS_MAX).flat_map(char::escape_debug).collect();
        if text.chars().nth(SHOWN_CHARS_MAX).is_some() {
            shown.push('…');
        }
        Self(shown)
    }
}

impl fmt::Display for Shown {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// Why a token was not accepted.
#[derive(Debug, thiserror::Error)]
pub(crate) enum IdentityError {
    /// The token is empty.
    #[error("the token is empty")]
    Empty,
    /// It is longer than [`TOKEN_BYTES_MAX`].
    #[error("the token has {bytes} bytes, at most {TOKEN_BYTES_MAX} are accepted")]
    TooLong {
        /// Its size.
        bytes: usize,
    },
    /// It is not a JSON Web Token.
    #[error("the token is not a JSON Web Token: {what}")]
    Malformed {
        /// What is wrong with it. Quotes nothing of the token.
        what: &'static str,
    },
    /// `alg` is `none`, or the signature is missing.
    #[error("unsigned tokens are not accepted")]
    Unsigned,
    /// It is signed with an algorithm that is not on the list, such as one with a shared secret.
    #[error("tokens signed with `{alg}` are not accepted, only those signed with {accepted}")]
    Algorithm {
        /// The algorithm that it names.
        alg: Shown,
        /// The accepted algorithms.
        accepted: &'static str,
    },
    /// `typ`, `cty` or `crit` say that it is not an ID token.
    #[error(
        "the token's header says that it is not a plain ID token (its `typ` must be JWT or absent; no `cty`, \
         no `crit`)"
    )]
    Type,
    /// No issuer of that URL is configured.
    #[error(
        "the token is from issuer {issuer}, which this host is not configured to believe; if it should be, \
         add an [[issuer]] with this `url`"
    )]
    UnknownIssuer {
        /// Its `iss`.
        issuer: Shown,
    },
    /// Its audience is not this host, or not this host alone.
    #[error("the token is for audience {found}, this host expects {expected} alone")]
    Audience {
        /// Its `aud`.
        found: Shown,
        /// The configured one.
        expected: String,
    },
    /// Its `exp` has passed, clock skew considered.
    #[error("the token expired {ago_s} s ago; request a new one for this job")]
    Expired {
        /// How long ago.
        ago_s: i64,
    },
    /// Its `nbf` has not come yet, clock skew considered.
    #[error("the token is not valid for another {in_s} s; are this host's and the issuer's clocks right?")]
    NotYetValid {
        /// How long from now.
        in_s: i64,
    },
    /// Its `iat` has not come yet, clock skew considered.
    #[error("the token was issued {in_s} s in the future; are this host's and the issuer's clocks right?")]
    IssuedInFuture {
        /// How long from now.
        in_s: i64,
    },
    /// The signature does not verify with the key that it names.
    #[error("the token's signature is wrong: it was not made by issuer `{issuer}`, or the token was changed")]
    Signature {
        /// The issuer's configured name.
        issuer: String,
    },
    /// The issuer published no such key when it was last asked.
    #[error(
        "the token is signed with a key that issuer `{issuer}` does not publish (its keys were last asked \
         for {asked_s} s ago)"
    )]
    UnknownKey {
        /// The issuer's configured name.
        issuer: String,
        /// Seconds since its keys were last asked for.
        asked_s: i64,
    },
    /// The token names no key, and several of the issuer's could have signed it.
    #[error("the token does not say which of the keys of issuer `{issuer}` signed it")]
    AmbiguousKey {
        /// The issuer's configured name.
        issuer: String,
    },
    /// The issuer's keys are not available.
    #[error("the keys of issuer `{issuer}` are not available: {reason}")]
    Keys {
        /// The issuer's configured name.
        issuer: String,
        /// Why.
        reason: KeysError,
    },
    /// Its claims are not those of a credential.
    #[error(transparent)]
    Claims(#[from] ClaimsError),
}

/// Why an issuer's keys are not available. Kept, and given to everybody who needs them until they may be
/// asked for again.
#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum KeysError {
    /// The request failed.
    #[error("{url}: {error}")]
    Fetch {
        /// What was requested.
        url: String,
        /// What went wrong.
        error: FetchError,
    },
    /// The answer is not a discovery document.
    #[error("{url} is not a discovery document with `issuer` and `jwks_uri`")]
    Discovery {
        /// Where it was found.
        url: String,
    },
    /// The discovery document is another issuer's (OpenID Connect Discovery 1.0 section 4.3).
    #[error("the discovery document says that its issuer is {found}, configured is {expected}")]
    OtherIssuer {
        /// What it says.
        found: Shown,
        /// The configured URL.
        expected: String,
    },
    /// The discovery document's `jwks_uri` is not secure.
    #[error("the discovery document's jwks_uri {found} is not an https URL")]
    InsecureKeys {
        /// What it says.
        found: Shown,
    },
    /// The keys are not a JSON Web Key Set.
    #[error("{place} is not a JSON Web Key Set")]
    KeySet {
        /// A URL or a path.
        place: String,
    },
    /// Too many keys, or none that is understood.
    #[error("{place} holds {count} usable keys, expected are 1 to {count_max}")]
    KeyCount {
        /// A URL or a path.
        place: String,
        /// How many keys.
        count: usize,
        /// The most that are accepted.
        count_max: usize,
    },
    /// The task that fetched them was stopped, because the agent is stopping.
    #[error("the request was interrupted; retry")]
    Interrupted,
    /// A file can't be read.
    #[error("{path} can't be read: {reason}")]
    File {
        /// The file.
        path: String,
        /// What the system said.
        reason: String,
    },
}
