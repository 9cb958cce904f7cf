//! What happens to a job whose token expires, and to one whose access the revocation file ends.

use std::{
    fs,
    process::Command,
    time::{SystemTime, UNIX_EPOCH},
};

use lineal_tests::{Lab, LabOptions, command::PATIENCE, script::PYTHON, story::SUBJECT};
use serde_json::{Value, json};

use crate::{
    opaque,
    shared::{lab, own_lab, text},
};

/// The command of a job whose token expires in so many seconds; its script's argument is that time, in Unix
/// seconds.
fn short_lived(lab: &Lab, name: &str, seconds: u64, script: &str) -> Command {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let token = lab.issuer.mint(&json!({"claims": {"exp": now + seconds}})).unwrap();
    let file = lab.directory().join(format!("{name}.token"));
    fs::write(&file, token).unwrap();
    let expires = (now + seconds).to_string();
    let run =
        ["run", "--name", name, "--token-file", file.to_str().unwrap(), "--", PYTHON, "-c", script, &expires];
    lab.lineal(&run).unwrap()
}

fn state_of(lab: &Lab, name: &str) -> String {
    let jobs = lab.ask(&["jobs", "--json"]).unwrap().json().unwrap();
    let job = jobs.iter().find(|job| text(job, "/name") == name).unwrap();
    text(job, "/state").to_owned()
}

#[test]
fn a_job_whose_token_has_expired_can_neither_connect_nor_run_statements() {
    let script = r#"
import psycopg
connection = psycopg.connect(autocommit=True)
print(connection.execute("SELECT 'valid'").fetchone()[0], flush=True)
try:
    while True:
        connection.execute("SELECT 1")
except psycopg.Error as error:
    print(error.sqlstate, "the job's token has expired" in str(error))
# The session stays open, and denies each further statement.
try:
    connection.execute("SELECT 1")
except psycopg.errors.InsufficientPrivilege:
    print("still")
try:
    psycopg.connect()
except psycopg.OperationalError as error:
    print("the job's token has expired" in str(error), flush=True)
input()
"#;
    let lab = lab();
    let mut job = lab.converse("expiring", &short_lived(lab, "short", 4, script)).unwrap();
    for expect in ["valid", "42501 True", "still", "True"] {
        assert_eq!(job.line(PATIENCE).unwrap(), expect);
    }
    assert_eq!(state_of(lab, "short"), "expired");
}

#[test]
fn a_job_outlives_its_token_if_its_issuer_is_configured_so() {
    let script = r#"
import psycopg, sys, time
connection = psycopg.connect(autocommit=True)
while time.time() < int(sys.argv[1]) + 1:
    connection.execute("SELECT 1")
print(connection.execute("SELECT 'goes on'").fetchone()[0])
print(psycopg.connect().execute("SELECT 'and comes in'").fetchone()[0], flush=True)
input()
"#;
    // The lab's configuration ends with the issuer's table, so this key belongs to it.
    let options = LabOptions { agent_config: "outlive_s = 3600\n".into(), ..LabOptions::default() };
    let lab = Lab::start(&options).unwrap();
    let mut job = lab.converse("outliving", &short_lived(&lab, "long", 3, script)).unwrap();
    for expect in ["goes on", "and comes in"] {
        assert_eq!(job.line(PATIENCE).unwrap(), expect);
    }
    assert_eq!(state_of(&lab, "long"), "expiring");
}

#[test]
fn an_opaque_connection_ends_when_the_jobs_token_expires() {
    // Client → lineal → server: five bytes over a plain connection, which come back. Then the token expires,
    // and the connection ends without another byte.
    let script = r#"
import os, socket
connection = socket.create_connection(("127.0.0.1", int(os.environ["ECHO"])))
connection.sendall(b"hello")
print(connection.recv(16).decode(), flush=True)
try:
    print(connection.recv(16))
except ConnectionResetError:
    print(b"")
"#;
    let echo = opaque::echo();
    let options = LabOptions {
        upstreams: format!(
            "[[upstream]]\nname = \"echo\"\nprotocol = \"tcp\"\naddresses = [\"127.0.0.1:{echo}\"]\n"
        ),
        ..LabOptions::default()
    };
    let mut lab = Lab::start(&options).unwrap();
    let connect =
        "@id(\"echo\")\npermit (principal, action == Action::\"connect\", resource == Upstream::\"echo\");\n";
    lab.set_policies(connect).unwrap();
    let mut job = short_lived(&lab, "opaque", 4, script);
    job.env("ECHO", echo.to_string());
    let mut job = lab.converse("opaque", &job).unwrap();
    assert_eq!(job.line(PATIENCE).unwrap(), "hello");
    assert_eq!(job.line(PATIENCE).unwrap(), "b''");
}

#[test]
fn an_entry_in_the_revocation_file_ends_access_and_its_removal_restores_it() {
    let mut lab = own_lab();
    let file = lab.directory().join("revoked.toml");
    let list = |content: &str| {
        let next = file.with_extension("next");
        fs::write(&next, content).unwrap();
        fs::rename(&next, &file).unwrap();
    };
    list("");
    lab.take_agent().unwrap().stop().unwrap();
    lab.agent_options().more = format!("[revocations]\nfile = {file:?}\n");
    lab.start_agent().unwrap();

    let script = r#"
import psycopg
try:
    with psycopg.connect(autocommit=True) as connection:
        print("begun", flush=True)
        connection.execute("SELECT pg_sleep(600)")
except psycopg.Error as error:
    print("left the company" in str(error), flush=True)
"#;
    let mut job = lab.converse("listed", &lab.job("listed", &[PYTHON, "-c", script]).unwrap()).unwrap();
    assert_eq!(job.line(PATIENCE).unwrap(), "begun");
    list(&format!("[[revocation]]\nsubject = {SUBJECT:?}\nreason = \"left the company\"\n"));
    assert_eq!(job.line(PATIENCE).unwrap(), "True");
    let refused = lab.run("again", &["true"]).unwrap();
    assert!(refused.code == Some(125) && refused.stderr.contains("left the company"), "{refused:?}");

    // While the file cannot be read, nobody else loses access and nobody regains it.
    list("[[revocation]]\nsubject = 7\n");
    let agent = lab.agent().unwrap();
    let status = agent.wait_for_status(|status| !status["revocations_error"].is_null()).unwrap();
    assert!(text(&status, "/revocations_error").contains("revoked.toml"), "{status}");
    assert_eq!(lab.run("again", &["true"]).unwrap().code, Some(125));

    list("");
    lab.agent().unwrap().wait_for_status(|status| status["revocations_error"].is_null()).unwrap();
    assert_eq!(lab.run("again", &["true"]).unwrap().code, Some(0));

    let mut trail = String::new();
    for file in fs::read_dir(lab.trail()).unwrap() {
        trail += &fs::read_to_string(file.unwrap().path()).unwrap();
    }
    let records: Vec<Value> = trail.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let revocations: Vec<_> = records.iter().filter(|record| text(record, "/kind") == "revocation").collect();
    let [revocation] = revocations.as_slice() else { panic!("{revocations:?}") };
    assert!(text(revocation, "/by").contains("revoked.toml"), "{revocation}");
    assert_eq!(text(revocation, "/subject"), SUBJECT);
    assert_eq!(revocation["jobs"].as_array().map(Vec::len), Some(1), "{revocation}");
}

#[test]
fn a_cancel_from_an_expired_job_is_ignored_and_its_statement_finishes() {
    let script = r#"
import psycopg, sys, threading, time
connection = psycopg.connect(autocommit=True)
connection.execute("SELECT 1")
def cancel():
    while time.time() < int(sys.argv[1]) + 0.5:
        time.sleep(0.05)
    connection.cancel()
thread = threading.Thread(target=cancel)
thread.start()
try:
    print(connection.execute("SELECT 'slept' FROM pg_sleep(10)").fetchone()[0], flush=True)
except psycopg.Error as error:
    print(error.sqlstate, flush=True)
thread.join()
"#;
    let lab = lab();
    let mut job = lab.converse("cancelling", &short_lived(lab, "cancelling", 6, script)).unwrap();
    assert_eq!(job.line(PATIENCE).unwrap(), "slept");
}
