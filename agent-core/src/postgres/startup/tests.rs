//! Startup packets byte by byte: what is read out of them, and what is refused.

use super::{
    packet::{GSSENC_REQUEST, SSL_REQUEST},
    *,
};
use crate::postgres::{cancel::CANCEL_REQUEST, fault::ClientFault};

fn packet(code: u32, body: &[u8]) -> Vec<u8> {
    let mut out = u32::try_from(8 + body.len()).unwrap().to_be_bytes().to_vec();
    out.extend_from_slice(&code.to_be_bytes());
    out.extend_from_slice(body);
    out
}

fn first(buf: &[u8]) -> Result<FirstPacket, ClientFault> {
    read(buf, 10_000, &mut EncryptionRequests::default())
}

const V3: u32 = 3 << 16;

#[test]
fn the_database_defaults_to_the_user() {
    let check = |body: &[u8], user: &str, database: &str| {
        let Ok(FirstPacket::Startup { startup, .. }) = first(&packet(V3, body)) else { panic!("{body:?}") };
        assert_eq!((&*startup.user, &*startup.database), (user, database));
    };
    check(b"user\0ada\0\0", "ada", "ada");
    check(b"user\0ada\0database\0shop\0\0", "ada", "shop");
    check(b"database\0\0user\0ada\0\0", "ada", "ada");
}

#[test]
fn every_parameter_is_kept() {
    let body = b"user\0ada\0options\0-c a=b\0_pq_.x\x001\0replication\0off\0\0";
    let Ok(FirstPacket::Startup { startup, .. }) = first(&packet(V3 + 2, body)) else { panic!() };
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
fn a_terminate_before_the_startup_is_no_packet_of_impossible_length() {
    assert_eq!(first(b"X\0\0\0\x04"), Ok(FirstPacket::Terminate));
    assert_eq!(first(b"X\0\0\0"), Ok(FirstPacket::NeedMore(5)));
    assert!(matches!(first(b"X\0\0\0\x05"), Err(ClientFault::StartupLength { .. })));
}

#[test]
fn a_length_is_checked_before_more_bytes_are_awaited() {
    let check = |length: u32| {
        assert!(first(&length.to_be_bytes()).is_err(), "{length}");
    };
    check(0);
    check(7);
    check(10_001);
    check(u32::MAX);
    assert_eq!(first(&8u32.to_be_bytes()), Ok(FirstPacket::NeedMore(8)));
    assert_eq!(first(&[0, 0]), Ok(FirstPacket::NeedMore(8)));
    assert_eq!(first(&packet(V3, b"user\0ada\0\0")[..12]), Ok(FirstPacket::NeedMore(18)));
}

#[test]
fn bytes_behind_an_encryption_request_are_refused() {
    for code in [SSL_REQUEST, GSSENC_REQUEST] {
        let mut buf = packet(code, b"");
        assert_eq!(first(&buf), Ok(FirstPacket::Declined { bytes: 8 }));
        buf.push(0);
        assert_eq!(first(&buf), Err(ClientFault::DataBehindEncryptionRequest));
    }
}

#[test]
fn each_kind_of_encryption_may_be_requested_once() {
    let mut requests = EncryptionRequests::default();
    let mut check = |code, expect| assert_eq!(read(&packet(code, b""), 10_000, &mut requests), expect);
    check(GSSENC_REQUEST, Ok(FirstPacket::Declined { bytes: 8 }));
    check(SSL_REQUEST, Ok(FirstPacket::Declined { bytes: 8 }));
    check(SSL_REQUEST, Err(ClientFault::EncryptionRepeated));
    check(GSSENC_REQUEST, Err(ClientFault::EncryptionRepeated));
}

#[test]
fn a_startup_message_for_another_role_differs_in_the_role_alone() {
    let body = b"user\0ada\0options\0-c role=x\0_pq_.odd\0\0\0";
    let Ok(FirstPacket::Startup { startup, .. }) = first(&packet(3 << 16 | 2, body)) else { panic!() };
    let expect = b"user\0bea\0database\0ada\0options\0-c role=x\0_pq_.odd\0\0\0";
    assert_eq!(startup.as_role("bea"), packet(3 << 16 | 2, expect));
}

#[test]
fn an_encrypted_connection_may_request_no_encryption() {
    for before in [&[][..], &[GSSENC_REQUEST]] {
        let mut requests = EncryptionRequests::default();
        requests.tls_offered = true;
        let mut first = |code| read(&packet(code, b""), 10_000, &mut requests);
        for code in before {
            assert_eq!(first(*code), Ok(FirstPacket::Declined { bytes: 8 }));
        }
        assert_eq!(first(SSL_REQUEST), Ok(FirstPacket::Tls { bytes: 8 }));
        assert_eq!(first(SSL_REQUEST), Err(ClientFault::EncryptionRepeated));
        assert_eq!(first(GSSENC_REQUEST), Err(ClientFault::EncryptionRepeated));
    }
}

#[test]
fn a_cancel_request_may_have_a_long_key() {
    let body = [&7u32.to_be_bytes()[..], &[9; 32]].concat();
    let Ok(FirstPacket::Cancel { key, bytes }) = first(&packet(CANCEL_REQUEST, &body)) else { panic!() };
    assert_eq!((key.pid, bytes), (7, 44));
    assert_eq!(key.to_request(), packet(CANCEL_REQUEST, &body));
}
