//! `verify` on changed, forged and shortened trails.

use std::fs;

use agent_core::audit::chain::{hex, link};

use super::VerifyArgs;
use crate::audit::samples::*;

/// The public key that lies beside a trail.
fn public_key(home: &TrailHome) -> std::path::PathBuf {
    let mut files = fs::read_dir(home.dir()).unwrap().map(|entry| entry.unwrap().path());
    files.find(|file| file.extension().is_some_and(|extension| extension == "pem")).unwrap()
}

#[test]
fn a_changed_byte_is_detected_and_its_file_and_line_are_named() {
    let home = TrailHome::new();
    let trail = home.open_with(|config| config.rotate_bytes = 4096).unwrap();
    for number in 0..24 {
        trail.append(&bundle(&number.to_string())).unwrap();
    }
    trail.close().unwrap();
    assert!(home.segments().len() > 1);
    let (unbroken, out) = home.verify();
    assert!(unbroken, "{out}");
    // Without keys, so that the chain alone has to show the change. agent-core's tests change every byte;
    // this one is about naming the right file and line.
    fs::remove_file(public_key(&home)).unwrap();
    for file in home.segments() {
        let whole = fs::read(&file).unwrap();
        for at in (0..whole.len()).step_by(11) {
            let mut changed = whole.clone();
            changed[at] ^= [0x01, 0x02, 0x20, 0x80][at % 4];
            fs::write(&file, &changed).unwrap();
            let (unbroken, out) = home.verify();
            let line = 1 + whole[..at].iter().filter(|byte| **byte == b'\n').count();
            assert!(!unbroken, "byte {at} of {}", file.display());
            let begins = format!("BROKEN at {}:{line}: record ", file.display());
            assert!(out.starts_with(&begins), "{out} does not begin with {begins}");
        }
        fs::write(&file, &whole).unwrap();
    }
}

#[test]
fn a_missing_segment_is_detected_at_the_start_and_in_the_middle() {
    let home = TrailHome::new();
    let trail = home.open_with(|config| config.rotate_bytes = 4096).unwrap();
    for number in 0..60 {
        trail.append(&bundle(&number.to_string())).unwrap();
    }
    trail.close().unwrap();
    let segments = home.segments();
    assert!(segments.len() > 2);
    for at in [0, 1] {
        let aside = home.path("aside");
        fs::rename(&segments[at], &aside).unwrap();
        assert!(!home.verify().0);
        if at == 0 {
            // Archived segments are vouched for by the checkpoint that begins the next.
            let args = VerifyArgs { archived: true, ..VerifyArgs::default() };
            let (unbroken, out) = verify_dir(&home.dir(), &args);
            assert!(unbroken, "{out}");
        }
        fs::rename(&aside, &segments[at]).unwrap();
    }
    assert!(home.verify().0);
}

/// Rewrites a trail with only the records for which `kept` is true, and recomputes every number and hash.
/// `kept` is given the index of the record's segment, and the record.
fn forge(home: &TrailHome, kept: impl Fn(usize, &serde_json::Value) -> bool) {
    let (mut seq, mut hash) = (0, [0; 32]);
    for (index, file) in home.segments().into_iter().enumerate() {
        let mut forged = String::new();
        for line in fs::read_to_string(&file).unwrap().lines() {
            let record: serde_json::Value = serde_json::from_str(line).unwrap();
            if !kept(index, &record) {
                continue;
            }
            seq += 1;
            let body = line.rsplit_once(",\"hash\"").unwrap().0;
            let numbered = format!("\"seq\":{seq},");
            let body = body.replacen(&format!("\"seq\":{},", record["seq"]), &numbered, 1);
            hash = link(&hash, body.as_bytes());
            let sealed = String::from_utf8(hex(&hash).to_vec()).unwrap();
            forged += &format!("{body},\"hash\":\"{sealed}\"}}\n");
        }
        fs::write(file, forged).unwrap();
    }
}

#[test]
fn a_forged_trail_without_checkpoints_is_broken() {
    let home = TrailHome::new();
    let trail = home.open_with(|config| config.checkpoint_records = 10).unwrap();
    for number in 0..30 {
        trail.append(&bundle(&number.to_string())).unwrap();
    }
    trail.close().unwrap();
    forge(&home, |_, _| true);
    assert!(home.verify().0, "a forgery that drops no record is the trail itself");
    forge(&home, |_, record| record["kind"] != "checkpoint");
    let (unbroken, out) = home.verify();
    assert!(!unbroken && out.contains("does not begin with a checkpoint"), "{out}");
}

#[test]
fn a_forged_long_trail_with_only_its_first_checkpoint_is_broken() {
    let home = TrailHome::new();
    let trail = home.open();
    for number in 0..10_500 {
        trail.append_deferred(&bundle(&number.to_string())).unwrap();
    }
    trail.close().unwrap();
    assert!(home.verify().0);
    // The first checkpoint signs for an empty chain, so it fits every forgery.
    forge(&home, |_, record| record["seq"] == 1 || record["kind"] != "checkpoint");
    let (unbroken, out) = home.verify();
    assert!(!unbroken && out.contains("hold no checkpoint"), "{out}");
}

#[test]
fn checkpoints_are_accepted_under_their_own_key_only() {
    let (mine, other) = (TrailHome::new(), TrailHome::new());
    for home in [&mine, &other] {
        let trail = home.open();
        trail.append(&bundle("a")).unwrap();
        assert!(trail.key_fingerprint().unwrap().starts_with("sha256:"));
    }
    let with_key = |home: &TrailHome| VerifyArgs { key: vec![public_key(home)], ..VerifyArgs::default() };
    assert!(verify_dir(&mine.dir(), &with_key(&mine)).0);
    let (unbroken, out) = verify_dir(&mine.dir(), &with_key(&other));
    assert!(!unbroken && out.contains("a key that is not given"), "{out}");
    fs::remove_file(public_key(&mine)).unwrap();
    let (unbroken, out) = mine.verify();
    assert!(unbroken && out.contains("signatures were not checked"), "{out}");
}
