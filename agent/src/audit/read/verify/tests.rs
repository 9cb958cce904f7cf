//! What proves a trail, and what does not: changed, forged and shortened copies.

use std::fs;

use super::VerifyArgs;
use super::samples::*;

/// The public key that lies beside a trail.
fn public_key(place: &Place) -> std::path::PathBuf {
    let mut files = fs::read_dir(place.dir()).unwrap().map(|entry| entry.unwrap().path());
    files.find(|file| file.extension().is_some_and(|extension| extension == "pem")).unwrap()
}

#[test]
fn a_changed_byte_anywhere_in_a_copy_is_detected_and_placed() {
    let place = Place::new();
    let trail = place.open_with(|config| config.rotate_bytes = 4096).unwrap();
    for number in 0..24 {
        trail.append(&bundle(&number.to_string())).unwrap();
    }
    trail.close().unwrap();
    assert!(place.segments().len() > 1);
    let (unbroken, out) = place.verify();
    assert!(unbroken, "{out}");
    // The chain alone has to show it. (agent-core tries every byte; here they are placed in their files.)
    fs::remove_file(public_key(&place)).unwrap();
    for file in place.segments() {
        let whole = fs::read(&file).unwrap();
        for at in (0..whole.len()).step_by(11) {
            let mut changed = whole.clone();
            changed[at] ^= [0x01, 0x02, 0x20, 0x80][at % 4];
            fs::write(&file, &changed).unwrap();
            let (unbroken, out) = place.verify();
            let line = 1 + whole[..at].iter().filter(|byte| **byte == b'\n').count();
            assert!(!unbroken, "byte {at} of {}", file.display());
            let place = format!("BROKEN at {}:{line}: record ", file.display());
            assert!(out.starts_with(&place), "{out} is not {place}");
        }
        fs::write(&file, &whole).unwrap();
    }
}

#[test]
fn a_missing_segment_is_detected_wherever_it_was() {
    let place = Place::new();
    let trail = place.open_with(|config| config.rotate_bytes = 4096).unwrap();
    for number in 0..60 {
        trail.append(&bundle(&number.to_string())).unwrap();
    }
    trail.close().unwrap();
    let segments = place.segments();
    assert!(segments.len() > 2);
    for at in [0, 1] {
        let aside = place.path("aside");
        fs::rename(&segments[at], &aside).unwrap();
        assert!(!place.verify().0);
        if at == 0 {
            // Archived segments are vouched for by the checkpoint that begins the next.
            let args = VerifyArgs { archived: true, ..VerifyArgs::default() };
            let (unbroken, out) = verify_dir(&place.dir(), &args);
            assert!(unbroken, "{out}");
        }
        fs::rename(&aside, &segments[at]).unwrap();
    }
    assert!(place.verify().0);
}

/// Writes a trail anew without what `kept` refuses, numbers and hashes as they should be.
fn forge(place: &Place, kept: impl Fn(usize, &serde_json::Value) -> bool) {
    use agent_core::audit::chain::{hex, link};
    let (mut seq, mut hash) = (0, [0; 32]);
    for (index, file) in place.segments().into_iter().enumerate() {
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
fn a_trail_without_its_checkpoints_is_no_trail() {
    let place = Place::new();
    let trail = place.open_with(|config| config.checkpoint_records = 10).unwrap();
    for number in 0..30 {
        trail.append(&bundle(&number.to_string())).unwrap();
    }
    trail.close().unwrap();
    forge(&place, |_, _| true);
    assert!(place.verify().0, "what forges nothing is the trail itself");
    forge(&place, |_, record| record["kind"] != "checkpoint");
    let (unbroken, out) = place.verify();
    assert!(!unbroken && out.contains("does not begin with a checkpoint"), "{out}");
}

#[test]
fn a_long_trail_with_its_first_checkpoint_alone_is_no_trail() {
    let place = Place::new();
    let trail = place.open();
    for number in 0..10_500 {
        trail.append_deferred(&bundle(&number.to_string())).unwrap();
    }
    trail.close().unwrap();
    assert!(place.verify().0);
    // The first one signs the same of every trail, so it can be kept.
    forge(&place, |_, record| record["seq"] == 1 || record["kind"] != "checkpoint");
    let (unbroken, out) = place.verify();
    assert!(!unbroken && out.contains("hold no checkpoint"), "{out}");
}

#[test]
fn checkpoints_prove_only_under_their_own_key() {
    let (mine, other) = (Place::new(), Place::new());
    for place in [&mine, &other] {
        let trail = place.open();
        trail.append(&bundle("a")).unwrap();
        assert!(trail.key_fingerprint().unwrap().starts_with("sha256:"));
    }
    let with_key = |place: &Place| VerifyArgs { key: vec![public_key(place)], ..VerifyArgs::default() };
    assert!(verify_dir(&mine.dir(), &with_key(&mine)).0);
    let (unbroken, out) = verify_dir(&mine.dir(), &with_key(&other));
    assert!(!unbroken && out.contains("a key that is not given"), "{out}");
    fs::remove_file(public_key(&mine)).unwrap();
    let (unbroken, out) = mine.verify();
    assert!(unbroken && out.contains("signatures were not checked"), "{out}");
}
