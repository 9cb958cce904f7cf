//! Policy bundles: a bad one is refused with file, line and reason and the last good one stays in force; a
//! changed one applies to what is open and prepared already.

use std::fs;

use lineal_tests::{command::PATIENCE, paths, script::PYTHON};
use rustix::process::Signal;

use crate::shared::{WIRE, decisions_on, lab, lines, own_lab, text};

/// A policy that forbids reading the table of products.
const NO_PRODUCTS: &str = "@id(\"closed\")\n\
                           forbid (principal, action in Action::\"sql:read\", resource is Table)\n\
                           when { resource.name == \"products\" };\n";

#[test]
fn a_bad_bundle_is_refused_and_the_last_good_one_stays_in_force() {
    let mut lab = own_lab();
    let file = lab.policies().join("default/broken.cedar");
    let before = lab.agent().unwrap().status().unwrap()["bundle"].clone();
    fs::write(
        &file,
        "@id(\"broken\")\npermit (principal, action == Action::\"no-such-action\", resource);\n",
    )
    .unwrap();
    lab.agent().unwrap().signal(Signal::HUP).unwrap();
    lab.agent().unwrap().wait_for_status(|status| status["bundle_error"].is_string()).unwrap();
    let status = lab.agent().unwrap().status().unwrap();
    let error = status["bundle_error"].as_str().unwrap();
    assert!(error.contains("broken.cedar:") && error.contains("no-such-action"), "{error}");
    assert_eq!(status["bundle"], before);
    assert_eq!(lines(&lab.psql(&["SELECT 1"]).unwrap()), ["1"]);
}

#[test]
fn a_changed_bundle_applies_to_open_sessions() {
    let mut lab = own_lab();
    let script = r#"
import psycopg, sys
with psycopg.connect(autocommit=True) as connection:
    for line in sys.stdin:
        try:
            print(connection.execute("SELECT count(*) FROM products").fetchone()[0], flush=True)
        except psycopg.Error as error:
            print(error.sqlstate, flush=True)
"#;
    let job = lab.job("open", &[PYTHON, "-c", script]).unwrap();
    let mut job = lab.converse("open", &job).unwrap();
    job.say("").unwrap();
    assert_eq!(job.line(PATIENCE).unwrap(), "200");
    let barred = "@id(\"barred\")\nforbid (principal, action == Action::\"connect\", resource);\n";
    for (policy, reason) in
        [(NO_PRODUCTS, "policy closed forbids"), (barred, "policy barred forbids connect")]
    {
        lab.set_policies(policy).unwrap();
        job.say("").unwrap();
        assert_eq!(job.line(PATIENCE).unwrap(), "42501");
        let last = decisions_on(&lab, "FROM products").pop().unwrap();
        assert_eq!(text(&last, "/decision"), "deny");
        assert!(text(&last, "/reason").contains(reason), "{last}");
    }
    job.hang_up();
    assert!(job.wait(PATIENCE).unwrap().success());
}

#[test]
fn statements_prepared_under_an_earlier_bundle_are_decided_again() {
    let mut lab = own_lab();
    // Client → lineal → server: one statement prepared by the protocol and one by SQL. Then policies change,
    // and both are executed by their names. Back: rows and a command tag before, denials after; the session
    // continues.
    let script = format!(
        r#"{WIRE}
raw.sendall(parse("named", "SELECT price FROM products WHERE id = 1")
            + bind("", "named") + execute("") + SYNC)
print(replies(1), flush=True)
raw.sendall(query("PREPARE by_sql AS SELECT price FROM products WHERE id = 2"))
print(replies(1), flush=True)
sys.stdin.readline()
raw.sendall(bind("", "named") + execute("") + SYNC)
print(replies(1), flush=True)
raw.sendall(query("EXECUTE by_sql"))
print(replies(1), flush=True)
raw.sendall(query("SELECT 1"))
print(replies(1), flush=True)
"#
    );
    let job = lab.job("prepared", &[PYTHON, "-c", &script]).unwrap();
    let mut job = lab.converse("prepared", &job).unwrap();
    assert_eq!(job.line(PATIENCE).unwrap(), "['row', 'SELECT 1']");
    assert_eq!(job.line(PATIENCE).unwrap(), "['PREPARE']");
    lab.set_policies(NO_PRODUCTS).unwrap();
    job.say("").unwrap();
    for _ in 0..2 {
        let said = job.line(PATIENCE).unwrap();
        assert!(said.starts_with("['42501") && said.contains("policy closed forbids"), "{said}");
    }
    assert_eq!(job.line(PATIENCE).unwrap(), "['row', 'SELECT 1']");
}

#[test]
fn a_statement_that_does_not_parse_is_denied_and_the_session_continues() {
    let done = lab().psql(&["SELEC 1", "SELECT 2"]).unwrap();
    assert_eq!(done.stdout, "2\n", "{done:?}");
    assert!(done.stderr.contains("42501") && done.stderr.contains("no-unparsed"), "{done:?}");
}

#[test]
fn the_shipped_policies_pass_their_own_cases() {
    let policies = paths::repository().join("policies");
    for subcommand in ["check", "test"] {
        lines(&lab().ask(&["policy", subcommand, policies.to_str().unwrap()]).unwrap());
    }
}

#[test]
fn policy_explain_names_the_deciding_policy() {
    let policies = lab().policies();
    let mut arguments = vec!["policy", "explain", policies.to_str().unwrap(), "--hostname", "lab"];
    arguments.extend(["--group", "contractors", "--statement", "DROP TABLE orders"]);
    let done = lab().ask(&arguments).unwrap();
    assert!(done.stdout.contains("no-ddl"), "{done:?}");
}

#[test]
fn settings_in_a_startup_message_are_decided_like_set_statements() {
    let script = r#"
import os, psycopg
for options in ["-c r\\ole=shop_owner", "--synchronous-commit=off", "-c client_encoding=LATIN1", "-F",
                "-c statement_timeout=5min --datestyle=ISO"]:
    try:
        with psycopg.connect(options=options) as connection:
            print(connection.execute("SHOW statement_timeout").fetchone()[0])
    except psycopg.Error as error:
        print(str(error).strip().replace("\n", " ").split("FATAL: ")[-1].strip())
"#;
    let done = lab().python(script).unwrap();
    let said = lines(&done);
    let expected = [
        "lineal: denied",
        "lineal: denied",
        "lineal: the startup option client_encoding is not carried",
        "lineal: the startup option \"-F\" is not carried",
        "5min",
    ];
    assert_eq!(said.len(), expected.len(), "{done:?}");
    for (said, expected) in said.iter().zip(expected) {
        assert!(said.starts_with(expected), "{done:?}");
    }
}
