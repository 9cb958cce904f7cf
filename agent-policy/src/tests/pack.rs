//! The shipped pack: it loads, its cases pass, and no policy is without a case.
//!
//! The facts of each statement stand here by hand, as PostgreSQL's grammar tells them: this crate does not know SQL.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use agent_core::decision::Verdict;

use super::*;
use crate::{Undeclared, run_cases};

fn sources() -> Vec<Source> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../policies/default");
    let mut paths: Vec<_> = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths
        .iter()
        .map(|path| {
            let name = path.file_name().unwrap().to_str().unwrap();
            Source::new(format!("policies/default/{name}"), fs::read_to_string(path).unwrap())
        })
        .collect()
}

fn pack() -> Arc<Bundle> {
    Arc::new(Bundle::load(&sources()).unwrap_or_else(|error| panic!("{error}")))
}

#[rustfmt::skip]
fn analyze(statement: &str) -> Facts {
    let one = plain_sql;
    let calls = |name: &str| SqlFacts { functions: vec![name.into()], ..one() };
    let sets = |name: &str| SqlFacts { settings: vec![name.into()], ..one() };
    let all_rows = || SqlFacts { has_where: false, ..one() };
    match statement {
        "SELECT * FROM orders" => facts(&["sql:select orders"], one()),
        "SELECT * FROM orders; SHOW search_path" =>
            facts(&["sql:select orders", "sql:show"], SqlFacts { statements: 2, ..one() }),
        "SELECT rolpassword FROM pg_authid" => facts(&["sql:select pg_authid"], one()),
        "INSERT INTO orders (id) VALUES (1)" => facts(&["sql:insert orders"], one()),
        "UPDATE orders SET status = 'paid' WHERE id = 1" => facts(&["sql:update orders"], one()),
        "UPDATE orders SET status = 'void' FROM customers c WHERE c.id = customer_id" =>
            facts(&["sql:update orders", "sql:select customers"], one()),
        "UPDATE orders SET status = 'paid'" => facts(&["sql:update orders"], all_rows()),
        "DELETE FROM orders" => facts(&["sql:delete orders"], all_rows()),
        "SELECT 1; DELETE FROM orders WHERE id = 1" =>
            facts(&["sql:select", "sql:delete orders"], SqlFacts { statements: 2, ..one() }),
        "WITH x AS (DELETE FROM orders RETURNING *) SELECT * FROM x" =>
            facts(&["sql:delete orders", "sql:select"], SqlFacts { writes_in_cte: true, ..all_rows() }),
        "WITH x AS (UPDATE orders SET total = 0 WHERE id = 1 RETURNING *) SELECT * FROM x" =>
            facts(&["sql:update orders", "sql:select"], SqlFacts { writes_in_cte: true, ..one() }),
        "COPY products FROM STDIN" => facts(&["sql:copy-in products"], one()),
        "TRUNCATE products" => facts(&["sql:truncate products"], one()),
        "UPDATE pg_settings SET setting = 'off' WHERE name = 'standard_conforming_strings'" =>
            facts(&["sql:update pg_settings"], one()),
        "BEGIN" => facts(&["sql:transaction"], one()),
        "PREPARE q AS SELECT * FROM orders" => facts(&["sql:prepare", "sql:select orders"], one()),
        "PREPARE q AS DELETE FROM orders" => facts(&["sql:prepare", "sql:delete orders"], all_rows()),
        "SET statement_timeout = '5s'" => facts(&["sql:set"], sets("statement_timeout")),
        "SET search_path = pg_temp, public" => facts(&["sql:set"], sets("search_path")),
        "SET standard_conforming_strings = off" => facts(&["sql:set"], sets("standard_conforming_strings")),
        "SET ROLE admin" => facts(&["sql:set"], sets("role")),
        "SELECT pg_catalog.set_config('application_name', 'x', false)" => facts(
            &["sql:select", "sql:set"],
            SqlFacts { settings: vec!["application_name".into()], ..calls("pg_catalog.set_config") },
        ),
        "DROP TABLE orders" => facts(&["sql:drop orders"], one()),
        "CREATE TABLE copy AS SELECT * FROM customers" =>
            facts(&["sql:create copy", "sql:select customers"], one()),
        "ALTER TABLE orders ADD COLUMN note text" => facts(&["sql:alter orders"], one()),
        "ANALYZE orders" => facts(&["sql:maintenance orders"], one()),
        "GRANT ALL ON orders TO PUBLIC" => facts(&["sql:grant orders"], one()),
        "SELEC * FROM orders" => facts(&["sql:unparsed"], SqlFacts::default()),
        "DO $$ BEGIN DELETE FROM orders; END $$" => facts(&["sql:call"], one()),
        "COPY orders TO PROGRAM 'cat > /tmp/orders'" => facts(&["sql:server orders", "sql:copy-out orders"], one()),
        "SELECT query_to_xml('DELETE FROM orders', true, true, '')" =>
            facts(&["sql:select"], calls("query_to_xml")),
        "SELECT * FROM public.dblink('host=192.0.2.7', 'SELECT 1') AS t (a int)" =>
            facts(&["sql:select"], calls("public.dblink")),
        "SELECT pg_read_file('/etc/passwd')" => facts(&["sql:select"], calls("pg_read_file")),
        "SELECT pg_terminate_backend(42)" => facts(&["sql:select"], calls("pg_terminate_backend")),
        "SELECT setval('orders_id_seq', 1)" => facts(&["sql:select"], calls("setval")),
        "SELECT count(*), now() FROM orders" => facts(
            &["sql:select orders"],
            SqlFacts { functions: vec!["count".into(), "now".into()], ..one() },
        ),
        _ => panic!("no facts stand here for {statement:?}"),
    }
}

#[test]
fn every_case_passes() {
    let results = run_cases(&pack(), &sources(), &analyze).unwrap();
    let failed: Vec<_> = results.iter().filter(|result| !result.passed).collect();
    assert!(failed.is_empty(), "{failed:#?}");
}

#[test]
fn every_policy_has_a_case_that_names_it() {
    let results = run_cases(&pack(), &sources(), &analyze).unwrap();
    let tried: BTreeSet<_> = results.into_iter().flat_map(|result| result.policies).collect();
    let pack = pack();
    let untried: Vec<_> = pack.policies().filter(|p| !tried.contains(&p.name)).collect();
    assert!(untried.is_empty(), "{untried:#?}");
}

#[test]
fn nothing_is_declared_and_the_undeclared_is_refused() {
    assert_eq!(pack().upstreams().count(), 0);
    assert_eq!(pack().undeclared(), Undeclared::Deny);
}

#[test]
fn every_decision_outlives_its_moment() {
    let session = session(&pack(), &["ci"]);
    for action in Action::ALL {
        let facts =
            Facts { accesses: vec![Access { action: *action, resource: Resource::Database }], sql: None };
        assert!(session.is_lasting(&facts), "{action:?}");
    }
}

#[test]
fn every_kind_of_administration_is_refused_to_everyone() {
    let session = session(&pack(), &["ci", "contractors", "migrations"]);
    for name in ["sql:unparsed", "sql:other", "sql:call", "sql:server", "sql:grant", "sql:set", "sql:notify"]
    {
        assert_eq!(session.decide(&facts(&[name], plain_sql()), NOON, &[]).verdict, Verdict::Deny, "{name}");
    }
}
