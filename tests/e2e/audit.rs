//! The audit trail is complete after the agent was killed, can be verified, and stops commands while it
//! cannot be written.

use std::{fs, path::Path, process::Command};

use lineal_tests::{
    Lab, LabOptions,
    command::{PATIENCE, finish},
    script::PYTHON,
};

use crate::shared::{decisions_on, lines, own_lab, text};

#[test]
fn a_killed_agent_leaves_a_record_of_every_forwarded_command() {
    let mut lab = own_lab();
    let script = r#"
import psycopg
with psycopg.connect(autocommit=True) as connection:
    for n in range(1000000):
        connection.execute(f"UPDATE products SET name = 'n{n}' WHERE id = 1 /* kill-6b01 */")
        print(n, flush=True)
"#;
    let job = lab.job("killed", &[PYTHON, "-c", script]).unwrap();
    let mut job = lab.converse("killed", &job).unwrap();
    for _ in 0..50 {
        job.line(PATIENCE).unwrap();
    }
    lab.take_agent().unwrap().kill().unwrap();
    drop(job);
    let name = lab.postgres.admin("shop", "SELECT name FROM products WHERE id = 1").unwrap();
    let last: usize = name.trim_start_matches('n').parse().unwrap();
    let recorded = decisions_on(&lab, "kill-6b01");
    assert!(recorded.len() > last, "the server ran update {last}, the trail holds {}", recorded.len());
    lab.start_agent().unwrap();
    let trail = lab.trail();
    lines(&lab.ask(&["audit", "verify", "--dir", trail.to_str().unwrap()]).unwrap());
}

#[test]
fn a_full_disk_denies_commands_and_gives_the_reason() {
    let directory = tempfile::tempdir().unwrap();
    let mount = Mount::tmpfs(directory.path(), "size=256k");
    let mut lab =
        Lab::start(&LabOptions { trail: Some(directory.path().join("audit")), ..LabOptions::default() })
            .unwrap();
    lines(&lab.psql(&["SELECT 1"]).unwrap());
    let filler = directory.path().join("filler");
    let dd =
        finish(Command::new("dd").args(["if=/dev/zero", "bs=1024"]).arg(format!("of={}", filler.display())));
    assert!(dd.unwrap().stderr.contains("No space left on device"));
    let before = lab.postgres.admin("shop", "SELECT status FROM orders WHERE id = 77").unwrap();
    let filling = r#"
import psycopg
try:
    with psycopg.connect(autocommit=True) as connection:
        for n in range(100):
            connection.execute("SELECT " + "'x' || " * 100 + "'x'")
    print("never refused")
except psycopg.Error as error:
    print(error)
"#;
    let done = lab.python(filling).unwrap();
    let output = format!("{}{}", done.stdout, done.stderr);
    assert!(output.contains("audit"), "{done:?}");
    let done = lab.psql(&["UPDATE orders SET status = 'unrecorded' WHERE id = 77"]).unwrap();
    assert_ne!(done.code, Some(0), "{done:?}");
    let after = lab.postgres.admin("shop", "SELECT status FROM orders WHERE id = 77").unwrap();
    assert_eq!(before, after, "an unrecorded command was forwarded");
    assert!(lab.agent().unwrap().alive().unwrap());
    fs::remove_file(filler).unwrap();
    lines(&lab.psql(&["SELECT 1"]).unwrap());
    drop(lab);
    drop(mount);
}

#[test]
fn literals_are_redacted_from_the_trail_if_configured() {
    let lab = Lab::start(&LabOptions { literals: "redact", ..LabOptions::default() }).unwrap();
    let script = r#"
import psycopg
with psycopg.connect(autocommit=True) as connection:
    connection.execute("SELECT '" + "hush" + "-6b02' AS mark_6b02")
"#;
    lines(&lab.python(script).unwrap());
    let rows = decisions_on(&lab, "mark_6b02");
    assert_eq!(rows.len(), 1, "{rows:?}");
    assert!(!text(&rows[0], "/statement/text").contains("hush-6b02"), "{}", rows[0]);
    for file in fs::read_dir(lab.trail()).unwrap() {
        let bytes = fs::read(file.unwrap().path()).unwrap();
        assert!(!String::from_utf8_lossy(&bytes).contains("hush-6b02"));
    }
}

/// A small file system, mounted until this is dropped.
struct Mount<'a>(&'a Path);

impl<'a> Mount<'a> {
    fn tmpfs(directory: &'a Path, options: &str) -> Self {
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", options, "lineal-test"]).arg(directory);
        assert_eq!(finish(&mut mount).unwrap().code, Some(0));
        Self(directory)
    }
}

impl Drop for Mount<'_> {
    fn drop(&mut self) {
        let _ = finish(Command::new("umount").arg(self.0));
    }
}
