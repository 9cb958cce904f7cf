//! Cancellation keys: the upstream hands one out in BackendKeyData, and a client's CancelRequest must present
//! it.
//!
//! A key's secret must never be printed, nor compared in a time that depends on where two secrets differ.

use std::fmt;

/// The request code of a CancelRequest: 1234 in the upper 16 bits, 5678 in the lower (manual, "Message
/// Formats").
pub(super) const CANCEL_REQUEST: u32 = 80_877_102;

/// A cancellation key: process id and secret, as in BackendKeyData.
#[derive(Clone)]
pub struct CancelKey {
    /// The process id of the upstream's backend. Not secret: keys are looked up by it.
    pub pid: u32,
    secret: Box<[u8]>,
}

impl CancelKey {
    /// "The minimum and maximum key length are 4 and 256 bytes" (manual, "Message Formats", BackendKeyData).
    const SECRET_BYTES: std::ops::RangeInclusive<usize> = 4..=256;

    /// A key; `None` if the secret's length is out of range.
    pub(super) fn new(pid: u32, secret: &[u8]) -> Option<Self> {
        Self::SECRET_BYTES.contains(&secret.len()).then(|| Self { pid, secret: secret.into() })
    }

    /// The bytes of the CancelRequest that presents this key.
    pub fn to_request(&self) -> Vec<u8> {
        let length = u32::try_from(12 + self.secret.len()).unwrap_or(u32::MAX);
        let mut out = Vec::with_capacity(12 + self.secret.len());
        out.extend_from_slice(&length.to_be_bytes());
        out.extend_from_slice(&CANCEL_REQUEST.to_be_bytes());
        out.extend_from_slice(&self.pid.to_be_bytes());
        out.extend_from_slice(&self.secret);
        out
    }
}

impl PartialEq for CancelKey {
    /// Takes the same time wherever the secrets differ: an early exit would tell a guesser how many leading
    /// bytes are right.
    fn eq(&self, other: &Self) -> bool {
        let differences = self.secret.iter().zip(&other.secret).fold(0, |all, (a, b)| all | (a ^ b));
        let same_secret = std::hint::black_box(differences) == 0;
        self.pid == other.pid && self.secret.len() == other.secret.len() && same_secret
    }
}

impl Eq for CancelKey {}

impl fmt::Debug for CancelKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CancelKey of process {}", self.pid)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_equal_only_if_process_and_whole_secret_are() {
        let key = CancelKey::new(7, &[1, 2, 3, 4]).unwrap();
        let check = |pid, secret: &[u8], expect| {
            assert_eq!(key == CancelKey::new(pid, secret).unwrap(), expect);
        };
        check(7, &[1, 2, 3, 4], true);
        check(8, &[1, 2, 3, 4], false);
        check(7, &[1, 2, 3, 5], false);
        check(7, &[1, 2, 3, 4, 0], false);
        assert!(CancelKey::new(7, &[1, 2, 3]).is_none());
        assert!(CancelKey::new(7, &[0; 257]).is_none());
    }

    #[test]
    fn a_key_does_not_print_its_secret() {
        assert_eq!(format!("{:?}", CancelKey::new(7, b"SECRET").unwrap()), "CancelKey of process 7");
    }
}
