//! The lab that tests share, and small functions that several of them need.

use std::sync::OnceLock;

use lineal_tests::{Lab, LabOptions, command::Finished, http};
use serde_json::Value;

/// One lab for all tests that leave it as they found it. The guard takes it down when the process ends.
pub(crate) fn lab() -> &'static Lab {
    static LAB: OnceLock<Lab> = OnceLock::new();
    LAB.get_or_init(own_lab)
}

/// A lab for one test.
pub(crate) fn own_lab() -> Lab {
    Lab::start(&LabOptions::default()).unwrap()
}

/// A lab for one test, whose agent reaches the shop by verified TLS.
pub(crate) fn verified_lab() -> Lab {
    let leg = "tls.ca = \"LAB/ca.pem\"\ntls.server_name = \"db.lab.example\"";
    Lab::start(&LabOptions { leg, ..LabOptions::default() }).unwrap()
}

/// The string at a JSON pointer; empty if the value has no string there.
pub(crate) fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

/// PostgreSQL's messages, written and read by hand: what raw-wire scripts in Python begin with.
pub(crate) const WIRE_MESSAGES: &str = include_str!("wire/messages.py");

/// [`WIRE_MESSAGES`], and a session that is logged in: `raw` is its socket, and `replies(n)` returns what
/// comes back up to the nth ReadyForQuery, as rows, command tags and errors.
pub(crate) const WIRE: &str = concat!(include_str!("wire/messages.py"), include_str!("wire/session.py"));

/// The value of a metric's series; 0 if the scrape lacks it.
pub(crate) fn counted(lab: &mut Lab, series: &str) -> u64 {
    let metrics = http::get(lab.agent().unwrap().metrics(), "/metrics").unwrap();
    let line = metrics.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    line.map_or(0, |value| value.trim().parse().unwrap())
}

/// The recorded decisions on statements that contain a mark, oldest first.
pub(crate) fn decisions_on(lab: &Lab, mark: &str) -> Vec<Value> {
    let rows = lab.audit(&[]).unwrap();
    rows.into_iter().filter(|row| text(row, "/statement/text").contains(mark)).collect()
}

/// Asserts that a command succeeded, and returns the lines of its output.
pub(crate) fn lines(finished: &Finished) -> Vec<&str> {
    assert_eq!(finished.code, Some(0), "{finished:?}");
    finished.stdout.lines().collect()
}
