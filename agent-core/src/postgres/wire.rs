//! Framing of the PostgreSQL protocol, version 3 (the manual's chapter "Frontend/Backend Protocol", section
//! "Message Formats"). Reads headers and strings out of borrowed bytes; allocates nothing.

/// Bytes of a message's type and length.
pub const HEADER_BYTES: usize = 5;

/// A message's type and how long it is, type byte included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// The type byte.
    pub kind: u8,
    /// Bytes of the whole message: type, length word and body.
    pub total: usize,
}

impl Header {
    /// Reads a header; `None` until five bytes are there, `Some(None)` for a length below four.
    pub fn read(bytes: &[u8]) -> Option<Option<Self>> {
        let (kind, length) = (bytes.first()?, read_u32(bytes.get(1..HEADER_BYTES)?)?);
        if length < 4 || length > i32::MAX as u32 {
            return Some(None);
        }
        Some(Some(Self { kind: *kind, total: 1 + length as usize }))
    }
}

/// The first four bytes as a number in network byte order.
pub fn read_u32(bytes: &[u8]) -> Option<u32> {
    bytes.first_chunk().map(|word| u32::from_be_bytes(*word))
}

/// The string that ends at the first NUL, and what follows it.
pub fn read_cstr(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = bytes.iter().position(|byte| *byte == 0)?;
    Some((bytes.get(..end)?, bytes.get(end + 1..)?))
}

/// Appends a message: its type, its length, its body.
pub fn write_message(out: &mut Vec<u8>, kind: u8, body: &[u8]) {
    out.push(kind);
    out.extend_from_slice(&(body.len() as u32 + 4).to_be_bytes());
    out.extend_from_slice(body);
}

/// Reads a field of an ErrorResponse or NoticeResponse, such as `b'C'` for the SQLSTATE.
pub fn error_field(body: &[u8], wanted: u8) -> Option<&[u8]> {
    let mut rest = body;
    loop {
        let (code, after) = rest.split_first()?;
        if *code == 0 {
            return None;
        }
        let (value, after) = read_cstr(after)?;
        if *code == wanted {
            return Some(value);
        }
        rest = after;
    }
}

/// An ErrorResponse of the given severity, SQLSTATE and message.
pub fn error_response(severity: &str, sqlstate: &str, message: &str) -> Vec<u8> {
    let mut body = Vec::with_capacity(message.len() + 32);
    for (field, value) in [(b'S', severity), (b'V', severity), (b'C', sqlstate), (b'M', message)] {
        body.push(field);
        // NUL ends a string: one inside would start a field of the sender's making.
        body.extend(value.bytes().filter(|byte| *byte != 0));
        body.push(0);
    }
    body.push(0);
    let mut out = Vec::with_capacity(body.len() + HEADER_BYTES);
    write_message(&mut out, b'E', &body);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_is_read_once_it_is_whole() {
        assert_eq!(Header::read(b"Q\0\0\0"), None);
        assert_eq!(Header::read(b"Q\0\0\0\x05"), Some(Some(Header { kind: b'Q', total: 6 })));
    }

    #[test]
    fn a_length_that_cannot_be_is_refused() {
        assert_eq!(Header::read(b"Q\0\0\0\x03"), Some(None));
        assert_eq!(Header::read(b"Q\xff\xff\xff\xff"), Some(None));
    }

    #[test]
    fn an_error_is_written_as_it_is_read() {
        let error = error_response("ERROR", "42501", "no\0t you");
        let body = &error[HEADER_BYTES..];
        assert_eq!(error_field(body, b'C'), Some(&b"42501"[..]));
        assert_eq!(error_field(body, b'M'), Some(&b"not you"[..]));
        assert_eq!(error_field(body, b'P'), None);
    }

    #[test]
    fn a_truncated_error_has_no_field() {
        assert_eq!(error_field(b"Mabc", b'M'), None);
        assert_eq!(error_field(b"", b'M'), None);
    }
}
