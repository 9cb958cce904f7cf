//! The writer's promises, tried with full disks, killed writers and torn ends.

use std::{
    fs::{self, OpenOptions},
    io::{BufRead, BufReader, Write},
    process::{Command, Stdio},
    sync::{Arc, atomic::Ordering},
};

use agent_core::decision::Effect;

use super::{AuditError, Trail, recovery};
use crate::audit::{AuditConfig, samples::*};

/// The variable that tells a copy of this test program which role to play; see [`play_a_role`].
const ROLE: &str = "LINEAL_AUDIT_TEST_ROLE";
/// The variable that tells it where the trail is.
const ROLE_DIR: &str = "LINEAL_AUDIT_TEST_DIR";

#[test]
fn an_appended_record_is_in_the_file_when_append_returns() {
    let home = TrailHome::new();
    let trail = home.open();
    assert_eq!(trail.append(&bundle("a")).unwrap(), 2);
    assert_eq!(home.kinds(), ["checkpoint", "bundle"]);
    assert_eq!(home.lines()[1]["host"], "ci-1");
    assert_eq!(trail.append(&bundle("b")).unwrap(), 3);
    assert_eq!(home.lines()[2]["version"], "b");
}

#[test]
fn a_deferred_record_keeps_its_place_and_is_written_with_the_next_one() {
    let home = TrailHome::new();
    let trail = home.open();
    trail.append(&decided("S", 1, Effect::Allow, "x")).unwrap();
    trail.append_deferred(&outcome("S", 1, 1)).unwrap();
    assert_eq!(home.kinds(), ["checkpoint", "decision"]);
    trail.append(&decided("S", 2, Effect::Allow, "y")).unwrap();
    assert_eq!(home.kinds(), ["checkpoint", "decision", "outcome", "decision"]);
    assert!(home.verify().0);
}

#[test]
fn a_deferred_record_is_written_after_deferred_ms_without_another() {
    let home = TrailHome::new();
    let trail = home.open_with(|config| config.deferred_ms = 5).unwrap();
    let watch = rustix::fs::inotify::init(rustix::fs::inotify::CreateFlags::CLOEXEC).unwrap();
    trail.append(&bundle("a")).unwrap();
    let file = home.segments().remove(0);
    rustix::fs::inotify::add_watch(&watch, &file, rustix::fs::inotify::WatchFlags::MODIFY).unwrap();
    trail.append_deferred(&outcome("S", 1, 1)).unwrap();
    let mut buffer = [std::mem::MaybeUninit::uninit(); 512];
    rustix::fs::inotify::Reader::new(&watch, &mut buffer).next().unwrap();
    assert_eq!(home.kinds(), ["checkpoint", "bundle", "outcome"]);
}

#[test]
fn deferred_records_that_fill_their_buffer_are_written_at_once() {
    let home = TrailHome::new();
    let trail = home.open();
    let text = "x".repeat(10_000);
    for command in 0..30 {
        trail.append_deferred(&decided("S", command, Effect::Allow, &text)).unwrap();
    }
    assert_eq!(trail.metrics().deferred_full.load(Ordering::Relaxed), 1);
    assert!(home.kinds().len() > 20);
}

#[test]
fn closing_writes_deferred_records_and_signs_for_them() {
    let home = TrailHome::new();
    let trail = home.open();
    trail.append_deferred(&outcome("S", 1, 1)).unwrap();
    drop(trail);
    assert_eq!(home.kinds(), ["checkpoint", "outcome", "checkpoint"]);
    let (unbroken, out) = home.verify();
    assert!(unbroken, "{out}");
    assert!(out.contains("signed up to record 2 of 3"), "{out}");
}

#[test]
fn a_closed_trail_refuses_records() {
    let home = TrailHome::new();
    let trail = home.open();
    trail.close().unwrap();
    assert!(matches!(trail.append(&bundle("a")), Err(AuditError::Closed)));
    assert!(matches!(trail.append_deferred(&bundle("a")), Err(AuditError::Closed)));
    trail.close().unwrap();
}

#[test]
fn a_second_agent_cannot_write_the_same_trail() {
    let home = TrailHome::new();
    let first = home.open();
    assert!(matches!(home.open_with(|_| {}), Err(AuditError::Locked { .. })));
    drop(first);
    home.open();
}

#[test]
fn the_chain_continues_over_restarts_and_segments() {
    let home = TrailHome::new();
    for start in 0..4 {
        let trail = home.open_with(|config| config.rotate_bytes = 4096).unwrap();
        for number in 0..20 {
            trail.append(&bundle(&format!("{start}.{number}"))).unwrap();
        }
        trail.close().unwrap();
    }
    let lines = home.lines();
    assert!(lines.iter().zip(1..).all(|(line, seq)| line["seq"] == seq));
    assert_eq!(lines.iter().filter(|line| line["kind"] == "bundle").count(), 80);
    assert!(home.segments().len() > 3);
    for segment in home.segments() {
        let first: serde_json::Value =
            serde_json::from_str(fs::read_to_string(&segment).unwrap().lines().next().unwrap()).unwrap();
        assert_eq!(first["kind"], "checkpoint");
        assert!(
            segment
                .to_str()
                .unwrap()
                .ends_with(&format!("audit-{:020}.jsonl", first["seq"].as_u64().unwrap()))
        );
    }
    let (unbroken, out) = home.verify();
    assert!(unbroken, "{out}");
}

#[test]
fn a_checkpoint_is_written_after_as_many_records_as_configured() {
    let home = TrailHome::new();
    let trail = home.open_with(|config| config.checkpoint_records = 10).unwrap();
    for number in 0..25 {
        trail.append(&bundle(&number.to_string())).unwrap();
    }
    let seqs: Vec<_> = home
        .lines()
        .iter()
        .filter(|line| line["kind"] == "checkpoint")
        .map(|line| line["seq"].as_u64().unwrap())
        .collect();
    assert_eq!(seqs, [1, 12, 23]);
}

#[test]
fn a_torn_end_is_cut_off_and_recorded_and_the_trail_stays_unbroken() {
    let home = TrailHome::new();
    let trail = home.open();
    trail.append(&bundle("a")).unwrap();
    trail.close().unwrap();
    let file = home.segments().remove(0);
    let torn = br#"{"v":1,"seq":4,"time":"2026"#;
    OpenOptions::new().append(true).open(&file).unwrap().write_all(torn).unwrap();
    let (unbroken, out) = home.verify();
    assert!(unbroken && out.contains("27 bytes of an unfinished record"), "{out}");

    let trail = home.open();
    trail.append(&bundle("b")).unwrap();
    trail.close().unwrap();
    let lines = home.lines();
    assert_eq!(
        home.kinds(),
        ["checkpoint", "bundle", "checkpoint", "checkpoint", "agent", "bundle", "checkpoint"]
    );
    assert_eq!((&lines[4]["state"], &lines[4]["details"]["torn_bytes"]), (&"gap".into(), &torn.len().into()));
    let (unbroken, out) = home.verify();
    assert!(unbroken && !out.contains("unfinished"), "{out}");
}

#[test]
fn an_empty_segment_left_by_a_crash_is_continued() {
    let home = TrailHome::new();
    let trail = home.open();
    trail.append(&bundle("a")).unwrap();
    trail.close().unwrap();
    fs::write(home.dir().join(format!("audit-{:020}.jsonl", 4)), "").unwrap();
    let trail = home.open();
    assert_eq!(trail.append(&bundle("b")).unwrap(), 5);
    trail.close().unwrap();
    assert_eq!(home.segments().len(), 2);
    assert!(home.verify().0);
}

#[test]
fn a_segment_that_a_crash_left_with_half_its_first_line_is_continued() {
    let home = TrailHome::new();
    let trail = home.open();
    trail.append(&bundle("a")).unwrap();
    trail.close().unwrap();
    fs::write(home.dir().join(format!("audit-{:020}.jsonl", 4)), r#"{"v":1,"seq":4,"#).unwrap();
    let (unbroken, out) = home.verify();
    assert!(unbroken && out.contains("15 bytes of an unfinished record"), "{out}");

    let trail = home.open();
    trail.append(&bundle("b")).unwrap();
    trail.close().unwrap();
    assert_eq!(home.segments().len(), 2);
    let (unbroken, out) = home.verify();
    assert!(unbroken && !out.contains("unfinished"), "{out}");
}

#[test]
fn a_last_line_that_is_not_a_record_is_refused_and_left_as_evidence() {
    let home = TrailHome::new();
    let trail = home.open();
    trail.append(&bundle("a")).unwrap();
    trail.close().unwrap();
    let file = home.segments().remove(0);
    OpenOptions::new().append(true).open(&file).unwrap().write_all(b"rm -rf /\n").unwrap();
    let error = home.open_with(|_| {}).err().unwrap();
    assert!(error.to_string().contains("keep the directory as evidence"), "{error}");
}

#[test]
fn a_record_that_is_too_long_is_refused_and_the_next_one_is_written() {
    let home = TrailHome::new();
    let trail = home.open();
    let text = "x".repeat(agent_core::audit::chain::LINE_BYTES_MAX);
    assert!(matches!(trail.append(&decided("S", 1, Effect::Allow, &text)), Err(AuditError::Record(_))));
    trail.append(&bundle("a")).unwrap();
    assert_eq!(home.kinds(), ["checkpoint", "bundle"]);
    assert_eq!(trail.failure(), None);
    assert!(home.verify().0);
}

#[test]
fn with_auditing_off_nothing_is_written() {
    let home = TrailHome::new();
    let trail = home.open_with(|config| config.enabled = false).unwrap();
    assert_eq!(trail.append(&bundle("a")).unwrap(), 0);
    trail.append_deferred(&bundle("b")).unwrap();
    trail.close().unwrap();
    assert!(!home.dir().exists());
}

#[test]
fn settings_that_would_break_a_promise_are_refused() {
    let home = TrailHome::new();
    let error = home.open_with(|config| config.fdatasync_ms = 0).err().unwrap();
    assert_eq!(error.to_string(), "audit.fdatasync_ms = 0 is out of bounds: set it to 1..=60000");
    assert!(home.open_with(|config| config.deferred_ms = 60_000).is_err());
}

#[test]
fn written_records_are_synced_after_fdatasync_ms() {
    let home = TrailHome::new();
    let trail = home.open_with(|config| config.fdatasync_ms = 1).unwrap();
    trail.append(&bundle("a")).unwrap();
    while trail.metrics().syncs.load(Ordering::Relaxed) == 0 {
        std::thread::yield_now();
    }
}

#[test]
fn a_failed_sync_is_recorded_before_the_next_record() {
    let home = TrailHome::new();
    let trail = home.open();
    trail.append(&bundle("a")).unwrap();
    trail.fail_sync("the disk is gone");
    assert_eq!(trail.failure().as_deref(), Some("the disk is gone"));
    trail.append(&bundle("b")).unwrap();
    assert_eq!(trail.failure(), None);
    assert_eq!(home.kinds(), ["checkpoint", "bundle", "agent", "bundle"]);
    assert_eq!(home.lines()[2]["details"]["error"], "the disk is gone");
    assert!(home.verify().0);
}

#[test]
fn openssl_reads_the_key_and_computes_the_same_fingerprint() {
    let home = TrailHome::new();
    let fingerprint = home.open().key_fingerprint().unwrap().to_owned();
    let out = Command::new("sh")
        .args(["-c", "openssl pkey -in \"$0\" -pubout -outform DER | sha256sum"])
        .arg(home.path("state/audit-checkpoint.key"))
        .output()
        .unwrap();
    let printed = String::from_utf8(out.stdout).unwrap();
    assert_eq!(Some(fingerprint), printed.split_whitespace().next().map(|hash| format!("sha256:{hash}")));
}

#[test]
fn records_from_many_threads_form_one_chain() {
    let home = TrailHome::new();
    let trail = home.open_with(|config| (config.rotate_bytes, config.deferred_ms) = (8192, 1)).unwrap();
    std::thread::scope(|scope| {
        for name in ["a", "b", "c", "d"] {
            let trail = &trail;
            scope.spawn(move || {
                for command in 0..200 {
                    trail.append(&decided(name, command, Effect::Allow, "x")).unwrap();
                    trail.append_deferred(&outcome(name, command, 1)).unwrap();
                }
            });
        }
    });
    trail.close().unwrap();
    let (unbroken, out) = home.verify();
    assert!(unbroken, "{out}");
    assert_eq!(home.kinds().iter().filter(|kind| *kind == "outcome").count(), 800);
    assert_eq!(trail.metrics().records.load(Ordering::Relaxed), home.lines().len() as u64);
}

#[test]
fn the_checkpoint_key_is_made_once_and_refused_if_others_can_read_it() {
    use std::os::unix::fs::PermissionsExt;
    let home = TrailHome::new();
    let first = home.open().key_fingerprint().unwrap().to_owned();
    let again = home.open().key_fingerprint().unwrap().to_owned();
    assert_eq!(first, again);
    let file = home.path("state/audit-checkpoint.key");
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
    let error = home.open_with(|_| {}).err().unwrap();
    assert!(error.to_string().contains("chmod 600"), "{error}");
}

/// Starts this test program again as `role`, in a process of its own.
fn role(role: &str, home: &TrailHome) -> Command {
    let mut command = Command::new("sh");
    command
        // A write past the size limit must fail as a full disk does, not kill.
        .args(["-c", r#"trap "" XFSZ; exec "$0" "$@""#])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "--nocapture", "audit::trail::tests::play_a_role"])
        .env(ROLE, role)
        .env(ROLE_DIR, home.path(""))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped());
    command
}

#[test]
fn a_killed_writer_loses_no_acknowledged_record() {
    let home = TrailHome::new();
    for round in 0..5 {
        let mut child = role("append-until-killed", &home).spawn().unwrap();
        let mut acknowledged = 0;
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        for line in lines.by_ref() {
            if let Some(seq) = line.unwrap().strip_prefix("seq ") {
                acknowledged = seq.parse().unwrap();
            }
            if acknowledged > 500 * (round + 1) {
                child.kill().unwrap();
                break;
            }
        }
        // Acknowledgements that were still in the pipe when it died count too.
        for line in lines {
            if let Some(seq) = line.unwrap().strip_prefix("seq ") {
                acknowledged = seq.parse().unwrap_or(acknowledged);
            }
        }
        child.wait().unwrap();
        let last = recovery::find_end(&home.dir()).unwrap().chain.seq;
        assert!(last >= acknowledged, "acknowledged {acknowledged}, found {last}");
        let (unbroken, out) = home.verify();
        assert!(unbroken, "{out}");
    }
}

#[test]
fn a_full_disk_refuses_records_and_recovers_when_it_has_room() {
    let home = TrailHome::new();
    let output = role("fill-the-disk", &home).output().unwrap();
    let out = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && out.contains("the disk had room again"), "{out}");
    let (unbroken, out) = home.verify();
    assert!(unbroken, "{out}");
}

/// Does nothing unless this process was started by [`role`].
#[test]
fn play_a_role() {
    let Ok(role) = std::env::var(ROLE) else { return };
    let root = std::path::PathBuf::from(std::env::var(ROLE_DIR).unwrap());
    let config = AuditConfig {
        dir: root.join("audit"),
        rotate_bytes: 64 * 1024,
        checkpoint_records: 100,
        ..AuditConfig::default()
    };
    let trail = Trail::open(&config, &root.join("state"), "child").unwrap();
    match role.as_str() {
        "append-until-killed" => append_until_killed(&trail),
        "fill-the-disk" => fill_the_disk(&trail),
        other => panic!("no role {other}"),
    }
}

fn append_until_killed(trail: &Arc<Trail>) {
    let mut stdout = std::io::stdout().lock();
    for command in 0.. {
        let seq = trail.append(&decided("S", command, Effect::Allow, "SELECT 1")).unwrap();
        // One write(2) a line, so that the reader never gets part of a line.
        stdout.write_all(format!("seq {seq}\n").as_bytes()).unwrap();
        stdout.flush().unwrap();
        trail.append_deferred(&outcome("S", command, 1)).unwrap();
    }
}

/// A limit on the size of files stands in for a full disk: the kernel shortens the write in the same way,
/// then refuses it.
fn fill_the_disk(trail: &Arc<Trail>) {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    trail.append(&bundle("before")).unwrap();
    let before = getrlimit(Resource::Fsize);
    setrlimit(Resource::Fsize, Rlimit { current: Some(5_000), maximum: before.maximum }).unwrap();
    let mut written = 0;
    let error = loop {
        match trail.append(&bundle("filling")) {
            Ok(seq) => written = seq,
            Err(error) => break error,
        }
    };
    assert!(error.to_string().starts_with("cannot write the audit record to "), "{error}");
    assert!(trail.append(&bundle("refused")).is_err());
    assert_eq!(trail.metrics().errors.load(Ordering::Relaxed), 2);
    assert!(trail.metrics().failed.load(Ordering::Relaxed));
    assert!(trail.failure().is_some());
    setrlimit(Resource::Fsize, before).unwrap();
    assert_eq!(trail.append(&bundle("after")).unwrap(), written + 1);
    assert_eq!(trail.failure(), None);
    println!("the disk had room again");
}
