//! Why a token was not accepted: one variant and one sentence for each reason.
//!
//! No sentence holds a token or a part of a signature. Of the claims only the issuer and the audience are
//! named, as [`Shown`], because they are what somebody has to correct.

use std::fmt;

use agent_core::identity::claims::ClaimsError;
use agent_core::identity::token::TOKEN_BYTES_MAX;

use super::fetch::FetchError;

/// Text from a token or an issuer that was not proven: escaped and cut, so that it can't forge a log line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Shown(String);

/// How much of an unproven text is shown.
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
    /// There is nothing in it.
    #[error("the token is empty")]
    Empty,
    /// More than [`TOKEN_BYTES_MAX`].
    #[error("the token has {bytes} bytes, at most {TOKEN_BYTES_MAX} are accepted")]
    TooLong {
        /// Its size.
        bytes: usize,
    },
    /// It is no JSON Web Token.
    #[error("the token is not a JSON Web Token: {what}")]
    Malformed {
        /// Which part of it, in our own words.
        what: &'static str,
    },
    /// `alg` is `none`, or the signature is missing.
    #[error("unsigned tokens are not accepted")]
    Unsigned,
    /// Signed with an algorithm that is not on the list; with a shared secret above all.
    #[error("tokens signed with `{alg}` are not accepted, only those signed with {accepted}")]
    Algorithm {
        /// The one it names.
        alg: Shown,
        /// The ones accepted.
        accepted: &'static str,
    },
    /// `typ`, `cty` or `crit` say that it is something else than an ID token.
    #[error(
        "the token's header says that it is no plain ID token (its `typ` must be JWT or absent; no `cty`, no `crit`)"
    )]
    Type,
    /// No issuer of that URL is configured.
    #[error("the token is from issuer {issuer}, which this host is not configured to believe")]
    UnknownIssuer {
        /// Its `iss`.
        issuer: Shown,
    },
    /// It isn't for this host, or not for it alone.
    #[error("the token is for audience {found}, this host expects {expected} alone")]
    Audience {
        /// Its `aud`.
        found: Shown,
        /// The configured one.
        expected: String,
    },
    /// `exp`, with the skew, is past.
    #[error("the token expired {ago_s} s ago")]
    Expired {
        /// How long ago.
        ago_s: i64,
    },
    /// `nbf`, with the skew, is to come.
    #[error("the token is not valid for another {in_s} s; are this host's and the issuer's clocks right?")]
    NotYetValid {
        /// How long from now.
        in_s: i64,
    },
    /// `iat`, with the skew, is to come.
    #[error("the token was issued {in_s} s in the future; are this host's and the issuer's clocks right?")]
    IssuedInFuture {
        /// How long from now.
        in_s: i64,
    },
    /// The signature doesn't fit the key it names.
    #[error("the token's signature is wrong: it was not made by issuer `{issuer}`, or the token was changed")]
    Signature {
        /// The issuer's configured name.
        issuer: String,
    },
    /// The issuer publishes no such key, as far as is known.
    #[error(
        "the token is signed with a key that issuer `{issuer}` does not publish (its keys were last asked for {asked_s} s ago)"
    )]
    UnknownKey {
        /// The issuer's configured name.
        issuer: String,
        /// How long ago its keys were asked for.
        asked_s: i64,
    },
    /// The token names no key, and more than one would do.
    #[error("the token does not say which of the keys of issuer `{issuer}` signed it")]
    AmbiguousKey {
        /// The issuer's configured name.
        issuer: String,
    },
    /// The issuer's keys can't be had.
    #[error("the keys of issuer `{issuer}` can't be had: {reason}")]
    Keys {
        /// The issuer's configured name.
        issuer: String,
        /// Why not.
        reason: KeysError,
    },
    /// Its claims make no credential.
    #[error(transparent)]
    Claims(#[from] ClaimsError),
}

/// Why an issuer's keys can't be had. `Clone`, since it is kept to answer until they may be asked for again.
#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum KeysError {
    /// No usable answer over the network.
    #[error("{url}: {error}")]
    Fetch {
        /// What was asked for.
        url: String,
        /// What came.
        error: FetchError,
    },
    /// The discovery document isn't one.
    #[error("{url} is not a discovery document with `issuer` and `jwks_uri`")]
    Discovery {
        /// Where it is.
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
    /// Its `jwks_uri` may not be asked.
    #[error("the discovery document's jwks_uri {found} is not an https URL")]
    InsecureKeys {
        /// What it says.
        found: Shown,
    },
    /// What should be a key set isn't.
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
        /// How many.
        count: usize,
        /// Of how many at most.
        count_max: usize,
    },
    /// The task that asked for them was ended: the agent is stopping.
    #[error("asking for them was interrupted; retry")]
    Interrupted,
    /// A file can't be read.
    #[error("{path} can't be read: {reason}")]
    File {
        /// Which.
        path: String,
        /// The system's answer.
        reason: String,
    },
}
