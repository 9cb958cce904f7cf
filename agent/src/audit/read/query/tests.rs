//! What `query` finds, joins and prints.

use agent_core::{
    audit::{Record, record::*},
    decision::Effect,
};
use clap::Parser;
use serde_json::{Value, json};

use super::{QueryArgs, ReadError, query};
use crate::audit::samples::*;

#[derive(Parser)]
struct Cli {
    #[command(flatten)]
    args: QueryArgs,
}

fn search(home: &TrailHome, options: &[&str]) -> Result<String, ReadError> {
    let cli = Cli::try_parse_from([&["query"], options].concat()).unwrap();
    let mut out = Vec::new();
    query(&home.dir(), &cli.args, &mut out)?;
    Ok(String::from_utf8(out).unwrap())
}

fn rows(home: &TrailHome, options: &[&str]) -> Vec<Value> {
    let out = search(home, &[&["--json"], options].concat()).unwrap();
    out.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// The text of each decision found, with the rows of its outcome.
fn texts(home: &TrailHome, options: &[&str]) -> Vec<(String, Option<u64>)> {
    rows(home, options)
        .iter()
        .map(|row| (row["statement"]["text"].as_str().unwrap().to_owned(), row["outcome"]["rows"].as_u64()))
        .collect()
}

fn pairs(expect: &[(&str, Option<u64>)]) -> Vec<(String, Option<u64>)> {
    expect.iter().map(|(text, rows)| ((*text).to_owned(), *rows)).collect()
}

/// Two jobs with a session each, their commands and outcomes interleaved.
fn two_jobs() -> TrailHome {
    let home = TrailHome::new();
    let trail = home.open();
    enrol(&trail, "J1", "nightly", "alice");
    image(&trail, "J1", 1, 100, "/bin/sh", None);
    image(&trail, "J1", 2, 101, "/usr/bin/python3", Some(1));
    image(&trail, "J1", 3, 102, "/usr/bin/python3", Some(2));
    image(&trail, "J1", 4, 102, "/usr/bin/psql", Some(3));
    enrol(&trail, "J2", "deploy", "bob");
    image(&trail, "J2", 1, 200, "/bin/deploy", None);
    trail.append(&opened("S1", "J1", 4)).unwrap();
    trail.append(&opened("S2", "J2", 1)).unwrap();
    trail.append(&decided("S1", 1, Effect::Allow, "SELECT one")).unwrap();
    trail.append(&decided("S2", 1, Effect::Allow, "SELECT two")).unwrap();
    trail.append_deferred(&outcome("S2", 1, 2)).unwrap();
    trail.append(&decided("S2", 2, Effect::Deny, "DROP three")).unwrap();
    trail.append_deferred(&outcome("S1", 1, 1)).unwrap();
    trail.append(&decided("S2", 3, Effect::Hold, "UPDATE four")).unwrap();
    trail.append(&closed("S2", "J2")).unwrap();
    trail.append(&decided("S1", 2, Effect::Allow, "SELECT five")).unwrap();
    trail.close().unwrap();
    home
}

#[test]
fn a_decision_is_printed_with_its_job_credential_process_upstream_and_outcome() {
    let row = rows(&two_jobs(), &["--limit", "1"]).remove(0);
    assert_eq!(row["kind"], "decision");
    assert_eq!(row["job"], json!({"id": "J1", "name": "nightly"}));
    assert_eq!(
        row["credential"],
        json!({"issuer": "https://ci.example", "subject": "alice", "groups": ["contractors"],
               "claims": {"repository": "acme/shop"}})
    );
    assert_eq!(
        row["process"],
        json!({"pid": 102, "exe": "/usr/bin/psql", "argv": ["/usr/bin/psql", "-x"], "cwd": "/srv",
               "uid": 1000, "container": "", "ancestry": [
                   {"pid": 100, "exe": "/bin/sh", "argv": ["/bin/sh", "-x"]},
                   {"pid": 101, "exe": "/usr/bin/python3", "argv": ["/usr/bin/python3", "-x"]},
                   {"pid": 102, "exe": "/usr/bin/psql", "argv": ["/usr/bin/psql", "-x"]}]})
    );
    assert_eq!(
        row["upstream"],
        json!({"name": "shop", "address": "10.0.0.5:5432", "database": "shop", "user": "app"})
    );
    assert_eq!(row["outcome"], json!({"rows": 1, "bytes": 10, "error": null, "duration_us": 7}));
    assert_eq!(row["statement"], json!({"text": "SELECT one", "fingerprint": "f", "parameters": []}));
    assert_eq!((row["command"].as_u64(), row["decision"].as_str()), (Some(1), Some("allow")));
    assert_eq!(row["hash"].as_str().map(str::len), Some(64));
}

#[test]
fn decisions_are_printed_in_the_trails_order_with_their_outcomes() {
    let home = two_jobs();
    let all = [
        ("SELECT one", Some(1)),
        ("SELECT two", Some(2)),
        ("DROP three", None),
        ("UPDATE four", None),
        ("SELECT five", None),
    ];
    assert_eq!(texts(&home, &[]), pairs(&all));
}

#[test]
fn each_filter_keeps_the_decisions_that_match_it() {
    let home = two_jobs();
    let check = |options: &[&str], expect: &[&str]| {
        let found: Vec<_> = texts(&home, options).into_iter().map(|(text, _)| text).collect();
        assert_eq!(found, expect, "{options:?}");
    };
    check(&["--job", "J1"], &["SELECT one", "SELECT five"]);
    check(&["--job", "deploy"], &["SELECT two", "DROP three", "UPDATE four"]);
    check(&["--subject", "alice"], &["SELECT one", "SELECT five"]);
    check(&["--subject", "carol"], &[]);
    check(&["--session", "S2", "--decision", "deny"], &["DROP three"]);
    check(&["--decision", "hold"], &["UPDATE four"]);
    check(&["--text", "select"], &["SELECT one", "SELECT two", "SELECT five"]);
    check(&["--limit", "2"], &["SELECT one", "SELECT two"]);
    check(&["--limit", "0"], &[]);
    check(&["--since", "1h"], &["SELECT one", "SELECT two", "DROP three", "UPDATE four", "SELECT five"]);
    check(&["--until", "2020-01-01"], &[]);
    check(&["--since", "2020-01-01T00:00:00Z", "--until", "2020-01-02T00:00:00+02:00"], &[]);
}

#[test]
fn records_of_other_kinds_are_printed_as_they_were_written() {
    let home = two_jobs();
    let found = rows(&home, &["--kind", "session", "--kind", "job", "--job", "J2"]);
    let states: Vec<_> =
        found.iter().map(|row| (row["kind"].as_str().unwrap(), row["state"].as_str().unwrap())).collect();
    assert_eq!(states, [("job", "enrolled"), ("session", "opened"), ("session", "closed")]);
    assert!(home.lines().contains(&found[1]));
    assert_eq!(rows(&home, &["--kind", "process", "--subject", "alice"]).len(), 4);
    assert_eq!(rows(&home, &["--kind", "outcome", "--job", "J1"]).len(), 1);
}

#[test]
fn a_time_that_cannot_be_understood_is_refused_with_examples() {
    let error = search(&two_jobs(), &["--since", "yesterday"]).unwrap_err();
    assert_eq!(
        error.to_string(),
        "--since yesterday: give RFC 3339 (2026-01-31T12:00:00Z), a date, or an age such as 15m, 2h, 7d"
    );
}

#[test]
fn without_json_a_decision_is_one_block_of_text() {
    let out = search(&two_jobs(), &["--limit", "1"]).unwrap();
    let (time, rest) = out.split_once("  ").unwrap();
    assert_eq!(time.len(), 27);
    assert_eq!(
        rest,
        "ALLOW  sql:select on shop/shop.?.orders\n\
         \x20   SELECT one\n\
         \x20   by   reads: because\n\
         \x20   job  nightly (J1): alice from https://ci.example\n\
         \x20   from sh[100] > python3[101] > psql[102], uid 1000, in /srv\n\
         \x20   to   shop at 10.0.0.5:5432, database shop, user app\n\
         \x20   session S1 command 1\n\
         \x20   then 1 rows, 10 bytes, 7 us\n"
    );
}

#[test]
fn an_ended_job_is_joined_to_decisions_before_its_end_and_to_its_own_record() {
    let home = two_jobs();
    let trail = home.open();
    let job = JobRef { id: "J1", name: "nightly" };
    let ended = JobRecord { state: JobState::Ended, job, credential: None, root_pid: 100 };
    trail.append(&Record::Job(ended)).unwrap();
    trail.close().unwrap();
    assert_eq!(rows(&home, &["--job", "J1"]).len(), 2);
    assert_eq!(rows(&home, &["--kind", "job", "--job", "nightly"]).len(), 2);
}

#[test]
fn what_the_trail_does_not_hold_is_null() {
    let home = TrailHome::new();
    let trail = home.open();
    trail.append(&decided("S9", 1, Effect::Deny, "x")).unwrap();
    trail.close().unwrap();
    let row = rows(&home, &[]).remove(0);
    for name in ["job", "credential", "process", "upstream", "outcome"] {
        assert_eq!(row.get(name), Some(&Value::Null), "{name}");
    }
}

#[test]
fn a_late_outcome_is_joined_across_thousands_of_other_decisions() {
    let home = TrailHome::new();
    let trail = home.open();
    let count = 20_000;
    trail.append(&decided("slow", 1, Effect::Allow, "slow")).unwrap();
    for command in 0..count {
        trail.append_deferred(&decided("fast", command, Effect::Allow, "fast")).unwrap();
        trail.append_deferred(&outcome("fast", command, command)).unwrap();
    }
    trail.append(&outcome("slow", 1, 9)).unwrap();
    trail.close().unwrap();
    let found = texts(&home, &[]);
    assert_eq!(found[0], ("slow".to_owned(), Some(9)));
    assert!(found[1..].iter().zip(0..).all(|((_, rows), command)| *rows == Some(command)));
    assert_eq!(found.len() as u64, count + 1);
}

#[test]
fn a_directory_without_a_trail_is_an_error() {
    let home = TrailHome::new();
    std::fs::create_dir(home.dir()).unwrap();
    assert!(matches!(search(&home, &[]), Err(ReadError::Empty { .. })));
}
