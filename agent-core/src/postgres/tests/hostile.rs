//! Arbitrary bytes from both sides: no panic, bounded memory, and nothing forwarded without an Allow.

use proptest::prelude::*;

use super::{
    executor::{Allowed, Executor},
    notation,
};
use crate::postgres::{
    Limits,
    wire::{Fields, HEADER_BYTES, Header},
};

/// Checks that each command in `forwarded` is the next one in `allowed`.
fn check_forwarded(mut forwarded: &[u8], mut allowed: &[Allowed]) -> Result<(), TestCaseError> {
    let poisons: Vec<Vec<u8>> = ["Q!", "B!", "E!", "F!"].into_iter().map(notation::client).collect();
    while let Some(header) = Header::read(forwarded) {
        let bytes = HEADER_BYTES + header.body_bytes().unwrap();
        // Only a message that is streamed may be cut short, if the session ended within it.
        let message = forwarded.get(..bytes).unwrap_or(forwarded);
        forwarded = &forwarded[message.len()..];
        if message.len() < bytes {
            prop_assert!(!b"QPEF".contains(&header.tag), "half a command: {}", message.escape_ascii());
        }
        let mut fields = Fields::new(&message[HEADER_BYTES..]);
        let found = match header.tag {
            _ if poisons.iter().any(|poison| poison == message) => continue,
            b'Q' => Allowed::Simple(fields.string().unwrap().to_vec()),
            b'F' => Allowed::Function(fields.int32().unwrap()),
            b'P' => {
                let (name, text) = (fields.string().unwrap(), fields.string().unwrap());
                if text == b"SELECT pg_catalog.lineal_denied_()" {
                    continue;
                }
                Allowed::Prepare(name.to_vec(), text.to_vec())
            }
            b'E' => Allowed::Execute(fields.string().unwrap().to_vec(), None, false),
            b'B' => match fields.string().unwrap() {
                b"" => continue,
                portal => Allowed::Bind(portal.to_vec()),
            },
            _ => continue,
        };
        let next = allowed.first();
        allowed = allowed.get(1..).unwrap_or_default();
        let matches = match (&found, next) {
            (Allowed::Execute(name, ..), Some(Allowed::Execute(allowed, ..))) => name == allowed,
            (found, Some(allowed)) => found == allowed,
            (_, None) => false,
        };
        prop_assert!(matches, "forwarded {found:?}, allowed {next:?}");
    }
    Ok(())
}

/// Sends bytes in pieces of `cut`.
fn feed(executor: &mut Executor, from_client: bool, bytes: &[u8], cut: usize) {
    for piece in bytes.chunks(cut.max(1)) {
        if from_client { executor.client(piece) } else { executor.upstream(piece) }
    }
}

/// A message with a type of `tags` and any body, or any bytes at all.
fn noise(tags: &'static [u8]) -> impl Strategy<Value = Vec<u8>> {
    let body = prop_oneof![
        prop::collection::vec(prop::sample::select(b"SPxyz\0\0\0\x01\xff".to_vec()), 0..20),
        prop::collection::vec(any::<u8>(), 0..20),
    ];
    let framed = (prop::sample::select(tags), body).prop_map(|(tag, body)| {
        let mut out = Vec::new();
        crate::postgres::wire::put(&mut out, tag, &[&body]);
        out
    });
    prop_oneof![20 => framed, 1 => prop::collection::vec(any::<u8>(), 0..12)]
}

const CLIENT_ITEMS: &[&str] = &[
    "Q a", "Q deny", "P x=a", "P =a", "P =deny", "P =later", "B <", "B <x", "B p<x", "E", "E p", "E other",
    "D sx", "D p", "C sx", "C pp", "S", "H", "F 1", "F 666", "d data", "c", "f no", "X",
];
const UPSTREAM_ITEMS: &[&str] = &[
    "1",
    "2",
    "3",
    "n",
    "t",
    "T",
    "D row",
    "d data",
    "C SELECT 1",
    "I",
    "s",
    "G",
    "H",
    "c",
    "V",
    "Z I",
    "Z T",
    "Z E",
    "E 42601 x",
    "E 42883 poison",
    "N n",
    "A a",
    "PS a=b",
    "FATAL 57P01 x",
];

/// What one side sends next: whether it is the client, and the bytes.
fn move_of_either() -> impl Strategy<Value = (bool, Vec<u8>)> {
    prop_oneof![
        8 => prop::sample::select(CLIENT_ITEMS).prop_map(|item| (true, notation::client(item))),
        8 => prop::sample::select(UPSTREAM_ITEMS).prop_map(|item| (false, notation::upstream(item))),
        1 => noise(b"QPBEDCSHFXdcfp").prop_map(|bytes| (true, bytes)),
        1 => noise(b"123CDEGHIKNRSTVWZAcdnstv").prop_map(|bytes| (false, bytes)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(4000) })]

    #[test]
    fn nothing_is_forwarded_without_an_allow(
        moves in prop::collection::vec((move_of_either(), 1usize..40), 0..60),
    ) {
        let mut executor = Executor::open(Limits { pipeline_max: 16, ..Limits::default() });
        for ((from_client, bytes), cut) in moves {
            feed(&mut executor, from_client, &bytes, cut);
            prop_assert!(executor.session.awaited() <= 64);
        }
        check_forwarded(&executor.seen.to_upstream, &executor.allowed)?;
    }

    #[test]
    fn any_first_bytes_cause_no_panic_and_forward_no_command(
        client in prop::collection::vec(any::<u8>(), 0..64),
        upstream in prop::collection::vec(any::<u8>(), 0..64),
        length in 0u32..80,
    ) {
        let mut executor = Executor::new(Limits::default());
        feed(&mut executor, true, &[&length.to_be_bytes()[..], &client].concat(), 5);
        feed(&mut executor, false, &upstream, 3);
        let mut executor = Executor::new(Limits::default());
        executor.client(&notation::client("START user=ada"));
        executor.seen.to_upstream.clear();
        feed(&mut executor, false, &upstream, 3);
        feed(&mut executor, true, &client, 3);
        prop_assert!(executor.seen.to_upstream.is_empty() || executor.seen.to_upstream[0] == b'p');
    }
}
