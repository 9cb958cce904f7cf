//! The first bytes of a connection: requests for encryption, cancel requests, the startup message.

use super::{
    violation::Violation,
    wire::{read_cstr, read_u32},
};

/// Longest startup packet, as the server itself has it (`MAX_STARTUP_PACKET_LENGTH`).
pub const STARTUP_BYTES_MAX: usize = 10_000;

const CODE_CANCEL: u32 = 80_877_102;
const CODE_SSL: u32 = 80_877_103;
const CODE_GSSENC: u32 = 80_877_104;
/// First byte of a TLS record that carries a handshake: a client that starts TLS without asking.
const TLS_HANDSHAKE: u8 = 0x16;

/// What a connection starts with.
#[derive(Debug, PartialEq, Eq)]
pub enum Opening {
    /// Not enough bytes yet.
    More {
        /// How many are needed.
        bytes_min: usize,
    },
    /// Asks for TLS or GSSAPI encryption.
    Encryption {
        /// Bytes of the request.
        bytes: usize,
    },
    /// Asks to cancel what another connection runs.
    Cancel {
        /// Bytes of the request.
        bytes: usize,
    },
    /// Asks for a session.
    Start {
        /// Bytes of the packet.
        bytes: usize,
        /// What it says.
        startup: Startup,
    },
}

/// A startup message.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Startup {
    /// Minor version of protocol 3.
    pub minor: u16,
    /// The user to be at the server.
    pub user: String,
    /// The database; the user's name unless given.
    pub database: String,
    /// Every other parameter, in order.
    pub parameters: Vec<(String, String)>,
}

impl Startup {
    /// Whether the client asks to replicate: a protocol of its own that no statement shows.
    pub fn asks_for_replication(&self) -> bool {
        let off = ["false", "off", "no", "0", "f", "n"];
        self.parameters
            .iter()
            .any(|(name, value)| name == "replication" && !off.contains(&value.to_ascii_lowercase().as_str()))
    }
}

/// Reads what a connection starts with.
pub fn read(bytes: &[u8]) -> Result<Opening, Violation> {
    if bytes.first() == Some(&TLS_HANDSHAKE) {
        return Err(Violation::Client("it starts TLS, which this connection does not carry"));
    }
    let Some(length) = read_u32(bytes) else { return Ok(Opening::More { bytes_min: 8 }) };
    let length = length as usize;
    // Told from its first word, so that what speaks another protocol isn't left waiting.
    if length > STARTUP_BYTES_MAX {
        return Err(Violation::ClientOversized {
            what: "a startup packet",
            bytes: length,
            bytes_max: STARTUP_BYTES_MAX,
        });
    }
    if length < 8 {
        return Err(Violation::Client("it speaks no version 3 of the protocol"));
    }
    let Some(code) = bytes.get(4..).and_then(read_u32) else { return Ok(Opening::More { bytes_min: 8 }) };
    match code {
        CODE_SSL | CODE_GSSENC if length == 8 => {
            // A client must wait for the answer: bytes behind the request would be read as if they had come
            // encrypted (CVE-2021-23214).
            if bytes.len() > 8 {
                return Err(Violation::Client("it sent bytes behind a request for encryption"));
            }
            Ok(Opening::Encryption { bytes: 8 })
        }
        CODE_CANCEL if (12..=12 + 256).contains(&length) => Ok(if bytes.len() < length {
            Opening::More { bytes_min: length }
        } else {
            Opening::Cancel { bytes: length }
        }),
        _ if length < 9 || code >> 16 != 3 => {
            Err(Violation::Client("it speaks no version 3 of the protocol"))
        }
        _ => match bytes.get(8..length) {
            None => Ok(Opening::More { bytes_min: length }),
            Some(body) => {
                Ok(Opening::Start { bytes: length, startup: parameters((code & 0xffff) as u16, body)? })
            }
        },
    }
}

fn parameters(minor: u16, body: &[u8]) -> Result<Startup, Violation> {
    let malformed = || Violation::Client("its startup packet is malformed");
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).map_err(|_| malformed());
    let mut startup = Startup { minor, ..Startup::default() };
    let mut rest = body;
    while rest != [0] {
        let (name, after) = read_cstr(rest).filter(|(name, _)| !name.is_empty()).ok_or_else(malformed)?;
        let (value, after) = read_cstr(after).ok_or_else(malformed)?;
        match name {
            // The last one counts, as for the server.
            b"user" => startup.user = text(value)?,
            b"database" => startup.database = text(value)?,
            _ => startup.parameters.push((text(name)?, text(value)?)),
        }
        rest = after;
    }
    if startup.user.is_empty() {
        return Err(Violation::Client("its startup packet names no user"));
    }
    if startup.database.is_empty() {
        startup.database.clone_from(&startup.user);
    }
    Ok(startup)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(code: u32, body: &[u8]) -> Vec<u8> {
        let mut bytes = (body.len() as u32 + 8).to_be_bytes().to_vec();
        bytes.extend_from_slice(&code.to_be_bytes());
        bytes.extend_from_slice(body);
        bytes
    }

    #[test]
    fn a_startup_message_names_user_and_database_wherever_it_is_split() {
        let bytes = packet(196_608, b"user\0dana\0database\0shop\0application_name\0psql\0\0");
        for end in 0..bytes.len() {
            assert!(matches!(read(&bytes[..end]), Ok(Opening::More { .. })), "{end}");
        }
        let Ok(Opening::Start { bytes: 55, startup }) = read(&bytes) else { panic!("{:?}", read(&bytes)) };
        assert_eq!((startup.user.as_str(), startup.database.as_str()), ("dana", "shop"));
        assert_eq!(startup.parameters, [("application_name".to_owned(), "psql".to_owned())]);
    }

    #[test]
    fn the_database_is_the_users_name_unless_given() {
        let Ok(Opening::Start { startup, .. }) = read(&packet(196_608, b"user\0dana\0\0")) else { panic!() };
        assert_eq!(startup.database, "dana");
    }

    #[test]
    fn bytes_behind_a_request_for_encryption_end_the_session() {
        let mut bytes = packet(CODE_SSL, b"");
        assert_eq!(read(&bytes), Ok(Opening::Encryption { bytes: 8 }));
        bytes.push(0);
        assert!(read(&bytes).is_err());
    }

    #[test]
    fn what_cannot_be_a_startup_packet_is_refused() {
        for bytes in [
            packet(196_608, b"user\0dana\0"),
            packet(196_608, b"user\0\0\0"),
            packet(196_608, b"\0"),
            packet(196_608, b"user\0da\xffna\0\0"),
            packet(2 << 16, b"user\0dana\0\0"),
            vec![0, 0, 0x40, 0, 0, 3, 0, 0],
            vec![0, 0, 0, 4, 0, 3, 0, 0],
            b"GET / HTTP/1.1\r\n".to_vec(),
            vec![TLS_HANDSHAKE, 3, 1, 0, 5],
        ] {
            assert!(read(&bytes).is_err(), "{bytes:?}");
        }
    }

    #[test]
    fn replication_is_seen_in_every_spelling() {
        for (value, asks) in [("database", true), ("true", true), ("1", true), ("OFF", false), ("0", false)] {
            let startup =
                Startup { parameters: vec![("replication".into(), value.into())], ..Startup::default() };
            assert_eq!(startup.asks_for_replication(), asks, "{value}");
        }
    }
}
