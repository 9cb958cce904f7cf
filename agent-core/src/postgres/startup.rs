//! The first packets of a connection, which have no type byte: encryption requests, CancelRequest,
//! StartupMessage.
//!
//! Nothing is forwarded from here: this file reads, and refuses what lineal does not relay.

use super::event::CancelKey;
use super::fault::ClientFault;
use super::wire::Fields;

/// The request code of a CancelRequest: 1234.5678.
pub(super) const CANCEL_REQUEST: u32 = 80_877_102;
const SSL_REQUEST: u32 = 80_877_103;
const GSSENC_REQUEST: u32 = 80_877_104;

/// The newest minor version of protocol 3 that lineal knows; 3.1 was never used.
pub(super) const MINOR_VERSION_MAX: u16 = 2;

/// Names the server cuts at this length; a longer one would be one name to policy and another to it.
const NAME_BYTES_MAX: usize = 63;

/// The parameters that say who connects to what.
const OWN: [&str; 2] = ["user", "database"];

/// The prefix of protocol options, which negotiate.
const PROTOCOL_OPTION: &str = "_pq_.";

/// A StartupMessage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Startup {
    /// Minor version of protocol 3 that the client asks for.
    pub minor_version: u16,
    /// The role it asks for.
    pub user: Box<str>,
    /// The database, which defaults to the user's name.
    pub database: Box<str>,
    /// Every parameter as sent, `user` and `database` included: settings among them, `options` with more
    /// settings.
    pub parameters: Vec<(Box<str>, Box<str>)>,
}

impl Startup {
    /// A parameter's value.
    pub fn parameter(&self, name: &str) -> Option<&str> {
        self.parameters.iter().find(|(key, _)| **key == *name).map(|(_, value)| &**value)
    }

    /// The same message for another role; the database stays what this one asks for.
    pub fn as_role(&self, role: &str) -> Vec<u8> {
        let mut body = Vec::new();
        let own = [("user", role), ("database", &self.database)];
        let others = self.parameters.iter().map(|(name, value)| (&**name, &**value));
        for (name, value) in own.into_iter().chain(others.filter(|(name, _)| !OWN.contains(name))) {
            for text in [name, value] {
                body.extend_from_slice(text.as_bytes());
                body.push(0);
            }
        }
        body.push(0);
        let mut out = Vec::with_capacity(8 + body.len());
        let length = u32::try_from(8 + body.len()).unwrap_or(u32::MAX);
        out.extend_from_slice(&length.to_be_bytes());
        out.extend_from_slice(&(3 << 16 | u32::from(self.minor_version)).to_be_bytes());
        out.extend_from_slice(&body);
        out
    }

    /// How many protocol options the upstream must turn down.
    pub(super) fn protocol_options(&self) -> usize {
        self.parameters.iter().filter(|(name, _)| name.starts_with(PROTOCOL_OPTION)).count()
    }
}

/// What the first packet is.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum First {
    /// Not all there: this many bytes are wanted in all.
    NeedMore(usize),
    /// An SSLRequest or a GSSENCRequest of `bytes` bytes, to be answered `N`.
    Declined { bytes: usize },
    /// An SSLRequest of `bytes` bytes, to be answered `S`.
    Tls { bytes: usize },
    /// A CancelRequest of `bytes` bytes.
    Cancel { key: CancelKey, bytes: usize },
    /// A StartupMessage of `bytes` bytes.
    Startup { startup: Startup, bytes: usize },
}

/// Which encryption requests were made already: each may be made once, and none on an encrypted connection.
#[derive(Debug, Default)]
pub(super) struct Requested {
    ssl: bool,
    gssenc: bool,
    /// Whether an SSLRequest is granted.
    pub(super) offered: bool,
}

impl Requested {
    /// The connection is encrypted: there is nothing more to ask for.
    pub(super) const ENCRYPTED: Self = Self { ssl: true, gssenc: true, offered: false };
}

/// Reads the first packet.
pub(super) fn read(buf: &[u8], bytes_max: usize, requested: &mut Requested) -> Result<First, ClientFault> {
    let mut fields = Fields::new(buf);
    let Some(length) = fields.int32() else { return Ok(First::NeedMore(8)) };
    let bytes = length as usize;
    if !(8..=bytes_max).contains(&bytes) {
        return Err(ClientFault::StartupLength { length, max: bytes_max });
    }
    let Some(packet) = buf.get(..bytes) else { return Ok(First::NeedMore(bytes)) };
    let mut fields = Fields::new(packet);
    let code = fields.int32().and(fields.int32()).unwrap_or_default();
    match code {
        SSL_REQUEST | GSSENC_REQUEST => {
            if bytes != 8 {
                return Err(ClientFault::StartupLength { length, max: 8 });
            }
            let seen = if code == SSL_REQUEST { &mut requested.ssl } else { &mut requested.gssenc };
            if std::mem::replace(seen, true) {
                return Err(ClientFault::EncryptionRepeated);
            }
            // The client has to wait for the answer. Bytes that are here already were put in by someone
            // who hopes that they will be taken for encrypted ones.
            if buf.len() > bytes {
                return Err(ClientFault::DataBehindEncryptionRequest);
            }
            if code == SSL_REQUEST && requested.offered {
                *requested = Requested::ENCRYPTED;
                return Ok(First::Tls { bytes });
            }
            Ok(First::Declined { bytes })
        }
        CANCEL_REQUEST => fields
            .int32()
            .and_then(|pid| CancelKey::new(pid, fields.rest()))
            .map(|key| First::Cancel { key, bytes })
            .ok_or(ClientFault::StartupMalformed("the key of a CancelRequest has 4 to 256 bytes")),
        version => {
            let (major, minor) = ((version >> 16) as u16, (version & 0xffff) as u16);
            if major != 3 {
                return Err(ClientFault::ProtocolVersion { major, minor });
            }
            Ok(First::Startup { startup: parameters(minor, fields)?, bytes })
        }
    }
}

fn parameters(minor_version: u16, mut fields: Fields<'_>) -> Result<Startup, ClientFault> {
    const CUT: ClientFault = ClientFault::StartupMalformed("a parameter is cut short");
    let mut parameters: Vec<(Box<str>, Box<str>)> = Vec::new();
    loop {
        let name = text(fields.string().ok_or(CUT)?)?;
        if name.is_empty() {
            break;
        }
        let value = text(fields.string().ok_or(CUT)?)?;
        // The server takes the last of them; whoever looks at the first would decide on another.
        if parameters.iter().any(|(seen, _)| **seen == *name) {
            return Err(ClientFault::StartupMalformed("a parameter is given twice"));
        }
        parameters.push((name.into(), value.into()));
    }
    if !fields.is_empty() {
        return Err(ClientFault::StartupMalformed("bytes behind the last parameter"));
    }
    let of = |wanted: &str| parameters.iter().find(|(name, _)| **name == *wanted).map(|(_, value)| &**value);
    if of("replication")
        .is_some_and(|value| !["false", "off", "no", "0"].iter().any(|no| value.eq_ignore_ascii_case(no)))
    {
        return Err(ClientFault::Replication);
    }
    let user = of("user").filter(|user| !user.is_empty());
    let user = user.ok_or(ClientFault::StartupMalformed("no user name"))?;
    let database = of("database").filter(|database| !database.is_empty()).unwrap_or(user);
    if user.len() > NAME_BYTES_MAX || database.len() > NAME_BYTES_MAX {
        return Err(ClientFault::StartupMalformed("a user or database name of more than 63 bytes"));
    }
    let (user, database) = (user.into(), database.into());
    Ok(Startup { minor_version, user, database, parameters })
}

fn text(bytes: &[u8]) -> Result<&str, ClientFault> {
    str::from_utf8(bytes).map_err(|_| ClientFault::StartupMalformed("a parameter is not UTF-8"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(code: u32, body: &[u8]) -> Vec<u8> {
        let mut out = u32::try_from(8 + body.len()).unwrap().to_be_bytes().to_vec();
        out.extend_from_slice(&code.to_be_bytes());
        out.extend_from_slice(body);
        out
    }

    fn first(buf: &[u8]) -> Result<First, ClientFault> {
        read(buf, 10_000, &mut Requested::default())
    }

    const V3: u32 = 3 << 16;

    #[test]
    fn the_database_defaults_to_the_user() {
        let check = |body: &[u8], user: &str, database: &str| {
            let Ok(First::Startup { startup, .. }) = first(&packet(V3, body)) else { panic!("{body:?}") };
            assert_eq!((&*startup.user, &*startup.database), (user, database));
        };
        check(b"user\0ada\0\0", "ada", "ada");
        check(b"user\0ada\0database\0shop\0\0", "ada", "shop");
        check(b"database\0\0user\0ada\0\0", "ada", "ada");
    }

    #[test]
    fn every_parameter_is_shown() {
        let body = b"user\0ada\0options\0-c a=b\0_pq_.x\x001\0replication\0off\0\0";
        let Ok(First::Startup { startup, .. }) = first(&packet(V3 + 2, body)) else { panic!() };
        assert_eq!(startup.parameter("options"), Some("-c a=b"));
        assert_eq!((startup.minor_version, startup.protocol_options()), (2, 1));
    }

    #[test]
    fn startups_that_two_readers_could_read_differently_are_refused() {
        let check = |code: u32, body: &[u8]| {
            assert!(first(&packet(code, body)).is_err(), "{code} {}", body.escape_ascii());
        };
        check(V3, b"");
        check(V3, b"\0");
        check(V3, b"user\0\0\0");
        check(V3, b"user\0ada\0");
        check(V3, b"user\0ada");
        check(V3, b"user\0ada\0\0x");
        check(V3, b"user\0ada\0user\0bob\0\0");
        check(V3, b"user\0ada\0database\0\xff\0\0");
        check(V3, &[b"user\0", [b'a'; 64].as_slice(), b"\0\0"].concat());
        check(2 << 16, b"user\0ada\0\0");
        check(4 << 16, b"user\0ada\0\0");
        check(CANCEL_REQUEST, b"\0\0\0\x01abc");
        check(CANCEL_REQUEST, &[0; 261]);
        check(SSL_REQUEST, b"x");
    }

    #[test]
    fn replication_is_refused_in_every_spelling() {
        for value in ["true", "on", "1", "database", "yes", "", "t", "nonsense"] {
            let body = [b"user\0ada\0replication\0", value.as_bytes(), b"\0\0"].concat();
            assert_eq!(first(&packet(V3, &body)), Err(ClientFault::Replication), "{value}");
        }
    }

    #[test]
    fn a_length_is_checked_before_anything_is_awaited() {
        let check = |length: u32| {
            assert!(first(&length.to_be_bytes()).is_err(), "{length}");
        };
        check(0);
        check(7);
        check(10_001);
        check(u32::MAX);
        assert_eq!(first(&8u32.to_be_bytes()), Ok(First::NeedMore(8)));
        assert_eq!(first(&[0, 0]), Ok(First::NeedMore(8)));
        assert_eq!(first(&packet(V3, b"user\0ada\0\0")[..12]), Ok(First::NeedMore(18)));
    }

    #[test]
    fn bytes_behind_an_encryption_request_are_an_attack() {
        for code in [SSL_REQUEST, GSSENC_REQUEST] {
            let mut buf = packet(code, b"");
            assert_eq!(first(&buf), Ok(First::Declined { bytes: 8 }));
            buf.push(0);
            assert_eq!(first(&buf), Err(ClientFault::DataBehindEncryptionRequest));
        }
    }

    #[test]
    fn encryption_is_asked_for_once_each_way() {
        let mut requested = Requested::default();
        let mut check = |code, expect| assert_eq!(read(&packet(code, b""), 10_000, &mut requested), expect);
        check(GSSENC_REQUEST, Ok(First::Declined { bytes: 8 }));
        check(SSL_REQUEST, Ok(First::Declined { bytes: 8 }));
        check(SSL_REQUEST, Err(ClientFault::EncryptionRepeated));
        check(GSSENC_REQUEST, Err(ClientFault::EncryptionRepeated));
    }

    #[test]
    fn a_startup_message_for_another_role_differs_in_the_role_alone() {
        let body = b"user\0ada\0options\0-c role=x\0_pq_.odd\0\0\0";
        let Ok(First::Startup { startup, .. }) = first(&packet(3 << 16 | 2, body)) else { panic!() };
        let expect = b"user\0bea\0database\0ada\0options\0-c role=x\0_pq_.odd\0\0\0";
        assert_eq!(startup.as_role("bea"), packet(3 << 16 | 2, expect));
    }

    #[test]
    fn nothing_is_asked_for_once_the_connection_is_encrypted() {
        for before in [&[][..], &[GSSENC_REQUEST]] {
            let mut requested = Requested { offered: true, ..Requested::default() };
            let mut first = |code| read(&packet(code, b""), 10_000, &mut requested);
            for code in before {
                assert_eq!(first(*code), Ok(First::Declined { bytes: 8 }));
            }
            assert_eq!(first(SSL_REQUEST), Ok(First::Tls { bytes: 8 }));
            assert_eq!(first(SSL_REQUEST), Err(ClientFault::EncryptionRepeated));
            assert_eq!(first(GSSENC_REQUEST), Err(ClientFault::EncryptionRepeated));
        }
    }

    #[test]
    fn a_cancel_request_may_have_a_long_key() {
        let body = [&7u32.to_be_bytes()[..], &[9; 32]].concat();
        let Ok(First::Cancel { key, bytes }) = first(&packet(CANCEL_REQUEST, &body)) else { panic!() };
        assert_eq!((key.pid, bytes), (7, 44));
        assert_eq!(key.to_request(), packet(CANCEL_REQUEST, &body));
    }
}
