//! Trails for tests: a directory that is removed with the test, and short ways to make records.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
};

use agent_core::{
    audit::{Record, record::*},
    decision::Effect,
    facts::Action,
};

use super::{AuditConfig, AuditError, Trail, VerifyArgs, trail::list_segments, verify};

/// A directory for one trail and its key, removed with the test.
pub(super) struct TrailHome {
    root: tempfile::TempDir,
}

impl TrailHome {
    pub(super) fn new() -> Self {
        Self { root: tempfile::tempdir().unwrap() }
    }

    pub(super) fn dir(&self) -> PathBuf {
        self.root.path().join("audit")
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    /// Long delays, so that nothing a test sees was done by the clock, unless the test shortens them.
    pub(super) fn config(&self) -> AuditConfig {
        AuditConfig { dir: self.dir(), fdatasync_ms: 60_000, deferred_ms: 1_000, ..AuditConfig::default() }
    }

    pub(super) fn open(&self) -> Arc<Trail> {
        self.open_with(|_| {}).unwrap()
    }

    pub(super) fn open_with(&self, change: impl FnOnce(&mut AuditConfig)) -> Result<Arc<Trail>, AuditError> {
        let mut config = self.config();
        change(&mut config);
        Trail::open(&config, &self.path("state"), "ci-1")
    }

    /// The trail's files in order.
    pub(super) fn segments(&self) -> Vec<PathBuf> {
        list_segments(&self.dir()).unwrap().into_iter().map(|segment| segment.file).collect()
    }

    /// The trail's lines in order.
    pub(super) fn lines(&self) -> Vec<serde_json::Value> {
        let text: String =
            self.segments().iter().map(|file| std::fs::read_to_string(file).unwrap()).collect();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    pub(super) fn kinds(&self) -> Vec<String> {
        self.lines().iter().map(|line| line["kind"].as_str().unwrap().to_owned()).collect()
    }

    pub(super) fn verify(&self) -> (bool, String) {
        verify_dir(&self.dir(), &VerifyArgs::default())
    }
}

pub(super) fn verify_dir(dir: &Path, args: &VerifyArgs) -> (bool, String) {
    let mut out = Vec::new();
    let unbroken = verify(dir, args, &mut out).unwrap();
    (unbroken, String::from_utf8(out).unwrap())
}

pub(super) fn bundle(version: &str) -> Record<'_> {
    Record::Bundle(BundleRecord { state: BundleState::Loaded, version, reason: None })
}

pub(super) fn opened<'a>(session: &'a str, job: &'a str, process: u64) -> Record<'a> {
    let upstream = UpstreamRef { name: "shop", address: "10.0.0.5:5432", database: "shop", user: "app" };
    Record::Session(SessionRecord::Opened { session, job, process, protocol: "postgres", upstream })
}

pub(super) fn closed<'a>(session: &'a str, job: &'a str) -> Record<'a> {
    Record::Session(SessionRecord::Closed { session, job, reason: "closed", error: None })
}

pub(super) fn decided<'a>(session: &'a str, command: u64, decision: Effect, text: &'a str) -> Record<'a> {
    Record::Decision(DecisionRecord {
        session,
        command,
        protocol: "postgres",
        actions: &[Action::SqlSelect],
        resources: Texts::Strs(&["shop/shop.?.orders"]),
        statement: Some(StatementRef { text, fingerprint: "f", parameters: &[], whole: None }),
        decision,
        policies: Texts::Strs(&["reads"]),
        reason: "because",
        masked: Texts::Strs(&[]),
        observed: false,
    })
}

pub(super) fn outcome(session: &str, command: u64, rows: u64) -> Record<'_> {
    let error = None;
    Record::Outcome(OutcomeRecord {
        session,
        command,
        rows: Some(rows),
        bytes: 10 * rows,
        error,
        duration_us: 7,
    })
}

/// Records the enrolment of `job` under `subject`.
pub(super) fn enrol(trail: &Trail, job: &str, name: &str, subject: &str) {
    let groups = ["contractors".to_owned()];
    let claims = BTreeMap::from([("repository".to_owned(), "acme/shop".to_owned())]);
    let credential =
        CredentialRef { issuer: "https://ci.example", subject, groups: &groups, claims: &claims };
    let job = JobRef { id: job, name };
    let record = JobRecord { state: JobState::Enrolled, job, credential: Some(credential), root_pid: 100 };
    trail.append(&Record::Job(record)).unwrap();
}

/// Records that `pid` took on the image `exe`, as node `process`.
pub(super) fn image(trail: &Trail, job: &str, process: u64, pid: u32, exe: &str, parent: Option<u64>) {
    let argv = [exe.to_owned(), "-x".to_owned()];
    let record =
        ProcessRecord { process, job, pid, exe, argv: &argv, cwd: "/srv", uid: 1000, container: "", parent };
    trail.append(&Record::Process(record)).unwrap();
}
