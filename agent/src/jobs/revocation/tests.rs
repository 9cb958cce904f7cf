//! Jobs' standings against a model. News may come late, twice or out of order, the clock may say anything,
//! the agent may be killed anywhere and another one may take over: a job whose access has ended never acts
//! again, and every other job acts exactly as its token says.

use std::{collections::BTreeSet, fs, path::Path, sync::Arc};

use agent_core::credential::Credential;
use proptest::{prelude::*, sample::Index};
use tempfile::TempDir;

use super::{
    super::{
        job::{Job, LiveJobs},
        store::{JobStore, KeptJob},
    },
    selector::{Listed, Revocation, Selector},
    standings::Standings,
    store::RevocationStore,
    tell::{Notified, tell},
};
use crate::ids::Id;

/// Whom a revocation matches: a job, by its index among all there have been, a subject, or a team of
/// subjects.
#[derive(Clone, Debug)]
enum Whom {
    Job(Index),
    Subject(u8),
    Team(u8),
}

/// How far a revocation gets before the agent is killed.
#[derive(Clone, Copy, Debug)]
enum CutOff {
    /// Every job was told and half the line is on disk; the operator had no answer.
    Told,
    /// The line is on disk; it is not yet noted with the jobs whose access it ended.
    Kept,
}

#[derive(Clone, Debug)]
enum Step {
    /// A subject's token begins a job.
    Enrol { subject: u8, expires: i64, outlives: i64 },
    /// A rule begins a job.
    Begin,
    /// An operator ends access.
    Revoke { whom: Whom, cut_off: Option<CutOff> },
    /// The revocation file is edited; the agent has not read it yet.
    Edit(Vec<Whom>),
    /// The agent reads the revocation file, and may be killed once every job was told.
    Read { cut_off: bool },
    /// The agent is killed, and another one takes over.
    Restart,
    /// Somebody removes the kept revocations of subjects and claims, and restarts the agent.
    Prune,
    /// A job's last process ends.
    End(Index),
    /// Somebody asks for a job's standing at a moment.
    Ask(Index, i64),
}

fn whom() -> impl Strategy<Value = Whom> {
    prop_oneof![
        any::<Index>().prop_map(Whom::Job),
        (0..4u8).prop_map(Whom::Subject),
        (0..2u8).prop_map(Whom::Team)
    ]
}

fn cut_off() -> impl Strategy<Value = Option<CutOff>> {
    prop_oneof![
        4 => Just(None),
        1 => Just(Some(CutOff::Told)),
        1 => Just(Some(CutOff::Kept))
    ]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..4u8, 0..200i64, 0..100i64)
            .prop_map(|(subject, expires, outlives)| Step::Enrol { subject, expires, outlives }),
        1 => Just(Step::Begin),
        2 => (whom(), cut_off()).prop_map(|(whom, cut_off)| Step::Revoke { whom, cut_off }),
        1 => prop::collection::vec(whom(), 0..3).prop_map(Step::Edit),
        2 => any::<bool>().prop_map(|cut_off| Step::Read { cut_off }),
        2 => Just(Step::Restart),
        1 => Just(Step::Prune),
        1 => any::<Index>().prop_map(Step::End),
        6 => (any::<Index>(), -5..300i64).prop_map(|(job, now)| Step::Ask(job, now)),
    ]
}

/// What the model knows of a job.
struct Expected {
    id: Id,
    subject: Option<u8>,
    term: Option<(i64, i64)>,
    ended: bool,
}

impl Expected {
    fn word(&self, now: i64) -> &'static str {
        match self.term {
            _ if self.ended => "revoked",
            None => "unidentified",
            Some((expires, _)) if now < expires => "valid",
            Some((_, acts_until)) if now < acts_until => "expiring",
            Some(_) => "expired",
        }
    }
}

fn unidentified(id: Id) -> Job {
    Job::new(id, "rule".into(), None, 7, None)
}

fn team(subject: u8) -> u8 {
    subject % 2
}

fn credential(subject: u8, (expires_unix, acts_until_unix): (i64, i64)) -> Credential {
    Credential {
        issuer: "https://issuer".into(),
        subject: format!("subject {subject}"),
        groups: vec![],
        claims: [("team".to_owned(), team(subject).to_string())].into(),
        expires_unix,
        acts_until_unix,
    }
}

/// An agent and what outlives it, beside the model.
struct Host {
    dir: TempDir,
    standings: Standings,
    live: LiveJobs,
    /// Live unidentified jobs, which the kernel side keeps.
    begun: BTreeSet<u64>,
    /// Every job there has been.
    jobs: Vec<Expected>,
    /// What operators ended.
    kept: Vec<Selector>,
    /// What the revocation file says.
    file: Vec<Selector>,
    /// What the agent has read of it.
    read: Vec<Selector>,
}

fn standings(dir: &Path) -> Standings {
    Standings { revocations: RevocationStore::open(dir).unwrap(), store: JobStore::open(dir).unwrap() }
}

impl Host {
    fn new() -> Self {
        // In memory where possible: nothing here depends on a disk.
        let dir = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
        let standings = standings(dir.path());
        let (live, begun) = (LiveJobs::new(), BTreeSet::new());
        Self { dir, standings, live, begun, jobs: vec![], kept: vec![], file: vec![], read: vec![] }
    }

    fn selector(&self, whom: &Whom) -> Selector {
        match whom {
            Whom::Job(_) if self.jobs.is_empty() => Selector::Job("none".into()),
            Whom::Job(index) => Selector::Job(index.get(&self.jobs).id.to_string()),
            Whom::Subject(subject) => Selector::Subject(format!("subject {subject}")),
            Whom::Team(team) => Selector::Claim { key: "team".into(), value: team.to_string() },
        }
    }

    /// In the model: every live job that this matches has lost its access for good.
    fn expect_ended(&mut self, selector: &Selector) {
        for job in self.jobs.iter_mut().filter(|job| self.live.contains_key(&job.id.0)) {
            let credential = job.subject.map(|subject| credential(subject, (0, 0)));
            job.ended |=
                Selector::matching(Some(job.id), credential.as_ref()).any(|matching| matching == *selector);
        }
    }

    fn enrol(&mut self, subject: u8, expires: i64, outlives: i64) {
        let term = (expires, expires + outlives);
        let credential = credential(subject, term);
        let ended = Selector::matching(None, Some(&credential))
            .any(|matching| self.kept.contains(&matching) || self.read.contains(&matching));
        assert_eq!(self.standings.objection(&credential).is_some(), ended);
        if ended {
            return;
        }
        let id = self.fresh(Some(subject), Some(term));
        let mut kept = KeptJob::of(&unidentified(id), &credential);
        kept.credential = credential;
        self.standings.store.keep(&kept).unwrap();
        self.live.insert(id.0, Arc::new(kept.into_job(id)));
    }

    fn begin(&mut self) {
        let id = self.fresh(None, None);
        self.begun.insert(id.0);
        self.live.insert(id.0, Arc::new(unidentified(id)));
    }

    fn fresh(&mut self, subject: Option<u8>, term: Option<(i64, i64)>) -> Id {
        let id = Id(1 + self.jobs.len() as u64);
        self.jobs.push(Expected { id, subject, term, ended: false });
        id
    }

    /// As `Registry::revoke` does it.
    fn revoke(&mut self, selector: Selector, cut_off: Option<CutOff>) {
        let revocation =
            Revocation { selector: selector.clone(), reason: "left".into(), time_us: 0, by_uid: 0 };
        self.standings.revocations.know(&revocation).unwrap();
        let notified = tell(&self.live, [(&selector, "left")]);
        if let Some(CutOff::Told) = cut_off {
            let path = self.dir.path().join("revocations.jsonl");
            let line = serde_json::to_string(&revocation).unwrap();
            let half = fs::read_to_string(&path).unwrap() + line.split_at(line.len() / 2).0;
            fs::write(&path, half).unwrap();
            return self.restart();
        }
        self.standings.revocations.keep(&revocation).unwrap();
        self.expect_ended(&selector);
        self.kept.push(selector);
        if let Some(CutOff::Kept) = cut_off {
            return self.restart();
        }
        self.keep(&notified);
    }

    /// As `Registry::relist` does it.
    fn read(&mut self, cut_off: bool) {
        let entry = |selector: &Selector| Listed { selector: selector.clone(), reason: "listed".into() };
        let listed: Vec<Listed> = self.file.iter().map(entry).collect();
        self.standings.revocations.replace_listed(&listed);
        self.read = self.file.clone();
        let notified = tell(&self.live, listed.iter().map(|entry| (&entry.selector, entry.reason.as_str())));
        for selector in self.file.clone() {
            self.expect_ended(&selector);
        }
        if cut_off {
            return self.restart();
        }
        self.keep(&notified);
    }

    fn keep(&self, notified: &[Notified]) {
        for notified in notified.iter().filter(|notified| notified.newly_ended) {
            self.standings.keep_ended(&self.live, &notified.job, "ended");
        }
    }

    /// As `Registry::adopt` does it, followed by the first look at the revocation file.
    fn restart(&mut self) {
        self.standings = standings(self.dir.path());
        let alive: BTreeSet<u64> = std::mem::take(&mut self.live).into_keys().collect();
        for (id, kept) in self.standings.store.all().unwrap() {
            assert!(alive.contains(&id.0), "a job that has ended is kept");
            let (job, ended) = self.standings.restore(id, kept);
            let job = Arc::new(job);
            self.live.insert(id.0, Arc::clone(&job));
            if let Some(reason) = ended {
                self.standings.keep_ended(&self.live, &job, &reason);
            }
        }
        for id in self.begun.iter().copied().map(Id) {
            let job = unidentified(id);
            if let Some(reason) = self.standings.of_unidentified(id) {
                job.end_access(&reason);
            }
            self.live.insert(id.0, Arc::new(job));
        }
        assert_eq!(self.live.keys().copied().collect::<BTreeSet<_>>(), alive, "not every job was adopted");
        self.read(false);
    }

    fn prune(&mut self) {
        let path = self.dir.path().join("revocations.jsonl");
        let of_jobs = |line: &&str| line.contains(r#"{"job":"#);
        let text = fs::read_to_string(&path).unwrap();
        fs::write(&path, text.lines().filter(of_jobs).map(|line| line.to_owned() + "\n").collect::<String>())
            .unwrap();
        self.kept.retain(|selector| matches!(selector, Selector::Job(_)));
        self.restart();
    }

    fn end(&mut self, index: Index) {
        if let Some(job) = (!self.jobs.is_empty()).then(|| index.get(&self.jobs).id) {
            self.live.remove(&job.0);
            self.begun.remove(&job.0);
            self.standings.store.forget(job);
        }
    }

    fn check(&self, expected: &Expected, now: i64) {
        if let Some(job) = self.live.get(&expected.id.0) {
            assert_eq!(job.standing_at(now).word(), expected.word(now), "at {now}");
        }
    }

    fn take(&mut self, step: &Step) {
        match step {
            Step::Enrol { subject, expires, outlives } => self.enrol(*subject, *expires, *outlives),
            Step::Begin => self.begin(),
            Step::Revoke { whom, cut_off } => self.revoke(self.selector(whom), *cut_off),
            Step::Edit(entries) => self.file = entries.iter().map(|whom| self.selector(whom)).collect(),
            Step::Read { cut_off } => self.read(*cut_off),
            Step::Restart => self.restart(),
            Step::Prune => self.prune(),
            Step::End(job) => self.end(*job),
            Step::Ask(_, _) if self.jobs.is_empty() => {}
            Step::Ask(job, now) => self.check(job.get(&self.jobs), *now),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 10_000,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn no_order_of_news_and_no_restart_gives_access_back(
        steps in prop::collection::vec((step(), prop::bool::weighted(0.2)), 1..24),
    ) {
        let mut host = Host::new();
        for (step, twice) in &steps {
            for _ in 0..=usize::from(*twice) {
                host.take(step);
            }
        }
        host.restart();
        for job in &host.jobs {
            for now in [-1, 100, 200, 1_000] {
                host.check(job, now);
            }
        }
    }
}
