//! PostgreSQL's own regression tests, run directly at a server and through lineal with a bundle that allows
//! everything: psql must print the same, file by file. Each run has a new server of its own.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a failed assertion ends a test; clippy's own exception leaves out functions that tests share"
)]

use std::{
    collections::BTreeMap,
    env, fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use lineal_tests::{
    Lab, LabOptions,
    command::finish_within,
    paths,
    postgres::{SUPERUSER, SUPERUSER_PASSWORD, program},
};

/// How long one run may take.
const PATIENCE: Duration = Duration::from_secs(1_200);

/// The tests that run without `LINEAL_TEST_FULL`: some of each kind of statement and reply, within seconds.
const SAMPLE: &str = "test_setup boolean text int4 numeric strings timestamptz arrays json jsonb copy \
                      copyselect copydml insert create_table create_function_sql create_procedure \
                      transactions portals portals_p2 prepare prepared_xacts plancache subselect union case \
                      errors temp with returning largeobject plpgsql copy2 async psql psql_crosstab";

/// The tests whose results may differ, because they change how the server reads text, which lineal denies.
const DENIED: [&str; 2] = ["plpgsql", "strings"];
/// What the denial says.
const DENIAL: &str = "standard_conforming_strings decides how statements are read, and may not be changed";

/// How the two legs are encrypted: client to agent by libpq's `sslmode`, agent to server by the upstream's
/// TOML.
struct Legs {
    sslmode: &'static str,
    upstream: &'static str,
}

const PLAIN: Legs = Legs { sslmode: "disable", upstream: "tls.mode = \"disable\"" };
const ENCRYPTED: Legs = Legs { sslmode: "verify-full", upstream: "tls.ca = \"LAB/ca.pem\"" };

#[test]
fn results_through_lineal_equal_the_servers_own() {
    let direct = run(None);
    assert!(direct.len() >= SAMPLE.split_whitespace().count(), "{} results", direct.len());
    for legs in [PLAIN, ENCRYPTED] {
        let through = run(Some(&legs));
        let names: Vec<_> = through.keys().collect();
        assert_eq!(names, direct.keys().collect::<Vec<_>>());
        for (name, expected) in &direct {
            let found = &through[name];
            if DENIED.contains(&&**name) {
                assert!(found.contains(DENIAL) && !expected.contains(DENIAL), "{name}");
            } else {
                assert!(
                    found == expected,
                    "sslmode={} {name}: {}",
                    legs.sslmode,
                    difference(expected, found)
                );
            }
        }
    }
}

/// The lines around the first difference of two texts.
fn difference(expected: &str, found: &str) -> String {
    let at = expected.lines().zip(found.lines()).take_while(|(expected, found)| expected == found).count();
    let part = |text: &str| text.lines().skip(at.saturating_sub(3)).take(8).collect::<Vec<_>>().join("\n");
    format!("line {at}:\n{}\n--- through lineal:\n{}", part(expected), part(found))
}

/// Runs the tests on a new server, through lineal if legs are given, and returns what each test printed.
fn run(legs: Option<&Legs>) -> BTreeMap<String, String> {
    let leg = legs.map_or(PLAIN.upstream, |legs| legs.upstream);
    let mut lab = Lab::start(&LabOptions { leg, ..LabOptions::default() }).unwrap();
    lab.allow_all().unwrap();
    let directory = lab.directory().join("regress");
    stage(&paths::regression_tests().unwrap(), &directory);
    let results = directory.join("results");
    fs::create_dir(&results).unwrap();
    // The server writes there, too, by COPY.
    for written in [&directory, &results] {
        fs::set_permissions(written, fs::Permissions::from_mode(0o777)).unwrap();
    }
    let arguments = arguments(&directory, lab.postgres.port());
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let mut command = match legs {
        Some(_) => lab.job("regress", &arguments).unwrap(),
        None => {
            let mut direct = Command::new(arguments[0]);
            direct.args(&arguments[1..]);
            lab.inside(&direct)
        }
    };
    command
        .env("PGPASSWORD", SUPERUSER_PASSWORD)
        .env("PGSSLMODE", legs.map_or("disable", |legs| legs.sslmode));
    command.current_dir(&directory).env_remove("PGDATABASE");
    // pg_regress exits with 1 where a result differs from PostgreSQL's own: here only the two runs must
    // agree.
    let done = finish_within(&mut command, PATIENCE).unwrap();
    assert!(matches!(done.code, Some(0 | 1)), "{done:?}");
    if legs.is_some() {
        let statements = lab.audit(&["--job", "regress"]).unwrap().len();
        assert!(statements > 1_000, "{statements} statements on record");
    }
    let mut printed = BTreeMap::new();
    for file in fs::read_dir(&results).unwrap() {
        let path = file.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "out") {
            let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
            let text = String::from_utf8_lossy(&fs::read(&path).unwrap()).into_owned();
            printed.insert(name, without_location(&text, &lab, &directory));
        }
    }
    printed
}

/// The command line of PostgreSQL's test driver.
fn arguments(directory: &Path, port: u16) -> Vec<String> {
    let psql = program("psql").unwrap();
    let pg_regress = program("../lib/pgxs/src/test/regress/pg_regress").unwrap();
    let mut arguments = vec![
        pg_regress.to_str().unwrap().to_owned(),
        format!("--bindir={}", psql.parent().unwrap().display()),
        format!("--inputdir={}", directory.display()),
        format!("--outputdir={}", directory.display()),
        format!("--dlpath={}", directory.display()),
        "--host=127.0.0.1".to_owned(),
        format!("--port={port}"),
        format!("--user={SUPERUSER}"),
    ];
    if env::var_os("LINEAL_TEST_FULL").is_some() {
        arguments.push(format!("--schedule={}", directory.join("parallel_schedule").display()));
    } else {
        arguments.extend(SAMPLE.split_whitespace().map(str::to_owned));
    }
    arguments
}

/// The text without the lab's own directory and port, which differ between the runs.
fn without_location(text: &str, lab: &Lab, directory: &Path) -> String {
    text.replace(directory.to_str().unwrap(), "DIRECTORY")
        .replace(&format!("port {}", lab.postgres.port()), "port PORT")
}

/// Copies the tests to a directory that the server may read.
fn stage(from: &Path, to: &PathBuf) {
    fs::create_dir(to).unwrap();
    for file in fs::read_dir(from).unwrap() {
        let file = file.unwrap();
        let target = to.join(file.file_name());
        if file.file_type().unwrap().is_dir() {
            stage(&file.path(), &target);
        } else {
            fs::copy(file.path(), target).unwrap();
        }
    }
}
