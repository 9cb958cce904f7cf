//! Drivers, frameworks and tools that Debian packages: of Java, Go, PHP, Ruby, Perl, ODBC, and psql itself.

use std::{fs, path::PathBuf, process::Command};

use lineal_tests::command::finish;

use crate::harness::{Program, lab, source};

const READ_AND_CHANGE: [&str; 2] = ["contractors", "ci"];

/// A program that an interpreter of Debian's runs.
fn script(name: &'static str, interpreter: &str, file: &str) -> Program {
    Program::new(name, [interpreter, source(file).to_str().unwrap()])
}

/// Where compiled programs go.
fn built(name: &str) -> PathBuf {
    let directory = lab().directory().join("built");
    fs::create_dir_all(&directory).unwrap();
    directory.join(name)
}

#[test]
fn pgjdbcs_metadata_and_set_schema_work_as_direct() {
    let classes = built("java");
    let jars = "/usr/share/java/postgresql.jar:/usr/share/java/*";
    let mut compile = Command::new("javac");
    compile.args(["-cp", jars, "-d"]).arg(&classes).arg(source("java/Metadata.java"));
    finish(&mut compile).unwrap().success().unwrap();
    let path = format!("{}:{jars}", classes.display());
    let java = |name| Program::new(name, ["java", "-XX:TieredStopAtLevel=1", "-cp", &path, "Metadata"]);
    java("jdbc").argument("false").works_as_direct_for(&READ_AND_CHANGE);
    java("jdbc_ci").argument("true").argument("all").works_as_direct_for(&["ci"]);
}

#[test]
fn lib_pq_works_as_direct() {
    let program = built("lib_pq");
    let mut compile = Command::new("go");
    // Debian packages Go code as a GOPATH, not as modules.
    compile.env("GO111MODULE", "off").env("GOPATH", "/usr/share/gocode").env("GOCACHE", built("gocache"));
    compile.args(["build", "-o"]).arg(&program).arg(source("go/lib_pq.go"));
    finish(&mut compile).unwrap().success().unwrap();
    let program = program.to_str().unwrap();
    Program::new("lib_pq", [program]).works_as_direct_for(&READ_AND_CHANGE);
    Program::new("lib_pq_ci", [program, "all"]).works_as_direct_for(&["ci"]);
}

#[test]
fn laravels_database_layer_works_as_direct() {
    script("laravel", "php", "php/laravel.php").works_as_direct_for(&READ_AND_CHANGE);
}

#[test]
fn doctrine_and_pdo_work_as_direct() {
    script("doctrine", "php", "php/doctrine.php").works_as_direct_for(&READ_AND_CHANGE);
}

#[test]
fn rails_activerecord_works_as_direct() {
    script("rails", "ruby", "ruby/rails.rb").works_as_direct_for(&READ_AND_CHANGE);
}

#[test]
fn dbd_pg_works_as_direct() {
    script("dbd_pg", "perl", "perl/dbd.pl").works_as_direct_for(&READ_AND_CHANGE);
}

#[test]
fn psqlodbc_works_as_direct() {
    let triplet = format!("{}-linux-gnu", std::env::consts::ARCH);
    script("odbc", "/usr/bin/python3", "python/odbc_client.py")
        .with("TRIPLET", &triplet)
        .works_as_direct_for(&READ_AND_CHANGE);
}

#[test]
fn psql_browses_as_direct() {
    let file = source("psql.sql");
    Program::new("psql", ["psql", "-X", "-f", file.to_str().unwrap()]).works_as_direct_for(&READ_AND_CHANGE);
}
