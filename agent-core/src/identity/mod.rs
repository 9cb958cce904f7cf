//! The pure part of identity: what a verified token says, and where it may be used again.
//!
//! Nothing here checks a signature, reads a clock or talks to an issuer: the `agent` crate does that and
//! hands over claims that are proven. [`claims`] turns them into a [`Credential`](crate::credential::Credential),
//! [`replay`] decides whether the token may be used here and now. [`token`] keeps the token itself unprintable.

pub mod claims;
pub mod replay;
pub mod token;
