//! The lab that the attempts share.

use std::sync::OnceLock;

use lineal_tests::{Lab, LabOptions, command::Finished, forwarder::Forwarder};

/// One lab for all attempts. The guard takes it down when the process ends.
pub(crate) fn lab() -> &'static Lab {
    static LAB: OnceLock<Lab> = OnceLock::new();
    LAB.get_or_init(|| Lab::start(&LabOptions::default()).unwrap())
}

/// Runs Python in a job against a destination of its own that no policy declares; fails if it was reached.
/// `HOST`, `PORT` and `PGPORT` are in its environment.
pub(crate) fn must_not_escape(script: &str) -> Finished {
    let outside = Forwarder::to(&lab().postgres.address()).unwrap();
    let mut job = lab().job("escape", &[lineal_tests::script::PYTHON, "-c", script]).unwrap();
    job.env("HOST", "127.0.0.1").env("PORT", outside.address().port().to_string());
    let done = lineal_tests::command::finish(&mut job).unwrap();
    assert_eq!(outside.connections(), 0, "escaped: {done:?}");
    assert_eq!(done.code, Some(0), "the attempt itself failed: {done:?}");
    done
}
