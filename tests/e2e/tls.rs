//! TLS on both legs, client to agent and agent to server: what clients are served, what the agent verifies,
//! and what cannot be sent ahead of a handshake.

use std::fs;

use lineal_tests::{
    Lab,
    command::{Finished, PATIENCE},
    paths,
    postgres::PASSWORD,
    script::PYTHON,
};

use crate::shared::{WIRE_MESSAGES, lab, lines, own_lab, text, verified_lab};

/// Runs one statement as a job; `how` is libpq's connection string.
fn psql(lab: &Lab, how: &str, statement: &str) -> Finished {
    lab.run("psql", &["psql", "-XAtq", how, "-c", statement]).unwrap()
}

#[test]
fn every_sslmode_gets_the_encryption_it_asks_for_and_a_certificate_that_verifies() {
    let lab = lab();
    for (mode, encrypted) in [
        ("disable", false),
        ("allow", false),
        ("prefer", true),
        ("require", true),
        ("verify-ca", true),
        ("verify-full", true),
    ] {
        let done = psql(lab, &format!("sslmode={mode}"), "\\conninfo");
        assert_eq!(lines(&done).iter().any(|line| line.contains("TLS")), encrypted, "{mode}: {done:?}");
    }
    // A client that connects to a name is served a certificate for that name.
    let done = psql(lab, "sslmode=verify-full host=shop.example hostaddr=127.0.0.1", "SELECT 1");
    assert_eq!(lines(&done), ["1"]);
}

#[test]
fn a_client_that_trusts_another_authority_refuses_the_agent() {
    let lab = lab();
    let other = lab.directory().join("other-ca.pem");
    let done = psql(lab, &format!("sslmode=verify-ca sslrootcert={}", other.display()), "SELECT 1");
    assert!(done.code == Some(2) && done.stderr.contains("certificate verify failed"), "{done:?}");
}

#[test]
fn direct_tls_is_served_only_to_clients_that_name_postgresql() {
    let script = format!("{WIRE_MESSAGES}{}", include_str!("wire/direct_tls.py"));
    assert_eq!(lines(&lab().python(&script).unwrap()), ["R closed refused"]);
}

#[test]
fn plaintext_sent_ahead_of_the_handshake_ends_the_connection() {
    let script = format!("{WIRE_MESSAGES}{}", include_str!("wire/plaintext_ahead.py"));
    assert_eq!(lines(&lab().python(&script).unwrap()), ["E True", "S", "False"]);
}

#[test]
fn every_authentication_method_is_relayed_with_tls_on_both_legs() {
    let lab = verified_lab();
    for user in ["app", "app_md5", "app_cleartext"] {
        let done = psql(&lab, &format!("user={user} sslmode=verify-full"), "SELECT current_user");
        assert_eq!(lines(&done), [user]);
    }
    let encrypted = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()";
    assert_eq!(lines(&psql(&lab, "sslmode=disable", encrypted)), ["t"]);
    let rows = lab.audit(&[]).unwrap();
    assert!(rows.iter().any(|row| text(row, "/statement/text") == encrypted));
}

#[test]
fn a_client_that_uses_channel_binding_is_refused_with_both_remedies() {
    let lab = verified_lab();
    for binding in ["prefer", "require"] {
        let done = psql(&lab, &format!("sslmode=require channel_binding={binding}"), "SELECT 1");
        assert_eq!(done.code, Some(2), "{done:?}");
        // With `require` libpq itself refuses the authentication methods that it is offered.
        let both_remedies =
            done.stderr.contains("PGCHANNELBINDING=disable") && done.stderr.contains("configure a login");
        assert!(both_remedies || binding == "require" && done.stderr.contains("channel binding"), "{done:?}");
    }
    // A client without TLS has no channel to bind to, and is let in.
    assert_eq!(lines(&psql(&lab, "sslmode=disable channel_binding=prefer", "SELECT 1")), ["1"]);
}

#[test]
fn a_job_is_told_to_bind_no_login_only_where_one_is_relayed_between_two_tls_connections() {
    let mut lab = own_lab();
    let mut told = |leg: &str| {
        lab.set_leg(leg).unwrap();
        let done = lab.run("binding", &["sh", "-c", "echo \"${PGCHANNELBINDING-unset}\""]).unwrap();
        lines(&done)[0].to_owned()
    };
    assert_eq!(told("tls.mode = \"require\""), "disable");
    // Go's lib/pq connects nowhere if the variable is set.
    assert_eq!(told("tls.mode = \"disable\""), "unset");
    assert_eq!(told("tls.mode = \"require\"\ntls.offer = false"), "unset");
}

#[test]
fn the_servers_certificate_is_verified_as_the_upstream_configures() {
    let mut lab = own_lab();
    let mut check = |leg: &str, refusal: Option<&str>| {
        lab.set_leg(leg).unwrap();
        let done = psql(&lab, "sslmode=prefer", "SELECT 1");
        match refusal {
            None => assert_eq!(lines(&done), ["1"], "{leg}"),
            Some(reason) => assert!(
                done.code == Some(2)
                    && done.stderr.contains(reason)
                    && done.stderr.contains("cannot reach shop"),
                "{leg}: {done:?}"
            ),
        }
    };
    check("tls.mode = \"require\"", None);
    check("tls.mode = \"prefer\"", None);
    // The server's certificate holds its address as well as its name.
    check("tls.ca = \"LAB/ca.pem\"", None);
    check("tls.ca = \"LAB/ca.pem\"\ntls.mode = \"verify-ca\"", None);
    check("tls.ca = \"LAB/other-ca.pem\"\ntls.mode = \"verify-ca\"", Some("UnknownIssuer"));
    check("tls.ca = \"LAB/ca.pem\"\ntls.server_name = \"other.example\"", Some("not valid for name"));
}

#[test]
fn a_cancel_works_with_and_without_tls_and_only_from_the_same_job() {
    let lab = verified_lab();
    // The key of a session cancels its statements when the session's own job shows it, and not from another
    // job.
    let victim = format!("{WIRE_MESSAGES}{}", include_str!("wire/cancel.py"));
    let thief = format!("{WIRE_MESSAGES}{}", include_str!("wire/foreign_cancel.py"));
    let job = lab.job("cancelling", &[PYTHON, "-c", &victim]).unwrap();
    let mut job = lab.converse("cancelling", &job).unwrap();
    let key = job.line(PATIENCE).unwrap();
    let running = "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' \
                   AND query LIKE '%10000000000%' AND usename = 'app_cleartext'";
    let runs = || lab.wait_until("the statement runs", || Ok(lab.postgres.admin("shop", running)? == "1"));
    runs().unwrap();
    assert_eq!(lines(&lab.run("thief", &[PYTHON, "-c", &thief, &key]).unwrap()), ["b''"]);
    runs().unwrap();
    for _ in 0..2 {
        runs().unwrap();
        job.say("").unwrap();
        assert_eq!(job.line(PATIENCE).unwrap(), "True");
    }
}

#[test]
fn the_agents_authority_can_be_replaced_while_jobs_run() {
    let lab = own_lab();
    let script = r#"
import psycopg
def once():
    with psycopg.connect(sslmode="verify-full") as connection:
        print(connection.execute("SELECT 'verified'").fetchone()[0], flush=True)
once()
input()
once()
"#;
    let job = lab.job("lasting", &[PYTHON, "-c", script]).unwrap();
    let mut job = lab.converse("lasting", &job).unwrap();
    assert_eq!(job.line(PATIENCE).unwrap(), "verified");
    let published = || fs::read_to_string(lab.directory().join("trust/ca.pem")).unwrap();
    let before = published();
    assert_eq!(lab.ask(&["rotate-authority"]).unwrap().code, Some(0));
    assert!(published() != before && published().ends_with(&before));
    job.say("").unwrap();
    assert_eq!(job.line(PATIENCE).unwrap(), "verified");
    assert_eq!(lines(&psql(&lab, "sslmode=verify-full", "SELECT 1")), ["1"]);
    // A job may not replace it.
    let inside = lab.run("rotating", &[paths::lineal().unwrap().to_str().unwrap(), "rotate-authority"]);
    assert_eq!(inside.unwrap().code, Some(125));
}

#[test]
fn a_bundle_that_names_a_missing_file_or_credential_is_refused() {
    let mut lab = own_lab();
    let upstreams = lab.policies().join("hosts/lab/upstreams.toml");
    let good = fs::read_to_string(&upstreams).unwrap();
    for (leg, reason) in [
        ("tls.ca = \"/nonexistent/ca.pem\"", "/nonexistent/ca.pem: No such file"),
        ("credential = \"nobody\"", "there is no credential \"nobody\""),
    ] {
        fs::write(&upstreams, good.replace("tls.mode = \"disable\"", leg)).unwrap();
        let status =
            lab.agent().unwrap().wait_for_status(|status| !status["bundle_error"].is_null()).unwrap();
        assert!(text(&status, "/bundle_error").contains(reason), "{status}");
        fs::write(&upstreams, &good).unwrap();
        lab.agent().unwrap().wait_for_status(|status| status["bundle_error"].is_null()).unwrap();
    }
    assert_eq!(lines(&psql(&lab, &format!("password={PASSWORD}"), "SELECT 1")), ["1"]);
}
