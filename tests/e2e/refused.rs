//! A server's own reason for refusing or ending a session reaches the client and the trail.

use std::{fs, os::unix::fs::PermissionsExt};

use lineal_tests::{
    Lab, LabOptions,
    command::{Finished, PATIENCE, finish},
    postgres::AGENT_PASSWORD,
    script::PYTHON,
};
use serde_json::{Value, json};

use crate::shared::{WIRE_MESSAGES, decisions_on, lab, lines, own_lab, text, verified_lab};

/// Runs one statement by psql, as a job and outside every job; `how` is libpq's connection string.
fn both(lab: &Lab, how: &str, statement: &str) -> [Finished; 2] {
    let psql = ["psql", "-XAtq", how, "-c", statement];
    let mut plain = std::process::Command::new(psql[0]);
    plain.args(&psql[1..]);
    [lab.run("psql", &psql).unwrap(), finish(&mut lab.inside(&plain)).unwrap()]
}

/// The errors that the trail has at the ends of sessions, oldest first.
fn ends(lab: &Lab) -> Vec<Value> {
    let sessions = lab.audit(&["--kind", "session"]).unwrap();
    sessions.into_iter().map(|row| row["error"].clone()).filter(|error| !error.is_null()).collect()
}

#[test]
fn a_server_that_refuses_a_session_is_quoted_to_the_client_and_in_the_trail() {
    let lab = own_lab();
    for (how, code, message) in [
        ("dbname=nowhere", "3D000", "database \"nowhere\" does not exist"),
        ("password=wrong", "28P01", "password authentication failed for user \"app\""),
    ] {
        let [in_job, direct] = both(&lab, how, "SELECT 1");
        assert_eq!((in_job.code, &in_job.stderr), (direct.code, &direct.stderr), "{how}");
        let end = ends(&lab).pop().unwrap();
        assert!(end["code"] == code && text(&end, "/message").contains(message), "{how}: {end}");
    }
}

#[test]
fn a_server_that_ends_a_session_is_quoted_to_the_client_and_in_the_trail() {
    let lab = own_lab();
    let script = r#"
import psycopg
with psycopg.connect(autocommit=True) as connection:
    print(connection.info.backend_pid, flush=True)
    try:
        connection.execute("SELECT pg_sleep(60) /* ended-11c7 */")
    except psycopg.Error as error:
        print(error.sqlstate, error.diag.message_primary, flush=True)
"#;
    let run = |command: &std::process::Command| {
        let mut program = lab.converse("ended", command).unwrap();
        let pid = program.line(PATIENCE).unwrap();
        let end = format!(
            "SELECT pg_terminate_backend({pid}) FROM pg_stat_activity \
             WHERE pid = {pid} AND state = 'active' AND query LIKE '%ended-11c7%'"
        );
        lab.wait_until("the statement runs", || Ok(lab.postgres.admin("shop", &end)? == "t")).unwrap();
        program.line(PATIENCE).unwrap()
    };
    let mut plain = std::process::Command::new(PYTHON);
    plain.args(["-c", script]);
    let direct = run(&lab.inside(&plain));
    assert_eq!(run(&lab.job("ended", &[PYTHON, "-c", script]).unwrap()), direct);
    let told = json!({"code": "57P01", "message": "terminating connection due to administrator command"});
    lab.wait_until("the session's end is on record", || Ok(ends(&lab) == [told.clone()])).unwrap();
    assert_eq!(decisions_on(&lab, "ended-11c7").pop().unwrap()["outcome"]["error"], told);
}

#[test]
fn a_client_whose_own_certificate_the_server_wants_is_told_the_remedies() {
    let lab = verified_lab();
    let how = "user=app_cert sslmode=require";
    let refused = lab.run("psql", &["psql", "-XAtq", how, "-c", "SELECT 1"]).unwrap();
    assert_eq!(refused.code, Some(2), "{refused:?}");
    for part in ["FATAL:  connection requires a valid client certificate", "HINT:  lineal ends", "as tcp"] {
        assert!(refused.stderr.contains(part), "{refused:?}");
    }
    assert_eq!(ends(&lab).pop().unwrap()["code"], "28000");
    // A server that refuses for another reason is quoted as it is.
    let other = lab.run("psql", &["psql", "-XAtq", "dbname=nowhere", "-c", "SELECT 1"]).unwrap();
    assert!(!other.stderr.contains("HINT"), "{other:?}");
}

#[test]
fn the_servers_code_reaches_the_client_although_the_agent_logs_in_unless_it_is_about_the_login() {
    let leg = "tls.ca = \"LAB/ca.pem\"\ntls.server_name = \"db.lab.example\"\ncredential = \"shop\"";
    let agent_config = "[[credential]]\nname = \"shop\"\nuser = \"app_agent\"\n\
                        password_file = \"LAB/shop.password\"\n";
    let options = LabOptions { leg, agent_config: agent_config.to_owned(), ..LabOptions::default() };
    let lab = Lab::start(&options).unwrap();
    let file = lab.directory().join("shop.password");
    let script = format!(
        r#"{WIRE_MESSAGES}
raw = connect()
raw.sendall(untyped(PROTOCOL_3, b"user\0app\0database\0nowhere\0\0"))
got = read_to_end(raw)
# An upstream may find the agent's login good, and refuse the session then.
while got[:1] != b"E":
    got = got[1 + struct.unpack("!I", got[1:5])[0]:]
fields = {{field[:1]: field[1:].decode() for field in got[5:].split(b"\0") if field}}
print(fields[b"S"], fields[b"C"], "nowhere" in fields[b"M"])
"#
    );
    for (password, told, recorded) in
        [(AGENT_PASSWORD, "FATAL 3D000 True", "3D000"), ("wrong", "FATAL 28000 False", "28P01")]
    {
        fs::write(&file, password).unwrap();
        fs::set_permissions(&file, PermissionsExt::from_mode(0o600)).unwrap();
        assert_eq!(lines(&lab.python(&script).unwrap()), [told]);
        assert_eq!(ends(&lab).pop().unwrap()["code"], recorded);
    }
}

#[test]
fn a_session_that_its_client_ends_has_no_error_in_the_trail() {
    lines(&lab().psql(&["SELECT 'no-error-9d02'"]).unwrap());
    let row = decisions_on(lab(), "no-error-9d02").pop().unwrap();
    assert_eq!(row["outcome"]["error"], Value::Null);
}
