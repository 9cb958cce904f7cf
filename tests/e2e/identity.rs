//! How `lineal run` starts a job, or refuses to. Without a verified token it prints one line, exits with 125
//! and does not start the command. Otherwise it exits as the command does, or with 126 or 127 if the command
//! cannot be started. A wrong command line makes `lineal` exit with 2.

use std::{
    fs,
    process::Command,
    time::{SystemTime, UNIX_EPOCH},
};

use lineal_tests::{Lab, LabOptions, command::finish, paths};
use serde_json::json;

use crate::shared::{lab, lines};

/// Tries to start a job with a token that must be refused: asserts that the command was not started, and
/// returns the one line on standard error.
fn refusal(lab: &Lab, token: &str) -> String {
    let directory = tempfile::tempdir_in(lab.directory()).unwrap();
    let (file, started) = (directory.path().join("token"), directory.path().join("started"));
    fs::write(&file, token).unwrap();
    let arguments = ["run", "--token-file", file.to_str().unwrap(), "--", "touch", started.to_str().unwrap()];
    let refused = lab.ask(&arguments).unwrap();
    assert_eq!(refused.code, Some(125), "{refused:?}");
    assert!(!started.exists(), "the command was started");
    let [line] = refused.stderr.lines().collect::<Vec<_>>()[..] else { panic!("not one line: {refused:?}") };
    assert!(line.starts_with("lineal: "), "{line}");
    line.to_owned()
}

/// A time relative to now, in seconds since the Unix epoch.
fn seconds_from_now(seconds: i64) -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    now.as_secs() as i64 + seconds
}

#[test]
fn an_invalid_token_starts_no_job_and_the_reason_is_printed() {
    let lab = lab();
    let check = |request, expect: &str| {
        let line = refusal(lab, &lab.issuer.mint(&request).unwrap());
        assert!(line.contains(expect), "{request}: {line}");
    };
    check(json!({"claims": {"exp": seconds_from_now(-3600), "iat": seconds_from_now(-7200)}}), "expired");
    check(json!({"claims": {"aud": "somebody-else"}}), "audience");
    check(json!({"alg": "none"}), "signed");
    check(json!({"alg": "HS256"}), "HS256");
    check(json!({"key": "foreign"}), "signature");
    check(json!({"claims": {"iss": "http://127.0.0.1:1"}}), "issuer");
    check(json!({"claims": {"sub": null}}), "sub");
}

#[test]
fn text_that_is_not_a_token_starts_no_job() {
    for token in ["", "not a token", "a.b.c"] {
        refusal(lab(), token);
    }
}

#[test]
fn a_single_use_token_is_refused_the_second_time() {
    let lab = lab();
    // This token can be used only once because it names no CI run.
    let token = lab.issuer.token("single-use").unwrap();
    let file = lab.directory().join("single-use");
    fs::write(&file, &token).unwrap();
    let first = lab.ask(&["run", "--token-file", file.to_str().unwrap(), "--", "true"]).unwrap();
    assert_eq!(first.code, Some(0), "{first:?}");
    let line = refusal(lab, &token);
    assert!(line.contains("used"), "{line}");
}

#[test]
fn a_token_that_names_a_ci_run_is_accepted_for_every_job_of_that_run() {
    // The lab's own token names a CI run.
    for _ in 0..3 {
        lines(&lab().run("again", &["true"]).unwrap());
    }
}

#[test]
fn the_issuers_new_keys_are_fetched_and_its_old_ones_rejected() {
    // The lab's configuration ends with the issuer's table, so this setting belongs to it.
    let more = "keys_refetch_s = 1".to_owned();
    let lab = Lab::start(&LabOptions { agent_config: more, ..LabOptions::default() }).unwrap();
    let old = lab.issuer.token("nightly").unwrap();
    lines(&lab.run("before", &["true"]).unwrap());
    lab.issuer.rotate().unwrap();
    fs::write(lab.token_file(), lab.issuer.token("nightly").unwrap()).unwrap();
    // The agent fetches keys at most once a second.
    lab.wait_until("the agent has fetched the new key", || Ok(lab.run("after", &["true"])?.code == Some(0)))
        .unwrap();
    refusal(&lab, &old);
}

#[test]
fn without_an_agent_no_job_starts() {
    let started = lab().directory().join("unreachable");
    let mut run = lab().lineal(&["run", "--token-file"]).unwrap();
    run.arg(lab().token_file()).args(["--control", "/nonexistent/control.sock", "--", "touch"]).arg(&started);
    let refused = finish(&mut run).unwrap();
    assert_eq!(refused.code, Some(125), "{refused:?}");
    assert!(refused.stderr.starts_with("lineal: ") && refused.stderr.contains("/nonexistent/control.sock"));
    assert!(!started.exists());
}

#[test]
fn the_command_keeps_its_exit_status_and_streams_and_does_not_see_the_token() {
    let lab = lab();
    let token = fs::read_to_string(lab.token_file()).unwrap();
    let mut run = lab.lineal(&["run", "--", "/bin/sh", "-c", "echo out; echo err >&2; env; exit 7"]).unwrap();
    let done = finish(run.env("LINEAL_TOKEN", &token)).unwrap();
    assert_eq!(done.code, Some(7), "{done:?}");
    assert!(done.stdout.starts_with("out\n") && done.stderr == "err\n", "{done:?}");
    assert!(!done.stdout.contains(token.trim()), "the token is in the command's environment");
}

#[test]
fn a_missing_command_exits_127_and_a_non_executable_one_126() {
    assert_eq!(lab().run("missing", &["/nonexistent/cmd"]).unwrap().code, Some(127));
    assert_eq!(lab().run("not-executable", &["/etc/passwd"]).unwrap().code, Some(126));
}

#[test]
fn a_wrong_command_line_exits_2() {
    let mut lineal = Command::new(paths::lineal().unwrap());
    assert_eq!(finish(lineal.arg("--nonsense")).unwrap().code, Some(2));
}
