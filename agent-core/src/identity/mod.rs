//! The pure part of identity: what a verified token says, and where it may be used again.
//!
//! Nothing here verifies a signature, reads a clock or talks to an issuer. The `agent` crate does, and hands
//! over claims that are verified.
//!
//! - [`claims`] makes a [`Credential`](crate::credential::Credential)'s content of a token's claims.
//! - [`replay`] decides whether a token may be used here and now.
//! - [`token`] holds the token itself, and keeps it from being printed.

pub mod claims;
pub mod replay;
pub mod token;
