//! A password in memory. It must never be printed, and is told to its server alone.

use zeroize::Zeroizing;

/// The longest password that is read: PostgreSQL accepts no longer one (`PG_MAX_AUTH_TOKEN_LENGTH`).
pub(super) const SECRET_BYTES_MAX: u64 = 65_535;

/// A password. It has no `Debug` and no `Display`, and is wiped from memory when it is dropped.
#[derive(Clone)]
pub struct Secret(Zeroizing<Vec<u8>>);

impl Secret {
    /// Takes over the bytes of a password.
    pub fn new(bytes: Vec<u8>) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// The password, for the one place that proves it to a server.
    pub fn reveal(&self) -> &[u8] {
        &self.0
    }

    /// Removes one line end, `\n` or `\r\n`, from its end.
    pub fn trim_line_end(&mut self) {
        if self.0.last() == Some(&b'\n') {
            self.0.pop();
            if self.0.last() == Some(&b'\r') {
                self.0.pop();
            }
        }
    }
}
