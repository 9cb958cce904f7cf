//! How long the client's messages may be: PostgreSQL's own limits, so that nothing is refused here that the
//! upstream would take, and nothing is awaited that it would refuse.

use crate::postgres::{fault::ClientFault, wire::Header};

/// The limit on messages that carry data or text (`PQ_LARGE_MESSAGE_LIMIT`).
const LARGE_BODY_BYTES_MAX: usize = 0x3fff_ffff - 4;
/// The limit on all other messages (`PQ_SMALL_MESSAGE_LIMIT`).
const SMALL_BODY_BYTES_MAX: usize = 10_000 - 4;
/// The limit on passwords and other authentication tokens (`PG_MAX_AUTH_TOKEN_LENGTH`).
pub(super) const TOKEN_BYTES_MAX: usize = 65_535 - 4;

/// The longest statement or portal name accepted in a message. PostgreSQL compares 63 bytes.
pub(super) const NAME_BYTES_MAX: usize = 255;

/// How long the body of a message of the command phase may be; `None` for a type that has no place there.
pub(super) fn command_body_bytes_max(tag: u8) -> Option<usize> {
    match tag {
        b'Q' | b'P' | b'B' | b'F' | b'd' => Some(LARGE_BODY_BYTES_MAX),
        b'E' | b'D' | b'C' | b'c' | b'f' => Some(SMALL_BODY_BYTES_MAX),
        b'S' | b'H' | b'X' => Some(0),
        _ => None,
    }
}

/// The length of the body behind `header`, which may be `bytes_max` at most.
pub(super) fn body_bytes(header: Header, bytes_max: usize) -> Result<usize, ClientFault> {
    let Header { tag, length } = header;
    header.body_bytes().filter(|&bytes| bytes <= bytes_max).ok_or(ClientFault::MessageLength { tag, length })
}
