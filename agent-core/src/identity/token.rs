//! The token itself, and the id that it is remembered by.
//!
//! A [`Token`] must never be printed, logged, stored or compared: whoever has its text can act as the job
//! until it expires. Only its [`TokenId`] is kept.

use std::fmt;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// A token, as it was presented. `Debug` shows nothing of it, and its memory is overwritten when it is
/// dropped.
pub struct Token(Vec<u8>);

/// The longest token that is accepted. GitHub's have about 2 KiB, Kubernetes' about 1 KiB.
pub const TOKEN_BYTES_MAX: usize = 16 * 1024;

impl Token {
    /// A token of this text, without surrounding white space, such as a file's last newline.
    pub fn new(text: String) -> Self {
        let mut bytes = text.into_bytes();
        let end = bytes.trim_ascii_end().len();
        bytes.truncate(end);
        let start = bytes.len() - bytes.trim_ascii_start().len();
        bytes.drain(..start);
        Self(bytes)
    }

    /// The token's text. The caller must neither keep nor print it.
    pub fn reveal(&self) -> &str {
        // The bytes are UTF-8: `new` took them from a `String`, and cut off ASCII alone.
        std::str::from_utf8(&self.0).unwrap_or_default()
    }

    /// Its length in bytes.
    pub fn bytes(&self) -> usize {
        self.0.len()
    }

    /// Whether nothing is left of it without white space.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Drop for Token {
    fn drop(&mut self) {
        self.0.fill(0);
        // Keeps the compiler from leaving the zeros out because nobody reads them.
        std::hint::black_box(&self.0);
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Token(redacted)")
    }
}

/// What a token is remembered by. The token can't be computed from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TokenId([u8; TokenId::BYTES]);

/// A text is not a [`TokenId`].
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("a token id is 64 hexadecimal digits, and this is not")]
pub struct BadTokenId;

impl TokenId {
    const BYTES: usize = 32;

    /// The id of a token with a `jti`, which is unique for its issuer (RFC 7519, section 4.1.7). It is
    /// hashed, so that the issuer does not choose how many bytes are remembered.
    pub fn from_jti(issuer: &str, jti: &str) -> Self {
        Self::digest(b"jti", issuer.as_bytes(), jti.as_bytes())
    }

    /// The id of a token without a `jti`: a hash of what its signature covers, and not of the signature.
    /// Anybody can turn an ECDSA signature into another valid one, or change the unused bits in the last
    /// character of its base64; either would make one token pass for two.
    pub fn from_signing_input(issuer: &str, signing_input: &str) -> Self {
        Self::digest(b"signing-input", issuer.as_bytes(), signing_input.as_bytes())
    }

    fn digest(domain: &[u8], issuer: &[u8], text: &[u8]) -> Self {
        let mut hasher = Sha256::new();
        // A URL holds no zero byte, so no two different inputs are hashed as the same bytes.
        for part in [domain, b"\0", issuer, b"\0", text] {
            hasher.update(part);
        }
        Self(hasher.finalize().into())
    }
}

impl fmt::Display for TokenId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(formatter, "{byte:02x}"))
    }
}

impl From<TokenId> for String {
    fn from(id: TokenId) -> Self {
        id.to_string()
    }
}

impl TryFrom<String> for TokenId {
    type Error = BadTokenId;

    fn try_from(text: String) -> Result<Self, BadTokenId> {
        if text.len() != Self::BYTES * 2 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(BadTokenId);
        }
        let mut id = [0; Self::BYTES];
        for (byte, digits) in id.iter_mut().zip(text.as_bytes().chunks(2)) {
            let digits = std::str::from_utf8(digits).map_err(|_| BadTokenId)?;
            *byte = u8::from_str_radix(digits, 16).map_err(|_| BadTokenId)?;
        }
        Ok(Self(id))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_shows_nothing_of_a_token() {
        assert_eq!(format!("{:?}", Token::new("eyJhbGciOi".to_owned())), "Token(redacted)");
    }

    #[test]
    fn white_space_around_a_token_is_dropped() {
        let token = Token::new(" \n abc.def \n".to_owned());
        assert_eq!((token.reveal(), token.bytes()), ("abc.def", 7));
        assert!(Token::new(" \n".to_owned()).is_empty());
    }

    #[test]
    fn ids_differ_by_issuer_kind_and_text_and_are_read_back_as_printed() {
        let ids = [
            TokenId::from_jti("https://a", "x"),
            TokenId::from_jti("https://b", "x"),
            TokenId::from_jti("https://a", "y"),
            TokenId::from_signing_input("https://a", "x"),
        ];
        for (at, id) in ids.iter().enumerate() {
            assert_eq!(TokenId::try_from(id.to_string()).unwrap(), *id);
            assert!(ids.iter().skip(at + 1).all(|other| other != id));
        }
    }

    #[test]
    fn only_64_hexadecimal_digits_are_an_id() {
        for text in ["", "ab", &"g".repeat(64), &"a".repeat(63), &"é".repeat(32)] {
            assert_eq!(TokenId::try_from(text.to_owned()), Err(BadTokenId), "{text}");
        }
    }
}
