//! The lab that the attempts share, and the check that none of them escapes.

use std::sync::OnceLock;

use lineal_tests::{
    Lab, LabOptions,
    command::{Finished, finish},
    forwarder::Forwarder,
    script::PYTHON,
};

/// One lab for all attempts. The guard takes it down when the process ends.
pub(crate) fn lab() -> &'static Lab {
    static LAB: OnceLock<Lab> = OnceLock::new();
    LAB.get_or_init(|| Lab::start(&LabOptions::default()).unwrap())
}

/// Runs Python as a job, with a new destination that no policy declares, and asserts that nothing reached it.
/// The script's environment holds `HOST` and `PORT` of the destination, and the declared server's `PGPORT`.
pub(crate) fn must_not_escape(script: &str) -> Finished {
    let outside = Forwarder::to(&lab().postgres.address()).unwrap();
    let mut job = lab().job("escape", &[PYTHON, "-c", script]).unwrap();
    job.env("HOST", "127.0.0.1").env("PORT", outside.address().port().to_string());
    let done = finish(&mut job).unwrap();
    assert_eq!(outside.connections(), 0, "escaped: {done:?}");
    assert_eq!(done.code, Some(0), "the attempt itself failed: {done:?}");
    done
}
