//! What ends a session: malformed, misplaced and oversized messages, replies that answer nothing, misuse. And
//! what is streamed or told although a session ends or a message is huge.

use super::{
    executor::Executor,
    notation,
    script::{check, check_with},
};
use crate::{
    postgres::{ClientFault, ClientStep, Limits, Misuse, Session, UpstreamFault, Violation, wire},
    ruling::tests::{admission, permit, preparation},
};

/// The fault that this message of the client's causes in the command phase.
fn client_fault(tag: u8, body: &[u8]) -> Option<Violation> {
    let mut executor = Executor::open(Limits::default());
    let mut message = Vec::new();
    wire::put(&mut message, tag, &[body]);
    executor.client(&message);
    assert_eq!(executor.seen.to_upstream, b"", "{}", tag.escape_ascii());
    assert_eq!(executor.seen.asked, Vec::<String>::new(), "{}", tag.escape_ascii());
    executor.seen.fault
}

#[test]
fn a_malformed_message_ends_the_session_and_is_not_forwarded() {
    let check = |tag: u8, body: &[u8]| {
        let fault = client_fault(tag, body);
        let expected =
            matches!(fault, Some(Violation::Client(ClientFault::Malformed { tag: of, .. })) if of == tag);
        assert!(expected, "{} {}: {fault:?}", tag.escape_ascii(), body.escape_ascii());
    };
    check(b'Q', b"");
    check(b'Q', b"select 1");
    check(b'Q', b"select 1\0; drop table x\0");
    check(b'P', b"");
    check(b'P', b"x\0select 1");
    check(b'P', b"x\0select 1\0");
    check(b'P', b"x\0select 1\0\0\x01");
    check(b'P', b"x\0select 1\0\0\0;");
    check(b'B', b"");
    check(b'B', b"p\0");
    check(b'B', b"p\0x");
    check(b'E', b"");
    check(b'E', b"p\0");
    check(b'E', b"p\0\0\0\0");
    check(b'E', b"p\0\0\0\0\0x");
    check(b'D', b"");
    check(b'D', b"Xx\0");
    check(b'D', b"Sx");
    check(b'D', b"Sx\0y");
    check(b'C', b"Px\0y");
    check(b'F', b"\0\0");
}

#[test]
fn a_message_type_outside_the_command_phases_list_ends_the_session() {
    for tag in (0..=255).filter(|tag| !b"QPBEDCSHXFdcf".contains(tag)) {
        let fault = client_fault(tag, b"");
        let phase = "in the command phase";
        assert_eq!(fault, Some(ClientFault::MessageType { tag, phase }.into()), "{}", tag.escape_ascii());
    }
}

#[test]
fn a_length_that_postgresql_would_refuse_ends_the_session_at_once() {
    let check = |tag: u8, length: u32| {
        let mut executor = Executor::open(Limits::default());
        executor.client(&[&[tag], &length.to_be_bytes()[..]].concat());
        assert_eq!(executor.seen.fault, Some(ClientFault::MessageLength { tag, length }.into()));
    };
    for tag in b"QPBEDCSHXFdcf" {
        check(*tag, 0);
        check(*tag, 3);
        check(*tag, u32::MAX);
        check(*tag, 0x4000_0000);
    }
    check(b'E', 10_001);
    check(b'S', 5);
    check(b'H', 5);
    check(b'X', 5);
}

#[test]
fn the_name_that_poison_relies_on_is_reserved() {
    assert_eq!(client_fault(b'P', b"lineal_denied_\0\0\0\0"), Some(ClientFault::ReservedName.into()));
    assert_eq!(client_fault(b'B', b"lineal_denied_\0\0\0\0\0\0\0\0"), Some(ClientFault::ReservedName.into()));
}

#[test]
fn names_far_longer_than_postgresql_compares_are_refused() {
    let name = [b'x'; 300];
    let body = [&name[..], b"\0\0\0\0\0"].concat();
    assert_eq!(client_fault(b'E', &body), Some(ClientFault::NameLength { tag: b'E', max: 255 }.into()));
    let body = [&name[..], b"\0select 1\0\0\0"].concat();
    assert_eq!(client_fault(b'P', &body), Some(ClientFault::NameLength { tag: b'P', max: 255 }.into()));
}

#[test]
fn portals_beyond_the_bound_end_the_session() {
    let limits = Limits { portals_max: 1, ..Limits::default() };
    check_with(
        limits,
        "> P =a / B p< / B q<
         ? prepare =a
         ? bind p: a
         -> P =a / B p<
         x client: more than 1 portals are open: close portals, or end the transaction",
    );
}

#[test]
fn messages_before_a_fault_are_still_forwarded() {
    check(
        "> P =a / S / RAW !1234567
         ? prepare =a
         -> P =a / S
         x client: unexpected message of type ! in the command phase",
    );
}

#[test]
fn a_reply_that_answers_nothing_ends_the_session() {
    let check = |sent: &str, reply: &str| {
        let mut executor = Executor::open(Limits::default());
        executor.client(&notation::client(sent));
        executor.seen.to_client.clear();
        executor.upstream(&notation::upstream(reply));
        let fault = executor.seen.fault;
        let expected = matches!(fault, Some(Violation::Upstream(UpstreamFault::Unexpected { .. })));
        assert!(expected, "{sent} {reply}: {fault:?}");
        assert_eq!(executor.seen.to_client, b"", "{sent} {reply}");
    };
    // What the client has sent, and the replies that do not answer it.
    let table = [
        ("", "1, 2, 3, n, s, I, t, T, D, C X, Z I, G, H, d, c, V, E 42601 x, R 0, K 7 abcd, v 0"),
        ("", "RAW ?\0\0\0\x04"),
        ("Q a", "1, 2, 3, n, s, t, d, c, V, R 0, K 7 abcd"),
        ("P =a / S", "2, 3, n, s, I, t, T, D, C X, Z I, G, H, d, c, V"),
        ("B <", "1, 3, n, s, I, t, T, D, C X, Z I, G, H, d, c, V"),
        ("E x", "1, 2, 3, n, t, T, Z I, d, c, V"),
        ("D s", "1, 2, 3, n, T, s, I, D, C X, Z I"),
        ("D p", "1, 2, 3, t, s, I, D, C X, Z I"),
        ("C px", "1, 2, n, T, D, C X, Z I"),
        ("S", "1, 2, 3, n, T, D, C X, I, V"),
        ("F 1", "1, T, D, C X, Z I, G"),
    ];
    for (sent, replies) in table {
        for reply in replies.split(", ") {
            check(sent, reply);
        }
    }
}

#[test]
fn a_replication_stream_ends_the_session() {
    check("> Q a\n ? simple a\n < W\n <-\n x upstream: the upstream started a replication stream");
}

#[test]
fn a_malformed_upstream_message_ends_the_session() {
    let check = |bytes: &[u8]| {
        let mut executor = Executor::open(Limits::default());
        executor.client(&notation::client("Q a"));
        executor.upstream(bytes);
        assert!(matches!(executor.seen.fault, Some(Violation::Upstream(_))), "{}", bytes.escape_ascii());
        assert_eq!(executor.seen.to_client, b"", "{}", bytes.escape_ascii());
    };
    check(b"Z\0\0\0\x05X");
    check(b"Z\0\0\0\x04");
    check(b"Z\0\0\0\x06II");
    check(b"C\0\0\0\x06SE");
    check(b"I\0\0\0\x05x");
    check(b"D\0\0\0\x03");
    check(b"D\xff\xff\xff\xff");
    check(b"E\0\0\0\x05\0");
    check(b"E\0\0\0\x0cSERROR\0\0");
    check(b"S\0\0\0\x06ab");
    check(b"S\0\0\0\x09a\0b\0c");
    check(&[b"C\0\0\xff\xff".as_slice(), &[b'x'; 5000]].concat());
}

#[test]
fn a_fault_is_final() {
    let mut executor = Executor::open(Limits::default());
    executor.client(b"!\0\0\0\x04");
    let fault = executor.seen.fault.take();
    assert!(fault.is_some());
    executor.client(&notation::client("Q a"));
    assert_eq!(executor.seen.fault.take(), fault);
    executor.upstream(&notation::upstream("Z I"));
    assert_eq!((executor.seen.fault.take(), executor.seen.to_upstream.len()), (fault, 0));
}

#[test]
fn a_ruling_that_fits_no_waiting_command_is_a_misuse() {
    let check = |waiting: &str, rule: fn(&mut Session, u64) -> Result<(), Violation>, expect: bool| {
        let mut executor = Executor::open(Limits::default());
        let buffer = notation::client(waiting);
        let session = &mut executor.session;
        let command = match session.client(&buffer) {
            Ok(ClientStep::Judge { command, .. }) => command,
            _ => 99,
        };
        let ruled = rule(session, command);
        assert_eq!(ruled, if expect { Ok(()) } else { Err(Misuse::Ruling(command).into()) }, "{waiting}");
    };
    check("", |session, _| session.allow(permit(99)), false);
    check("Q a", |session, command| session.allow(permit(command)), true);
    check("P =a", |session, command| session.allow_preparation(preparation(command)), true);
    // What runs, or can be run by its name, needs a record.
    check("P s=a", |session, command| session.allow_preparation(preparation(command)), false);
    check("Q a", |session, command| session.allow_preparation(preparation(command)), false);
    check("F 7", |session, command| session.allow_preparation(preparation(command)), false);
    // A session is admitted once.
    check("Q a", |session, command| session.admit(command, &admission()), false);
    check("Q a", |session, command| session.admit_logged_in(command, &admission()), false);
}

#[test]
fn a_huge_message_passes_through_a_small_buffer() {
    let mut executor = Executor::open(Limits::default());
    executor.client(&notation::client("Q a"));
    let mut sent = 0;
    // A gigabyte would take too long here. What matters is that no call sees more than a few kilobytes.
    let total = 64 * 1024 * 1024;
    executor.upstream(&[b"D", &u32::try_from(total + 4).unwrap().to_be_bytes()[..]].concat());
    assert!(!executor.session.at_boundary());
    let piece = [7; 4096];
    while sent < total {
        executor.upstream(&piece);
        sent += piece.len();
        assert!(executor.seen.to_client.len() <= 2 * piece.len());
        executor.seen.to_client.clear();
    }
    assert!(executor.session.at_boundary());
    executor.upstream(&notation::upstream("C SELECT 1 / Z I"));
    assert_eq!(executor.seen.told, ["2 complete rows=1 SELECT 1", "ready I"]);

    executor.client(&notation::client("Q copy in"));
    executor.upstream(&notation::upstream("G"));
    executor.seen.to_upstream.clear();
    executor.client(&[b"d", &u32::try_from(total + 4).unwrap().to_be_bytes()[..]].concat());
    for _ in 0..total / piece.len() {
        executor.client(&piece);
        assert!(executor.seen.to_upstream.len() <= 2 * piece.len());
        executor.seen.to_upstream.clear();
    }
    assert_eq!(executor.seen.fault, None);
}

#[test]
fn long_errors_and_settings_are_streamed() {
    let mut executor = Executor::open(Limits::default());
    executor.client(&notation::client("Q a"));
    executor.seen.to_client.clear();
    // `put_error` cuts its own texts, so the error is built by hand.
    let body = [b"SERROR\0VERROR\0C22P02\0M".as_slice(), &[b'x'; 100_000], b"\0\0"].concat();
    let mut error = Vec::new();
    wire::put(&mut error, b'E', &[&body]);
    let bytes = [
        notation::upstream(&format!("PS search_path={}", "x".repeat(100_000))),
        error,
        notation::upstream("Z I"),
    ]
    .concat();
    for piece in bytes.chunks(1000) {
        executor.upstream(piece);
    }
    assert_eq!(executor.seen.fault, None);
    assert!(executor.seen.to_client == bytes);
    assert_eq!(executor.seen.told, ["2 error 22P02", "ready I"]);
}

#[test]
fn revocation_tells_the_client_only_at_a_message_boundary() {
    let mut executor = Executor::open(Limits::default());
    executor.client(&notation::client("Q a"));
    let row = notation::upstream("D 123456");
    executor.upstream(&row[..7]);
    assert_eq!(executor.session.terminate(*b"57P01", "lineal: revoked"), None);

    let mut executor = Executor::open(Limits::default());
    executor.client(&notation::client("Q a"));
    executor.upstream(&row);
    let last = executor.session.terminate(*b"57P01", "lineal: revoked").unwrap();
    assert_eq!(last, notation::upstream("FATAL 57P01 lineal: revoked"));
    executor.seen.to_upstream.clear();
    executor.client(&notation::client("Q b"));
    assert!(executor.seen.ended && executor.seen.to_upstream.is_empty());
}

#[test]
fn commands_still_unanswered_at_the_end_have_an_unknown_outcome() {
    let mut executor = Executor::open(Limits::default());
    executor.client(&notation::client("Q a / P =b / B < / E / S"));
    executor.upstream(&notation::upstream("T / D 1"));
    executor.session.finish();
    executor.drain_events();
    assert_eq!(executor.seen.told, ["2 unknown rows=1", "3 unknown", "4 unknown"]);
}
