//! What a search remembers while it reads: the live jobs, their processes, and their open sessions. An ended
//! job and a closed session are forgotten, so that memory follows what was alive at one time and not the
//! trail's length.

use std::collections::HashMap;
use std::rc::Rc;

use super::error::TrailError;
use super::row::{Ancestor, Credential, Job, JobRow, Origin, Process, ProcessRow, SessionRow, Upstream};

/// Jobs, processes and sessions remembered at one time.
const ENTRIES_MAX: usize = 2_000_000;
/// No lineage is followed further: a parent that is its own ancestor must not hang a search.
const ANCESTRY_MAX: usize = 65_536;

#[derive(Default)]
pub(super) struct Index {
    jobs: HashMap<String, KnownJob>,
    sessions: HashMap<String, KnownSession>,
    entries: usize,
}

struct KnownJob {
    job: Option<Job>,
    credential: Option<Credential>,
    processes: HashMap<u64, ProcessRow>,
}

struct KnownSession {
    job: String,
    process: u64,
    upstream: Upstream,
    /// Made at the session's first decision.
    origin: Option<Rc<Origin>>,
}

impl Index {
    pub(super) fn job(&mut self, row: JobRow) -> Result<(), TrailError> {
        if row.state == "ended" {
            if let Some(known) = self.jobs.remove(&row.job.id) {
                self.entries -= 1 + known.processes.len();
            }
            return Ok(());
        }
        let known = self.known_job(&row.job.id)?;
        known.job = Some(row.job);
        known.credential = row.credential;
        Ok(())
    }

    pub(super) fn process(&mut self, row: ProcessRow) -> Result<(), TrailError> {
        let job = row.job.clone();
        if self.known_job(&job)?.processes.insert(row.process, row).is_none() {
            self.count_one()?;
        }
        Ok(())
    }

    pub(super) fn session(&mut self, row: SessionRow) -> Result<(), TrailError> {
        match row {
            SessionRow::Opened { session, job, process, upstream } => {
                let known = KnownSession { job, process, upstream, origin: None };
                if self.sessions.insert(session, known).is_none() {
                    self.count_one()?;
                }
            }
            SessionRow::Closed { session } => {
                if self.sessions.remove(&session).is_some() {
                    self.entries -= 1;
                }
            }
        }
        Ok(())
    }

    /// Where a session comes from and where it goes.
    pub(super) fn origin(&mut self, session: &str) -> Rc<Origin> {
        let Some(known) = self.sessions.get_mut(session) else { return Rc::default() };
        if let Some(origin) = &known.origin {
            return Rc::clone(origin);
        }
        let job = self.jobs.get(&known.job);
        let origin = Rc::new(Origin {
            job: job.and_then(|job| job.job.clone()),
            credential: job.and_then(|job| job.credential.clone()),
            process: job.and_then(|job| connecting_process(&job.processes, known.process)),
            upstream: Some(known.upstream.clone()),
        });
        known.origin = Some(Rc::clone(&origin));
        origin
    }

    /// The job and the credential alone, for records that name a job.
    pub(super) fn origin_of_job(&self, id: &str) -> Rc<Origin> {
        let known = self.jobs.get(id);
        Rc::new(Origin {
            job: known.and_then(|known| known.job.clone()),
            credential: known.and_then(|known| known.credential.clone()),
            ..Origin::default()
        })
    }

    fn known_job(&mut self, id: &str) -> Result<&mut KnownJob, TrailError> {
        if !self.jobs.contains_key(id) {
            self.count_one()?;
        }
        let new = || KnownJob { job: None, credential: None, processes: HashMap::new() };
        Ok(self.jobs.entry(id.to_owned()).or_insert_with(new))
    }

    fn count_one(&mut self) -> Result<(), TrailError> {
        self.entries += 1;
        if self.entries > ENTRIES_MAX { Err(TrailError::TooMany { most: ENTRIES_MAX }) } else { Ok(()) }
    }
}

/// The process with its ancestry. Images that one process went through by exec are one ancestor: the last
/// image before the next process down.
fn connecting_process(processes: &HashMap<u64, ProcessRow>, id: u64) -> Option<Process> {
    let row = processes.get(&id)?;
    let mut ancestry: Vec<Ancestor> = Vec::new();
    let mut next = Some(row);
    for _ in 0..ANCESTRY_MAX {
        let Some(image) = next else { break };
        if ancestry.last().is_none_or(|below| below.pid != image.pid) {
            ancestry.push(Ancestor { pid: image.pid, exe: image.exe.clone(), argv: image.argv.clone() });
        }
        next = image.parent.and_then(|parent| processes.get(&parent));
    }
    ancestry.reverse();
    let ProcessRow { pid, exe, argv, cwd, uid, container, .. } = row;
    Some(Process {
        pid: *pid,
        exe: exe.clone(),
        argv: argv.clone(),
        cwd: cwd.clone(),
        uid: *uid,
        container: container.clone(),
        ancestry,
    })
}
