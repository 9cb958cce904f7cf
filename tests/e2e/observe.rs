//! Observe mode: nothing is stopped, and the trail records what would have been denied.

use std::{fs, os::unix::fs::PermissionsExt};

use lineal_tests::{Lab, LabOptions, postgres::AGENT_PASSWORD};
use serde_json::{Value, json};

use crate::shared::{decisions_on, lines, own_lab, text};

/// An observed policy that forbids reading the table of products.
const NO_PRODUCTS: &str = "@id(\"no-products\")\n@mode(\"observe\")\n\
                           forbid (principal, action in Action::\"sql\", resource is Table)\n\
                           when { resource.name == \"products\" };\n";

#[test]
fn an_observed_policy_stops_nothing_and_records_what_it_would_deny() {
    let mut lab = own_lab();
    lab.set_policies(NO_PRODUCTS).unwrap();
    for _ in 0..3 {
        let done = lab.psql(&["SELECT count(*) FROM products"]).unwrap();
        assert_eq!(lines(&done), ["200"]);
    }
    let denied = lab.psql(&["DROP TABLE products"]).unwrap();
    assert!(denied.stderr.contains("denied by policy no-ddl"), "{denied:?}");

    let rows = decisions_on(&lab, "FROM products");
    assert_eq!(rows.len(), 3);
    for row in &rows {
        assert_eq!((text(row, "/decision"), row["observed"].as_bool()), ("deny", Some(true)), "{row}");
        assert_eq!(row["policies"], json!(["no-products"]));
        assert_eq!(row.pointer("/outcome/rows").and_then(Value::as_u64), Some(1), "{row}");
    }
    assert_eq!(lab.audit(&["--would-deny"]).unwrap().len(), 3);
    let summary = lab.audit(&["--would-deny", "--summary"]).unwrap();
    let [sort] = summary.as_slice() else { panic!("{summary:?}") };
    assert_eq!(sort["count"].as_u64(), Some(3), "{sort}");
    assert!(text(sort, "/reason").contains("no-products forbids sql:select"), "{sort}");
}

#[test]
fn an_observed_bundle_stops_only_what_would_blind_the_agent() {
    let mut lab = own_lab();
    let address = lab.postgres.address();
    lab.set_upstreams(&format!(
        "mode = \"observe\"\n[[upstream]]\nname = \"shop\"\nprotocol = \"postgres\"\n\
         addresses = [{address:?}]\ntls.mode = \"disable\"\n"
    ))
    .unwrap();
    // The statement reaches the server, which refuses it by its own rules.
    let dropped = lab.psql(&["DROP TABLE orders"]).unwrap();
    assert!(dropped.stderr.contains("must be owner of table orders"), "{dropped:?}");
    let blinding = lab.psql(&["SET standard_conforming_strings = off"]).unwrap();
    assert!(blinding.stderr.contains("lineal: denied"), "{blinding:?}");
    let rows = lab.audit(&["--would-deny"]).unwrap();
    assert_eq!(
        rows.iter().map(|row| text(row, "/statement/text")).collect::<Vec<_>>(),
        ["DROP TABLE orders"]
    );
}

#[test]
fn an_observed_policy_that_forbids_connecting_still_withholds_the_agents_login() {
    let lab = Lab::start(&LabOptions {
        leg: "tls.ca = \"LAB/ca.pem\"\ntls.server_name = \"db.lab.example\"\ncredential = \"shop\"",
        agent_config:
            "[[credential]]\nname = \"shop\"\nuser = \"app_agent\"\npassword_file = \"LAB/shop.password\"\n"
                .into(),
        ..LabOptions::default()
    });
    let mut lab = lab.unwrap();
    let file = lab.directory().join("shop.password");
    fs::write(&file, AGENT_PASSWORD).unwrap();
    fs::set_permissions(&file, PermissionsExt::from_mode(0o600)).unwrap();
    assert_eq!(lines(&lab.psql(&["SELECT 1"]).unwrap()), ["1"]);
    let nobody =
        "@id(\"nobody\")\n@mode(\"observe\")\nforbid (principal, action == Action::\"connect\", resource);\n";
    lab.set_policies(nobody).unwrap();
    let refused = lab.psql(&["SELECT 1"]).unwrap();
    assert!(refused.stderr.contains("denied by policy nobody"), "{refused:?}");
    // Policies about statements, after the login, may be observed.
    lab.set_policies(NO_PRODUCTS).unwrap();
    assert_eq!(lines(&lab.psql(&["SELECT count(*) FROM products"]).unwrap()), ["200"]);
}
