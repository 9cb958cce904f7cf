//! Identity: from a CI system's token to a verified credential.
//!
//! - [`config`]: an `[[issuer]]` of the configuration; [`issuer`]: the same, checked.
//! - [`verify`]: checks a token against its issuer. The `openidconnect` crate checks signatures and claims;
//!   what it leaves out (`nbf`, an `iat` in the future) is checked here.
//! - [`keys`]: an issuer's keys, which it requests through [`fetch`].
//! - [`uses`]: the tokens used on this host. Where a token may be used again is decided by
//!   [`agent_core::identity::replay`].
//! - [`source`]: finds the token on the job's side, in `lineal run`.
//!
//! Nothing here may print a token. Of the claims of an unverified token, only those that an error names are
//! shown, escaped and cut. Nothing here knows of jobs, policies or the audit trail.

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
