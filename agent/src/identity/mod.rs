//! Identity: from a CI system's token to a verified credential.
//!
//! - [`config`]: an `[[issuer]]` of the configuration, as written; [`issuer`]: the same, checked;
//!   [`config_error`]: why an `[[issuer]]` can't be used.
//! - [`verify`]: checks a token against its issuer. The `openidconnect` crate checks the signature and most
//!   claims; `verify` checks what the crate leaves out (`nbf`, an `iat` in the future).
//! - [`error`]: why a token is not accepted.
//! - [`keys`]: fetches an issuer's signing keys by [`fetch`], and keeps them for a while.
//! - [`uses`]: the tokens used on this host. Whether a token may be used again is decided by
//!   [`agent_core::identity::replay`].
//! - [`source`]: finds the job's token. It runs in `lineal run`, not in the agent.
//!
//! Nothing here may print a token. What an error shows of an unverified token is escaped and cut
//! ([`error::Shown`]). Nothing here knows of jobs, policies or the audit trail.

pub(crate) mod config;
mod config_error;
pub(crate) mod error;
mod fetch;
mod issuer;
mod keys;
pub(crate) mod source;
pub(crate) mod uses;
pub(crate) mod verify;

#[cfg(test)]
mod tests;
