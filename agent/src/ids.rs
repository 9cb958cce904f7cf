//! Identifiers of jobs and sessions: 64 random bits, written as 13 characters of which none is easily taken
//! for another.

use std::{fmt, str::FromStr};

/// Crockford's base 32 in lower case: without i, l, o and u.
const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";

/// The identifier of a job or session; never 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Id(pub u64);

impl Id {
    /// A new random identifier.
    pub fn random() -> std::io::Result<Self> {
        loop {
            let mut bytes = [0u8; 8];
            let filled = rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty())?;
            let id = u64::from_ne_bytes(bytes);
            if filled == bytes.len() && id != 0 {
                return Ok(Self(id));
            }
        }
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (0..13).rev().try_for_each(|digit| {
            let index = (self.0 >> (5 * digit)) & 31;
            fmt::Write::write_char(f, ALPHABET.get(index as usize).copied().map_or('0', char::from))
        })
    }
}

/// A text is not an identifier.
#[derive(Debug, thiserror::Error)]
#[error("`{0}` is no identifier: expected 13 characters such as 0f3k2m9v7qwxy")]
pub struct NotAnId(String);

impl FromStr for Id {
    type Err = NotAnId;

    fn from_str(text: &str) -> Result<Self, NotAnId> {
        let invalid = || NotAnId(text.chars().take(32).collect());
        if text.len() != 13 {
            return Err(invalid());
        }
        let value = text.bytes().try_fold(0u128, |value, byte| {
            let digit = ALPHABET.iter().position(|known| *known == byte.to_ascii_lowercase())?;
            Some(value << 5 | digit as u128)
        });
        value.and_then(|value| u64::try_from(value).ok()).filter(|id| *id != 0).map(Self).ok_or_else(invalid)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_printed_identifier_is_read_back_unchanged() {
        for id in [1, 31, 32, u64::MAX, u64::MAX >> 4, 0x0123_4567_89ab_cdef] {
            assert_eq!(Id(id).to_string().parse::<Id>().unwrap(), Id(id));
        }
    }

    #[test]
    fn texts_that_are_not_identifiers_are_refused() {
        for text in ["", "0", "0000000000000", "zzzzzzzzzzzzz", "0f3k2m9v7qwxu", "0f3k2m9v7qwxyz"] {
            assert!(text.parse::<Id>().is_err(), "{text}");
        }
    }
}
