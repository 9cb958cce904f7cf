//! Tells the untyped packets apart that a connection can begin with.
//!
//! A length must never be trusted, and bytes that arrive before the answer to an encryption request must
//! never be read.

use super::message::Startup;
use crate::postgres::{
    cancel::{CANCEL_REQUEST, CancelKey},
    fault::ClientFault,
    wire::Fields,
};

/// The request code of an SSLRequest (manual, "Message Formats").
pub(super) const SSL_REQUEST: u32 = 80_877_103;
/// The request code of a GSSENCRequest (manual, "Message Formats").
pub(super) const GSSENC_REQUEST: u32 = 80_877_104;
/// A Terminate message, which is no untyped packet. As a packet's length its first four bytes are far beyond
/// any that is accepted.
const TERMINATE: [u8; 5] = *b"X\0\0\0\x04";

/// What a connection begins with.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::postgres) enum FirstPacket {
    /// It is not all there: the buffer must hold this many bytes in all.
    NeedMore(usize),
    /// An SSLRequest or a GSSENCRequest of `bytes` bytes, to be answered `N`.
    Declined { bytes: usize },
    /// An SSLRequest of `bytes` bytes, to be answered `S`.
    Tls { bytes: usize },
    /// A CancelRequest of `bytes` bytes.
    Cancel { key: CancelKey, bytes: usize },
    /// A Terminate: drivers that are closed before they have logged in send it without waiting. PostgreSQL
    /// takes it for a packet that is too long, and closes without a word.
    Terminate,
    /// A StartupMessage of `bytes` bytes.
    Startup { startup: Startup, bytes: usize },
}

/// The encryption requests made so far: each may be made once, and none on an encrypted connection.
#[derive(Debug, Default)]
pub(in crate::postgres) struct EncryptionRequests {
    ssl: bool,
    gssenc: bool,
    /// Whether an SSLRequest is granted.
    pub(in crate::postgres) tls_offered: bool,
}

impl EncryptionRequests {
    /// The connection is encrypted: no further request is allowed.
    pub(in crate::postgres) const ENCRYPTED: Self = Self { ssl: true, gssenc: true, tls_offered: false };
}

/// Reads the packet at the start of `buf`, of at most `bytes_max` bytes.
pub(in crate::postgres) fn read(
    buf: &[u8],
    bytes_max: usize,
    requests: &mut EncryptionRequests,
) -> Result<FirstPacket, ClientFault> {
    let mut fields = Fields::new(buf);
    let Some(length) = fields.int32() else { return Ok(FirstPacket::NeedMore(8)) };
    let bytes = length as usize;
    if buf.starts_with(&TERMINATE) {
        return Ok(FirstPacket::Terminate);
    }
    if TERMINATE.starts_with(buf) {
        return Ok(FirstPacket::NeedMore(TERMINATE.len()));
    }
    if !(8..=bytes_max).contains(&bytes) {
        return Err(ClientFault::StartupLength { length, max: bytes_max });
    }
    let Some(packet) = buf.get(..bytes) else { return Ok(FirstPacket::NeedMore(bytes)) };
    let mut fields = Fields::new(packet);
    let code = fields.int32().and(fields.int32()).unwrap_or_default();
    match code {
        SSL_REQUEST | GSSENC_REQUEST => {
            if bytes != 8 {
                return Err(ClientFault::StartupLength { length, max: 8 });
            }
            let requested = if code == SSL_REQUEST { &mut requests.ssl } else { &mut requests.gssenc };
            if std::mem::replace(requested, true) {
                return Err(ClientFault::EncryptionRepeated);
            }
            // The client has to wait for the answer. Bytes that are here already were injected by somebody
            // who hopes that they will be taken for encrypted ones.
            if buf.len() > bytes {
                return Err(ClientFault::DataBehindEncryptionRequest);
            }
            if code == SSL_REQUEST && requests.tls_offered {
                *requests = EncryptionRequests::ENCRYPTED;
                return Ok(FirstPacket::Tls { bytes });
            }
            Ok(FirstPacket::Declined { bytes })
        }
        CANCEL_REQUEST => fields
            .int32()
            .and_then(|pid| CancelKey::new(pid, fields.rest()))
            .map(|key| FirstPacket::Cancel { key, bytes })
            .ok_or(ClientFault::StartupMalformed("the key of a CancelRequest has 4 to 256 bytes")),
        version => {
            let (major, minor) = ((version >> 16) as u16, (version & 0xffff) as u16);
            if major != 3 {
                return Err(ClientFault::ProtocolVersion { major, minor });
            }
            Ok(FirstPacket::Startup { startup: Startup::read(minor, fields)?, bytes })
        }
    }
}
