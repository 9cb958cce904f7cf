//! What an operator sees: metrics, logs, the audit trail as it grows, and whether its chain is unbroken.

use std::fs;

use lineal_tests::{
    command::{PATIENCE, finish},
    http,
    script::PYTHON,
};
use serde_json::Value;

use crate::shared::{lab, lines, own_lab};

/// The value of one series of a scrape; 0 if the scrape lacks it.
fn value(scrape: &str, series: &str) -> f64 {
    let line = scrape.lines().find_map(|line| line.strip_prefix(series));
    line.map_or(0.0, |value| value.trim().parse().unwrap())
}

#[test]
fn metrics_count_decisions_sessions_and_records() {
    let mut lab = own_lab();
    let address = lab.agent().unwrap().metrics().to_owned();
    lines(&lab.psql(&["SELECT 1", "SELECT 2"]).unwrap());
    assert_eq!(lab.psql(&["DROP TABLE orders"]).unwrap().code, Some(1));
    let scrape = || http::get(&address, "/metrics").unwrap();
    let ended = "lineal_sessions_ended_total{reason=\"closed\"} ";
    lab.wait_until("both sessions are counted", || Ok(value(&scrape(), ended) == 2.0)).unwrap();
    let scrape = scrape();
    for (series, expect) in [
        ("lineal_decisions_total{decision=\"deny\",protocol=\"postgres\"} ", 1.0),
        ("lineal_sessions_opened_total{protocol=\"postgres\"} ", 2.0),
        ("lineal_enrolments_total{result=\"enrolled\"} ", 2.0),
        ("lineal_kernel_redirects_total ", 2.0),
        ("lineal_audit_errors_total ", 0.0),
    ] {
        assert_eq!(value(&scrape, series), expect, "{series}\n{scrape}");
    }
    assert!(value(&scrape, "lineal_audit_records_total ") > 10.0, "{scrape}");
}

#[test]
fn log_lines_of_a_session_name_its_job_and_the_session() {
    let mut lab = own_lab();
    let script = "import psycopg; psycopg.connect(options='-c standard_conforming_strings=off')";
    let done = lab.run("refused", &[PYTHON, "-c", script]).unwrap();
    assert!(done.stderr.contains("standard_conforming_strings"), "{done:?}");
    let log = lab.agent().unwrap().log();
    let line = log.lines().find(|line| line.contains("a session was refused")).unwrap_or_default();
    let line: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {log}"));
    for field in ["job", "session"] {
        assert_eq!(line["span"][field].as_str().map(str::len), Some(13), "{line}");
    }
}

#[test]
fn audit_tail_follows_the_trail() {
    let lab = lab();
    let trail = lab.trail();
    let tail = lab.lineal(&["audit", "tail", "--json", "--from-start", "--dir", trail.to_str().unwrap()]);
    let mut tail = lab.converse("tail", &tail.unwrap()).unwrap();
    let first: Value = serde_json::from_str(&tail.line(PATIENCE).unwrap()).unwrap();
    assert_eq!(first["seq"], 1, "{first}");
    lines(&lab.psql(&["SELECT 'tailed-77f1'"]).unwrap());
    while !tail.line(PATIENCE).unwrap().contains("tailed-77f1") {}
}

#[test]
fn audit_commands_find_the_trail_of_the_agent_at_the_control_socket() {
    let mut lab = own_lab();
    lines(&lab.psql(&["SELECT 'found-51c3'"]).unwrap());
    // The lab sets LINEAL_CONTROL, and nothing names the trail.
    let found = lab.ask(&["audit", "query", "--json", "--text", "found-51c3"]).unwrap();
    assert!(found.code == Some(0) && found.stderr.is_empty(), "{found:?}");
    assert_eq!(found.stdout.lines().count(), 1, "{found:?}");
    let verified = lab.ask(&["audit", "verify"]).unwrap();
    assert!(verified.code == Some(0) && verified.stderr.is_empty(), "{verified:?}");
    assert!(verified.stdout.contains(" unbroken from "), "{verified:?}");
    let trail = lab.trail();
    let status = lab.agent().unwrap().status().unwrap();
    assert_eq!(status["audit_dir"].as_str(), trail.to_str(), "{status}");
    // A job is told nothing of it.
    let lineal = lineal_tests::paths::lineal().unwrap();
    let asked = lab.run("curious", &[lineal.to_str().unwrap(), "audit", "query", "--text", "found-51c3"]);
    let asked = asked.unwrap();
    assert!(!asked.stdout.contains("found-51c3"), "{asked:?}");
    assert!(!asked.stderr.contains(trail.to_str().unwrap()), "{asked:?}");
}

/// A change to the lines of a trail's segment.
type Change<'a> = &'a dyn Fn(&mut Vec<String>);

#[test]
fn audit_verify_finds_a_changed_byte_a_lost_line_and_swapped_lines() {
    let mut lab = own_lab();
    lines(&lab.psql(&["SELECT 1", "SELECT 2"]).unwrap());
    lab.take_agent().unwrap().stop().unwrap();
    let copy = lab.directory().join("copy");
    let verify = |change: Change<'_>| {
        let _ = fs::remove_dir_all(&copy);
        fs::create_dir(&copy).unwrap();
        for entry in fs::read_dir(lab.trail()).unwrap() {
            let path = entry.unwrap().path();
            let text = fs::read_to_string(&path).unwrap();
            let mut records: Vec<String> = text.lines().map(|line| format!("{line}\n")).collect();
            if records.len() > 5 {
                change(&mut records);
            }
            fs::write(copy.join(path.file_name().unwrap()), records.concat()).unwrap();
        }
        let mut verify = lab.lineal(&["audit", "verify", "--dir", copy.to_str().unwrap()]).unwrap();
        finish(&mut verify).unwrap()
    };
    let whole = verify(&|_| {});
    assert_eq!(whole.code, Some(0), "{whole:?}");
    let changes: [Change<'_>; 3] = [
        &|records| records[4] = records[4].replacen("\"kind\"", "\"kinb\"", 1),
        &|records| drop(records.remove(3)),
        &|records| records.swap(2, 3),
    ];
    for change in changes {
        let broken = verify(change);
        assert_eq!(broken.code, Some(1), "{broken:?}");
    }
}
