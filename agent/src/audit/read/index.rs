//! What a search remembers while it reads: live jobs, their processes, and their open sessions. Ended jobs
//! and closed sessions are forgotten, so the memory it takes depends on how much was alive at one time, not
//! on the trail's length.

use std::{collections::HashMap, rc::Rc};

use super::{
    error::ReadError,
    row::{Ancestor, Credential, Job, JobRow, Origin, Process, ProcessRow, SessionRow, Upstream},
};

/// Jobs, processes and sessions remembered at one time.
const ENTRIES_MAX: usize = 2_000_000;
/// Ancestors followed from one process: a forged trail in which a process is its own ancestor must not hang a
/// search.
const ANCESTRY_MAX: usize = 65_536;

/// The live jobs and open sessions at one position of the trail.
#[derive(Default)]
pub(super) struct Index {
    jobs: HashMap<String, KnownJob>,
    sessions: HashMap<String, KnownSession>,
    /// Jobs, processes and sessions in it.
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
    /// Resolved at the session's first decision, and shared by the others.
    origin: Option<Rc<Origin>>,
}

impl Index {
    /// Takes in a `job` record.
    pub(super) fn job(&mut self, row: JobRow) -> Result<(), ReadError> {
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

    /// Takes in a `process` record.
    pub(super) fn process(&mut self, row: ProcessRow) -> Result<(), ReadError> {
        let job = row.job.clone();
        if self.known_job(&job)?.processes.insert(row.process, row).is_none() {
            self.count_one()?;
        }
        Ok(())
    }

    /// Takes in a `session` record.
    pub(super) fn session(&mut self, row: SessionRow) -> Result<(), ReadError> {
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

    /// The job and its credential alone, for records that name a job and no session.
    pub(super) fn origin_of_job(&self, id: &str) -> Rc<Origin> {
        let known = self.jobs.get(id);
        Rc::new(Origin {
            job: known.and_then(|known| known.job.clone()),
            credential: known.and_then(|known| known.credential.clone()),
            ..Origin::default()
        })
    }

    fn known_job(&mut self, id: &str) -> Result<&mut KnownJob, ReadError> {
        if !self.jobs.contains_key(id) {
            self.count_one()?;
        }
        let new = || KnownJob { job: None, credential: None, processes: HashMap::new() };
        Ok(self.jobs.entry(id.to_owned()).or_insert_with(new))
    }

    fn count_one(&mut self) -> Result<(), ReadError> {
        self.entries += 1;
        if self.entries > ENTRIES_MAX { Err(ReadError::TooMany { most: ENTRIES_MAX }) } else { Ok(()) }
    }
}

/// The process with its ancestry. A process that executed several programs is one ancestor, with the last
/// program before the next process down was created.
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
