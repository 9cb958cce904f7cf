//! The wire format: message headers, the fields inside a body, and the few messages that lineal writes
//! itself.
//!
//! This file knows bytes, never what they mean. It must never trust a length: every read is checked, and a
//! field that is cut short is `None`. Formats are those of the PostgreSQL manual, "Message Formats".

/// A message's type byte and length word.
pub(super) const HEADER_BYTES: usize = 5;

/// The length word counts itself, so no smaller value is valid.
const LENGTH_WORD_BYTES: u32 = 4;

/// The header of a typed message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    /// The type byte.
    pub(super) tag: u8,
    /// The length word as sent: itself and the body.
    pub(super) length: u32,
}

impl Header {
    /// Reads the header at the start of `bytes`, if all of it is there.
    pub(super) fn read(bytes: &[u8]) -> Option<Self> {
        let [tag, a, b, c, d, ..] = *bytes else { return None };
        Some(Self { tag, length: u32::from_be_bytes([a, b, c, d]) })
    }

    /// How many bytes follow the header; `None` if the length word is impossible.
    pub(super) fn body_bytes(self) -> Option<usize> {
        // PostgreSQL reads the word as a signed 32-bit integer.
        if self.length > i32::MAX.unsigned_abs() {
            return None;
        }
        self.length.checked_sub(LENGTH_WORD_BYTES).map(|bytes| bytes as usize)
    }
}

/// A reader over the fields of one body.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    /// A reader that starts at the body's first byte.
    pub(super) fn new(body: &'a [u8]) -> Self {
        Self(body)
    }

    /// What has not been read yet.
    pub(super) fn rest(&self) -> &'a [u8] {
        self.0
    }

    /// Whether everything has been read. PostgreSQL refuses messages with bytes left over, and so does
    /// lineal.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The next `count` bytes.
    pub(super) fn bytes(&mut self, count: usize) -> Option<&'a [u8]> {
        let (head, tail) = self.0.split_at_checked(count)?;
        self.0 = tail;
        Some(head)
    }

    /// A `Byte1`.
    pub(super) fn byte(&mut self) -> Option<u8> {
        let (&first, tail) = self.0.split_first()?;
        self.0 = tail;
        Some(first)
    }

    /// An `Int16`.
    pub(super) fn int16(&mut self) -> Option<u16> {
        let (&head, tail) = self.0.split_first_chunk()?;
        self.0 = tail;
        Some(u16::from_be_bytes(head))
    }

    /// An `Int32`.
    pub(super) fn int32(&mut self) -> Option<u32> {
        let (&head, tail) = self.0.split_first_chunk()?;
        self.0 = tail;
        Some(u32::from_be_bytes(head))
    }

    /// A `String`: the bytes up to a NUL, which is read but not returned.
    pub(super) fn string(&mut self) -> Option<&'a [u8]> {
        let end = self.0.iter().position(|&byte| byte == 0)?;
        let string = self.bytes(end)?;
        self.byte()?;
        Some(string)
    }
}

/// Appends a message whose body is `parts`, one after another.
pub(super) fn put(out: &mut Vec<u8>, tag: u8, parts: &[&[u8]]) {
    let body: usize = parts.iter().map(|part| part.len()).sum();
    // Bodies written here are small: names, and error messages of bounded length.
    let length = u32::try_from(body).unwrap_or(u32::MAX).saturating_add(LENGTH_WORD_BYTES);
    out.reserve(HEADER_BYTES + body);
    out.push(tag);
    out.extend_from_slice(&length.to_be_bytes());
    for part in parts {
        out.extend_from_slice(part);
    }
}

/// How serious an ErrorResponse written by lineal is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Severity {
    /// The command failed; the session goes on.
    Error,
    /// The session ends.
    Fatal,
}

/// The longest text in one field of an ErrorResponse that lineal writes; a longer one is cut.
const ERROR_FIELD_BYTES_MAX: usize = 8 * 1024;

/// Appends an ErrorResponse: the severity twice (localised and not), SQLSTATE, message, and the detail and
/// hint that are given.
pub(super) fn put_error(
    out: &mut Vec<u8>,
    severity: Severity,
    sqlstate: [u8; 5],
    message: &str,
    detail: Option<&str>,
    hint: Option<&str>,
) {
    let severity = match severity {
        Severity::Error => "ERROR",
        Severity::Fatal => "FATAL",
    };
    let mut body = Vec::with_capacity(message.len() + 64);
    let mut field = |code: u8, text: &[u8]| {
        body.push(code);
        // A NUL would end the field early, and the rest of the text would be read as further fields.
        body.extend(text.iter().take(ERROR_FIELD_BYTES_MAX).map(|&byte| if byte == 0 { b'?' } else { byte }));
        body.push(0);
    };
    field(b'S', severity.as_bytes());
    field(b'V', severity.as_bytes());
    field(b'C', &sqlstate);
    field(b'M', message.as_bytes());
    if let Some(detail) = detail {
        field(b'D', detail.as_bytes());
    }
    if let Some(hint) = hint {
        field(b'H', hint.as_bytes());
    }
    put(out, b'E', &[&body, &[0]]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_length_word_is_impossible_if_it_does_not_count_itself_or_is_negative() {
        let check = |length: u32, expect: Option<usize>| {
            assert_eq!(Header { tag: b'Q', length }.body_bytes(), expect, "{length}");
        };
        check(0, None);
        check(3, None);
        check(4, Some(0));
        check(i32::MAX as u32, Some(i32::MAX as usize - 4));
        check(i32::MAX as u32 + 1, None);
        check(u32::MAX, None);
    }

    #[test]
    fn a_field_that_is_cut_short_is_none() {
        assert_eq!(Fields::new(b"abc").string(), None);
        assert_eq!(Fields::new(&[0]).int16(), None);
        assert_eq!(Fields::new(&[0, 0, 0]).int32(), None);
        assert_eq!(Fields::new(b"").byte(), None);
        assert_eq!(Fields::new(b"ab").bytes(3), None);
    }

    #[test]
    fn a_nul_in_an_errors_text_does_not_start_another_field() {
        let mut out = Vec::new();
        put_error(&mut out, Severity::Error, *b"42501", "a\0Cb", None, None);
        assert_eq!(&out[HEADER_BYTES..], b"SERROR\0VERROR\0C42501\0Ma?Cb\0\0");
        assert_eq!(Header::read(&out).unwrap().body_bytes(), Some(out.len() - HEADER_BYTES));
    }
}
