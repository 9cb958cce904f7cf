//! Logins of the agent's own: the agent logs in to the server with a credential that the job does not have.

use std::{fs, os::unix::fs::PermissionsExt};

use lineal_tests::{
    Lab, LabOptions,
    command::Finished,
    postgres::{AGENT_PASSWORD, AGENT_USER, PASSWORD},
};

use crate::shared::{lines, text};

/// The shop, reached by verified TLS and with the agent's credential `shop`.
const VERIFIED: &str = "tls.ca = \"LAB/ca.pem\"\ntls.server_name = \"db.lab.example\"\ncredential = \"shop\"";

/// A lab whose agent has the credential `shop`; `source` says where it comes from, in the keys of
/// `[[credential]]`.
fn with(source: &str) -> Lab {
    with_leg(source, VERIFIED)
}

fn with_leg(source: &str, leg: &'static str) -> Lab {
    let agent_config = format!("[[credential]]\nname = \"shop\"\n{source}\n");
    Lab::start(&LabOptions { leg, agent_config, ..LabOptions::default() }).unwrap()
}

/// Writes the password file that the agent's credential names, in a lab that runs already.
fn put_password(lab: &Lab, password: &str) {
    let file = lab.directory().join("shop.password");
    fs::write(&file, password).unwrap();
    fs::set_permissions(&file, PermissionsExt::from_mode(0o600)).unwrap();
}

/// Runs one statement as a job whose own password is worthless; `how` is libpq's connection string.
fn psql(lab: &Lab, how: &str, statement: &str) -> Finished {
    let how = format!("password=worthless {how}");
    lab.run("psql", &["psql", "-XAtq", &how, "-c", statement]).unwrap()
}

const FILE: &str = "user = \"app_agent\"\npassword_file = \"LAB/shop.password\"";
const WHO: &str = "SELECT current_user";

#[test]
fn the_agent_logs_a_job_in_and_the_trail_names_the_database_user() {
    let lab = with(FILE);
    put_password(&lab, AGENT_PASSWORD);
    for mode in ["disable", "verify-full"] {
        assert_eq!(lines(&psql(&lab, &format!("sslmode={mode}"), WHO)), [AGENT_USER]);
    }
    let rows = lab.audit(&[]).unwrap();
    let row = rows.iter().find(|row| text(row, "/statement/text") == WHO).unwrap();
    assert_eq!(text(row, "/upstream/user"), AGENT_USER);
    // Policies apply to such a session as to any other.
    let denied = psql(&lab, "", "DROP TABLE orders");
    assert!(denied.stderr.contains("denied by policy no-ddl"), "{denied:?}");
}

#[test]
fn a_changed_password_file_is_used_at_the_next_login() {
    let lab = with(FILE);
    let refused = psql(&lab, "", WHO);
    assert!(refused.stderr.contains("the agent's login for shop cannot be had"), "{refused:?}");
    put_password(&lab, "stale");
    let refused = psql(&lab, "", WHO);
    assert!(refused.stderr.contains("cannot log in to shop with the agent's own login: see"), "{refused:?}");
    put_password(&lab, AGENT_PASSWORD);
    assert_eq!(lines(&psql(&lab, "", WHO)), [AGENT_USER]);
}

#[test]
fn the_agent_logs_in_by_certificate_alone_where_the_server_accepts_it() {
    let lab = with("user = \"app_cert\"\ncertificate = \"LAB/client.pem\"\nkey = \"LAB/client.key\"");
    assert_eq!(lines(&psql(&lab, "", WHO)), ["app_cert"]);
}

#[test]
fn a_credential_helper_is_run_again_only_once_its_answer_has_expired() {
    let lab = with("helper = [\"/bin/sh\", \"-c\", \"echo asked >> LAB/asked; cat LAB/answer\"]");
    let answer = |expires: &str| {
        let answer = format!(
            "{{\"user\":\"{AGENT_USER}\",\"password\":\"{AGENT_PASSWORD}\",\"expires\":\"{expires}\"}}"
        );
        fs::write(lab.directory().join("answer"), answer).unwrap();
    };
    let asked = || fs::read_to_string(lab.directory().join("asked")).unwrap().lines().count();
    for (expires, times) in [
        ("2001-02-03T04:05:06Z", 1),
        ("2001-02-03T04:05:06Z", 2),
        ("2999-01-01T00:00:00Z", 3),
        ("2999-01-01T00:00:00Z", 3),
    ] {
        answer(expires);
        assert_eq!(lines(&psql(&lab, "", WHO)), [AGENT_USER]);
        assert_eq!(asked(), times, "{expires}");
    }
}

#[test]
fn the_output_of_a_failing_helper_reaches_neither_the_job_nor_the_log() {
    let mut lab = with("helper = [\"/bin/sh\", \"-c\", \"echo top-secret; exit 3\"]");
    let refused = psql(&lab, "", WHO);
    assert!(refused.stderr.contains("the agent's login for shop cannot be had"), "{refused:?}");
    let log = lab.agent().unwrap().log();
    assert!(log.contains("the helper /bin/sh"), "{log}");
    for text in [&refused.stderr, &log] {
        assert!(!text.contains("top-secret"), "{text}");
    }
}

#[test]
fn a_password_can_come_from_a_systemd_credential() {
    let agent_config =
        "[[credential]]\nname = \"shop\"\nuser = \"app_agent\"\nsystemd_credential = \"shop.password\"\n";
    let lab = Lab::start(&LabOptions {
        leg: VERIFIED,
        agent_config: agent_config.into(),
        agent_environment: vec![("CREDENTIALS_DIRECTORY", "LAB")],
        ..LabOptions::default()
    })
    .unwrap();
    put_password(&lab, AGENT_PASSWORD);
    assert_eq!(lines(&psql(&lab, "", WHO)), [AGENT_USER]);
}

#[test]
fn the_agent_answers_every_password_method_of_the_server() {
    let lab = with("password_file = \"LAB/shop.password\"");
    put_password(&lab, PASSWORD);
    for user in ["app", "app_md5", "app_cleartext"] {
        assert_eq!(lines(&psql(&lab, &format!("user={user}"), WHO)), [user]);
    }
}

#[test]
fn a_group_can_be_given_its_own_database_role() {
    const LEG: &str = "tls.ca = \"LAB/ca.pem\"\ncredential = \"shop\"\n\
                       [[upstream.role]]\ngroup = \"contractors\"\ncredential = \"reads\"";
    let reads =
        "[[credential]]\nname = \"reads\"\nuser = \"app_agent_reads\"\npassword_file = \"LAB/shop.password\"";
    let lab = with_leg(&format!("{FILE}\n{reads}"), LEG);
    put_password(&lab, AGENT_PASSWORD);
    assert_eq!(lines(&psql(&lab, "", WHO)), ["app_agent_reads"]);
}

#[test]
fn the_servers_error_about_a_missing_database_reaches_the_client() {
    let lab = with(FILE);
    put_password(&lab, AGENT_PASSWORD);
    let refused = psql(&lab, "dbname=nothing", WHO);
    assert!(refused.stderr.contains("database \"nothing\" does not exist"), "{refused:?}");
}

#[test]
fn the_agents_password_is_not_sent_where_the_job_could_intercept_it() {
    let mut lab = with(FILE);
    put_password(&lab, AGENT_PASSWORD);
    for leg in [
        "tls.mode = \"disable\"\ncredential = \"shop\"",
        "tls.mode = \"require\"\ncredential = \"shop\"",
        "tls.mode = \"verify-ca\"\ntls.ca = \"LAB/ca.pem\"\ncredential = \"shop\"",
    ] {
        lab.set_leg(leg).unwrap();
        let refused = psql(&lab, "", WHO);
        assert!(refused.stderr.contains("the agent's login may not be sent there"), "{leg}: {refused:?}");
    }
}

#[test]
fn the_agents_password_is_in_no_environment_log_trail_or_core_dump() {
    let mut lab = with(FILE);
    put_password(&lab, AGENT_PASSWORD);
    let done = psql(&lab, "", "SELECT 1");
    assert_eq!(lines(&done), ["1"]);
    let environment = lab.run("env", &["env"]).unwrap();
    let log = lab.agent().unwrap().log();
    let mut trail = String::new();
    for file in fs::read_dir(lab.trail()).unwrap() {
        trail += &fs::read_to_string(file.unwrap().path()).unwrap();
    }
    assert!(trail.contains(AGENT_USER));
    for (place, text) in [("environment", &environment.stdout), ("log", &log), ("trail", &trail)] {
        assert!(!text.contains(AGENT_PASSWORD), "{place}");
    }
    // A core dump could hold the password, so the agent forbids itself one.
    let pid = lab.agent().unwrap().pid();
    let limits = fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
    let core = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
    assert_eq!(core.split_whitespace().skip(4).take(2).collect::<Vec<_>>(), ["0", "0"]);
}
