//! Identity: from a CI system's token to a verified credential.
//!
//! [`config`] says which issuers are believed, [`verify`] checks a token against one of them with keys that
//! [`keys`] fetches through [`fetch`], and [`source`] finds the token on the job's side. Signatures and claims
//! are checked by the `openidconnect` crate; what it leaves out (`nbf`, `iat` ahead of the clock) is checked in
//! [`verify`]. Where a verified token may be used again is decided by [`agent_core::identity::replay`].
//!
//! Nothing here may print a token or a claim of one that isn't proven, except the few that an error names,
//! shortened and escaped. Nothing here knows of jobs, policies or the audit trail.

pub(crate) mod config;
pub(crate) mod error;
mod fetch;
mod keys;
pub(crate) mod source;
pub(crate) mod uses;
pub(crate) mod verify;

#[cfg(test)]
mod tests;
