//! A job at the control socket: it may enrol nobody, least of all itself again, and end nobody's access.

use crate::shared::lab;

/// Runs `lineal` in a job and expects it to be refused.
fn refused(arguments: &[&str]) -> String {
    let lineal = lineal_tests::paths::lineal().unwrap();
    let mut command = vec![lineal.to_str().unwrap()];
    command.extend(arguments);
    let done = lab().run("control", &command).unwrap();
    assert_eq!(done.code, Some(125), "{done:?}");
    assert!(done.stderr.starts_with("lineal: "), "{done:?}");
    done.stderr
}

#[test]
fn a_job_cannot_take_a_second_credential() {
    let token = lab().issuer.token("release-bot").unwrap();
    let file = lab().directory().join("better-token");
    std::fs::write(&file, token).unwrap();
    refused(&["run", "--token-file", file.to_str().unwrap(), "--", "true"]);
}

#[test]
fn a_job_cannot_revoke() {
    refused(&["revoke", "--subject", "somebody:else", "--reason", "spite"]);
}

#[test]
fn a_job_cannot_look_at_the_others() {
    refused(&["jobs", "--json"]);
}
