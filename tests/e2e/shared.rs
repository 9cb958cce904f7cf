//! The lab that tests share, and words they have in common.

use std::sync::OnceLock;

use lineal_tests::{Lab, LabOptions, command::Finished};
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

/// The string at a JSON pointer; empty if there is none.
pub(crate) fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

/// Decisions on statements that contain a mark, in their order.
pub(crate) fn decisions_on(lab: &Lab, mark: &str) -> Vec<Value> {
    let rows = lab.audit(&[]).unwrap();
    rows.into_iter().filter(|row| text(row, "/statement/text").contains(mark)).collect()
}

/// Asserts that a command succeeded, and returns its output by lines.
pub(crate) fn lines(finished: &Finished) -> Vec<&str> {
    assert_eq!(finished.code, Some(0), "{finished:?}");
    finished.stdout.lines().collect()
}
