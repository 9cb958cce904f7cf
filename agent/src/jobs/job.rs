//! A job: one enrolment of a root process, and its open sessions.

use std::{
    collections::HashMap,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use agent_core::{
    audit::record::JobRef,
    credential::Credential,
    standing::{Grounds, Standing, TokenTerm},
};
use tokio::sync::{Semaphore, watch};

use crate::{clock::unix_now, ids::Id, kernel::Kernel};

/// Live jobs by their ids.
pub(super) type LiveJobs = HashMap<u64, Arc<Job>>;

/// How many KiB of long messages a job's sessions hold at the same time; a further message waits in its
/// client's socket.
const ROOM_KIB: usize = 64 << 10;

/// One enrolment of a root process.
pub struct Job {
    /// Its id.
    pub id: Id,
    /// The name that its starter gave it; for a job that a rule began the rule's name.
    pub name: String,
    /// Who it acts for; `None` for an unidentified job: one that a rule began and that has shown no token.
    pub credential: Option<Credential>,
    /// Host PID of its root process.
    pub root_pid: u32,
    /// Cookie of the network namespace that the agent serves for it: its root's. Unset for a job whose root
    /// ended before the agent heard of the job, until another of its processes is found.
    pub netns: OnceLock<u64>,
    /// Open sessions.
    pub sessions: AtomicUsize,
    /// The job's turn for work that is too long for a session's thread.
    pub turn: Arc<Semaphore>,
    /// Room for the long messages of its sessions, in KiB.
    pub room: Arc<Semaphore>,
    grounds: watch::Sender<Grounds>,
    /// The kernel side knows that the job is shut off.
    shut_off: AtomicBool,
}

impl Job {
    /// A job under a credential, or without one.
    pub(super) fn new(
        id: Id,
        name: String,
        credential: Option<Credential>,
        root_pid: u32,
        netns: Option<u64>,
    ) -> Self {
        let grounds = match &credential {
            Some(Credential { expires_unix, acts_until_unix, .. }) => {
                Grounds::of(TokenTerm { expires_unix: *expires_unix, acts_until_unix: *acts_until_unix })
            }
            None => Grounds::unidentified(),
        };
        Self {
            id,
            name,
            credential,
            root_pid,
            netns: netns.map(OnceLock::from).unwrap_or_default(),
            sessions: AtomicUsize::new(0),
            turn: Arc::new(Semaphore::new(1)),
            room: Arc::new(Semaphore::new(ROOM_KIB)),
            grounds: watch::channel(grounds).0,
            shut_off: AtomicBool::new(false),
        }
    }

    /// Follows what the job's standing rests on. Subscribe before asking for its present value.
    pub fn grounds(&self) -> watch::Receiver<Grounds> {
        self.grounds.subscribe()
    }

    /// Its standing now.
    pub fn standing(&self) -> Standing {
        self.standing_at(unix_now())
    }

    /// Its standing at a moment, as far as is known now.
    pub(super) fn standing_at(&self, now_unix: i64) -> Standing {
        self.grounds.borrow().at(now_unix)
    }

    /// Ends its access, and tells everybody who follows its grounds. True if it had not ended before;
    /// otherwise the first reason stays.
    pub(super) fn end_access(&self, reason: &str) -> bool {
        self.grounds.send_if_modified(|grounds| grounds.revoke(&reason.into()))
    }

    /// Shuts it off in the kernel side, too, which allows some things without asking the agent. Done once.
    pub(super) fn shut_off(&self, kernel: &Kernel) {
        if !self.shut_off.load(Ordering::Acquire) && kernel.shut_off(self.id.0) {
            self.shut_off.store(true, Ordering::Release);
        }
    }

    /// The job as the trail names it.
    pub fn to_ref<'a>(&'a self, id: &'a str) -> JobRef<'a> {
        JobRef { id, name: &self.name }
    }
}

/// One of a job's open sessions. While it lives the job stays known, so that revocations reach the session.
pub struct SessionSlot {
    job: Arc<Job>,
    /// How many sessions the job had open before this one.
    pub before: usize,
}

impl SessionSlot {
    /// Counts one more open session, until this is dropped.
    pub(super) fn take(job: &Arc<Job>) -> Self {
        let before = job.sessions.fetch_add(1, Ordering::AcqRel);
        Self { job: Arc::clone(job), before }
    }

    /// The job.
    pub fn job(&self) -> &Arc<Job> {
        &self.job
    }
}

impl Drop for SessionSlot {
    fn drop(&mut self) {
        self.job.sessions.fetch_sub(1, Ordering::AcqRel);
    }
}
