//! The verified identity a job starts with.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Who a job acts for: made from a verified token only.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Credential {
    /// The issuer's URL, as in the token's `iss`.
    pub issuer: String,
    /// The token's `sub`.
    pub subject: String,
    /// Groups, from a claim or from the configuration's rules over claims; sorted, unique.
    pub groups: Vec<String>,
    /// The token's claims that are text, number, boolean or a list of text, as text; lists are joined with
    /// commas. No signature, no token.
    pub claims: BTreeMap<String, String>,
    /// When the token expires, in seconds since the Unix epoch (RFC 7519 section 4.1.4).
    pub expires_unix: i64,
    /// Until when a job that starts under it may act, in the same seconds: as long as its issuer's configuration lets
    /// it outlive the token.
    pub acts_until_unix: i64,
}
