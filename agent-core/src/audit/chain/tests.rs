//! The chain's promises, on lines so short that every change of them can be tried.

use proptest::prelude::*;

use super::*;
use crate::audit::record::{AgentRecord, AgentState, CheckpointRecord, CheckpointUpto, Detail, Details};

fn agent_record<'a>(reason: &'a str, details: &'a [(&'a str, Detail<'a>)]) -> Record<'a> {
    Record::Agent(AgentRecord { state: AgentState::Gap, reason, details: Details(details) })
}

/// A trail of `count` lines with one checkpoint before the last.
fn trail(count: u64) -> Vec<u8> {
    let (mut chain, host, mut out) = (Chain::GENESIS, Host::new("h"), Vec::new());
    for number in 1..count {
        let details = [("n", Detail::Count(number))];
        chain.append(&agent_record("r", &details), number, &host, &mut out).unwrap();
    }
    let hash = String::from_utf8(hex(&chain.hash).to_vec()).unwrap();
    let signature = "ab".repeat(64);
    let checkpoint = Record::Checkpoint(CheckpointRecord {
        upto: CheckpointUpto { seq: chain.seq, hash: &hash },
        key: "sha256:00",
        signature: &signature,
    });
    chain.append(&checkpoint, count, &host, &mut out).unwrap();
    out
}

/// Checks a whole trail as the `verify` command does: its lines, then the bytes after the last newline.
fn prove(bytes: &[u8]) -> Result<Vec<Checked>, Broken> {
    let mut verifier = Verifier::from_genesis();
    let mut rest = bytes;
    let mut checked = Vec::new();
    while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
        checked.push(verifier.feed(&rest[..end])?);
        rest = &rest[end + 1..];
    }
    if !rest.is_empty() {
        verifier.check_torn(rest)?;
    }
    Ok(checked)
}

fn lines(trail: &[u8]) -> Vec<Vec<u8>> {
    trail.split_inclusive(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect()
}

#[test]
fn a_line_has_the_documented_bytes_and_hash() {
    let mut out = Vec::new();
    let mut chain = Chain::GENESIS;
    let details = [("lost_events", Detail::Count(3)), ("where", Detail::Text("ring"))];
    let record = agent_record("a \"quoted\"\nreason", &details);
    assert_eq!(chain.append(&record, 1_709_164_800_123_456, &Host::new("ho\"st"), &mut out).unwrap(), 1);
    let body = concat!(
        r#"{"v":1,"seq":1,"time":"2024-02-29T00:00:00.123456Z","host":"ho\"st","kind":"agent","#,
        r#""state":"gap","reason":"a \"quoted\"\nreason","details":{"lost_events":3,"where":"ring"}"#
    );
    // Computed without this program: { head -c32 /dev/zero; printf %s BODY; } | sha256sum
    let hash = "4c0711c0db5e839c914c3d5e010cd64a447e3ff2081e96551e3a52ff84c91b7c";
    assert_eq!(String::from_utf8(out).unwrap(), format!("{body},\"hash\":\"{hash}\"}}\n"));
    assert_eq!(hex(&chain.hash), hash.as_bytes());
}

#[test]
fn a_line_hashes_the_raw_bytes_of_the_previous_hash() {
    let mut out = Vec::new();
    let mut chain = Chain { seq: 7, hash: [0xff; 32] };
    chain.append(&agent_record("r", &[]), 0, &Host::new("h"), &mut out).unwrap();
    // { head -c32 /dev/zero | tr '\0' '\377'; printf %s BODY; } | sha256sum
    let expect = concat!(
        r#"{"v":1,"seq":8,"time":"1970-01-01T00:00:00.000000Z","host":"h","kind":"agent","state":"gap","#,
        r#""reason":"r","details":{},"hash":""#,
        r#"92a15ef7979da208d2b1df26f069d4528802e9ef62ba10b569aa453674dc0d95"}"#,
        "\n"
    );
    assert_eq!(String::from_utf8(out).unwrap(), expect);
}

#[test]
fn a_written_trail_is_unbroken_and_its_checkpoints_are_found() {
    let checked = prove(&trail(5)).unwrap();
    assert_eq!(checked.iter().map(|line| line.seq).collect::<Vec<_>>(), [1, 2, 3, 4, 5]);
    assert_eq!(checked[0].time, "1970-01-01T00:00:00.000001Z");
    let claim = checked[4].claim.clone().unwrap();
    assert_eq!(claim.checkpoint.seq, 4);
    assert!(checked[..4].iter().all(|line| line.claim.is_none()));
}

#[test]
fn every_changed_byte_is_detected() {
    let trail = trail(4);
    for at in 0..trail.len() {
        for mask in [0x01, 0x02, 0x04, 0x08, 0x0a, 0x10, 0x20, 0x40, 0x80, 0xff] {
            let mut changed = trail.clone();
            changed[at] ^= mask;
            assert!(prove(&changed).is_err(), "byte {at} ^ {mask:#x} went unseen");
        }
    }
}

#[test]
fn removed_repeated_and_swapped_lines_are_detected_at_their_position() {
    let whole = lines(&trail(5));
    for at in 0..whole.len() {
        let mut repeated = whole.clone();
        repeated.insert(at, whole[at].clone());
        assert_eq!(prove(&repeated.concat()).unwrap_err().seq, at as u64 + 2);
        if at + 1 < whole.len() {
            let mut removed = whole.clone();
            removed.remove(at);
            assert_eq!(prove(&removed.concat()).unwrap_err().seq, at as u64 + 1);
            let mut swapped = whole.clone();
            swapped.swap(at, at + 1);
            assert_eq!(prove(&swapped.concat()).unwrap_err().seq, at as u64 + 1);
        }
    }
}

#[test]
fn a_removed_tail_is_a_shorter_unbroken_trail() {
    // Only a checkpoint kept elsewhere shows the cut, as docs/audit.md says.
    let whole = lines(&trail(5));
    assert_eq!(prove(&whole[..3].concat()).unwrap().len(), 3);
}

#[test]
fn a_last_line_may_be_torn_at_any_byte() {
    let whole = trail(3);
    let last = lines(&whole)[2].len();
    for cut in 1..last {
        assert_eq!(prove(&whole[..whole.len() - cut]).unwrap().len(), 2);
    }
    let zeros = [&whole[..whole.len() - 30], &[0; 4096][..]].concat();
    assert_eq!(prove(&zeros).unwrap().len(), 2);
}

#[test]
fn a_recomputed_chain_with_a_gap_in_its_numbers_is_detected() {
    let (host, mut out) = (Host::new("h"), Vec::new());
    let mut chain = Chain::GENESIS;
    chain.append(&agent_record("r", &[]), 0, &host, &mut out).unwrap();
    chain.seq += 1;
    chain.append(&agent_record("r", &[]), 0, &host, &mut out).unwrap();
    assert_eq!(prove(&out).unwrap_err().reason, BreakReason::WrongSeq { found: 3 });
}

#[test]
fn a_checkpoint_moved_by_recomputing_the_chain_is_detected() {
    let (host, mut out) = (Host::new("h"), Vec::new());
    let mut chain = Chain::GENESIS;
    let (hash, signature) = ("11".repeat(32), "ab".repeat(64));
    let upto = CheckpointUpto { seq: 0, hash: &hash };
    let record = CheckpointRecord { upto, key: "k", signature: &signature };
    chain.append(&Record::Checkpoint(record), 0, &host, &mut out).unwrap();
    assert_eq!(prove(&out).unwrap_err().reason, BreakReason::MisplacedCheckpoint);
}

#[test]
fn a_check_can_begin_after_a_line_or_at_a_checkpoint() {
    let whole = lines(&trail(5));
    let line = |at: usize| whole[at].strip_suffix(b"\n").unwrap();
    let mut resumed = Verifier::resume(end_of_line(line(2)).unwrap());
    assert_eq!(resumed.feed(line(3)).unwrap().seq, 4);
    let mut vouched = Verifier::from_checkpoint(line(4)).unwrap();
    assert_eq!(vouched.feed(line(4)).unwrap().seq, 5);
    assert!(Verifier::from_checkpoint(line(3)).is_err());
}

#[test]
fn a_record_that_is_too_long_changes_neither_chain_nor_output() {
    let reason = "x".repeat(LINE_BYTES_MAX);
    let (mut chain, mut out) = (Chain::GENESIS, b"before".to_vec());
    let error = chain.append(&agent_record(&reason, &[]), 0, &Host::new("h"), &mut out).unwrap_err();
    assert!(matches!(error, RecordError::TooLong { .. }));
    assert_eq!((chain, out.as_slice()), (Chain::GENESIS, b"before".as_slice()));
}

proptest! {
    #[test]
    fn any_text_is_read_back_as_it_was_written(reason in ".*", host in ".*") {
        let (mut chain, mut out) = (Chain::GENESIS, Vec::new());
        chain.append(&agent_record(&reason, &[]), 0, &Host::new(&host), &mut out).unwrap();
        prop_assert_eq!(prove(&out).unwrap().len(), 1);
        let line: serde_json::Value = serde_json::from_slice(&out).unwrap();
        prop_assert_eq!(line["reason"].as_str(), Some(reason.as_str()));
        prop_assert_eq!(line["host"].as_str(), Some(host.as_str()));
    }

    #[test]
    fn hex_is_read_back_and_upper_case_is_refused(bytes in any::<[u8; 32]>(), at in 0_usize..64) {
        let text = hex(&bytes);
        prop_assert_eq!(unhex::<32>(&text), Some(bytes));
        let mut upper = text;
        upper[at] = upper[at].to_ascii_uppercase();
        prop_assert_eq!(unhex::<32>(&upper).is_some(), upper == text);
    }
}
