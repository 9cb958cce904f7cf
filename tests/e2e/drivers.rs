//! Unchanged drivers of five languages: each runs the same steps with and without TLS, and notices lineal
//! only by the statements that are denied. The clients' sources are in `tests/lab/clients` and
//! `tests/clients/rust.rs`.

use std::{fs, path::PathBuf, process::Command, sync::OnceLock};

use lineal_tests::{Lab, command::finish, paths, script::PYTHON};

use crate::shared::{lines, verified_lab};

/// What every client prints, a line for each step.
const EXPECTED: [&str; 9] = [
    "select 1",
    "prepared 41 42 43",
    "denied 42501",
    "denied 42501",
    "kept 0",
    "rows 5000",
    "error 22012",
    "cancelled",
    "goes on 2",
];

/// One lab for all drivers: its upstream is reached by verified TLS.
fn lab() -> &'static Lab {
    static LAB: OnceLock<Lab> = OnceLock::new();
    LAB.get_or_init(verified_lab)
}

/// Runs a client as a job, once without and once with verified TLS.
fn check(command: &[&str]) {
    for mode in ["disable", "verify-full"] {
        let mut job = lab().job("driver", command).unwrap();
        let done = finish(job.env("MODE", mode)).unwrap();
        assert_eq!(lines(&done), EXPECTED, "{mode}: {done:?}");
    }
}

/// The path of a client's source.
fn source(name: &str) -> String {
    paths::lab_sources().join("clients").join(name).to_str().unwrap().to_owned()
}

/// Where compiled clients go.
fn built(name: &str) -> PathBuf {
    let directory = lab().directory().join("clients");
    fs::create_dir_all(&directory).unwrap();
    directory.join(name)
}

#[test]
fn asyncpg_works_unchanged_with_and_without_tls() {
    check(&[PYTHON, &source("asyncpg_client.py")]);
}

#[test]
fn node_postgres_works_unchanged_with_and_without_tls() {
    let client = paths::lab_tools().unwrap().join("clients/node/client.mjs");
    check(&["node", client.to_str().unwrap()]);
}

#[test]
fn pgjdbc_works_unchanged_with_and_without_tls() {
    let classes = built("java");
    let mut compile = Command::new("javac");
    finish(compile.arg("-d").arg(&classes).arg(source("Client.java"))).unwrap().success().unwrap();
    let jars = "/usr/share/java";
    let path = format!("{}:{jars}/postgresql.jar:{jars}/*", classes.display());
    check(&["java", "-cp", &path, "Client"]);
}

#[test]
fn pgx_works_unchanged_with_and_without_tls() {
    let client = built("pgx");
    let mut compile = Command::new("go");
    // Debian packages Go code as a GOPATH, not as modules.
    compile.env("GO111MODULE", "off").env("GOPATH", "/usr/share/gocode").env("GOCACHE", built("gocache"));
    finish(compile.args(["build", "-o"]).arg(&client).arg(source("client.go"))).unwrap().success().unwrap();
    check(&[client.to_str().unwrap()]);
}

#[test]
fn tokio_postgres_works_unchanged_with_and_without_tls() {
    check(&[env!("CARGO_BIN_EXE_rust-client")]);
}
