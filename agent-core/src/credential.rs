//! The verified identity that a job starts with.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Who a job acts for. Made from a verified token only.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Credential {
    /// The issuer's URL, as in the token's `iss`.
    pub issuer: String,
    /// The token's `sub`.
    pub subject: String,
    /// Groups, from a claim or from the configuration's rules over claims. Sorted, without duplicates.
    pub groups: Vec<String>,
    /// The token's claims that are text, numbers, booleans or lists of those, as text; the members of a list
    /// are joined with commas. Neither the token nor its signature is in it.
    pub claims: BTreeMap<String, String>,
    /// When the token expires, in seconds since the Unix epoch: its `exp` (RFC 7519, section 4.1.4).
    pub expires_unix: i64,
    /// Until when a job that starts under it may act, in the same seconds: the expiry, and as long after it
    /// as the issuer's configuration allows.
    pub acts_until_unix: i64,
}
