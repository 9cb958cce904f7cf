//! Followed processes: their tags, and the bound on how many there are.

use std::{collections::HashSet, fs, io};

use agent_abi::{EXECS_UNKNOWN, TaskTag, word};

use super::{
    super::{cgroups::cgroup_contains, error::KernelError, process::exists},
    tables::{Kernel, locked},
};
use crate::ids::Id;

impl Kernel {
    /// Whether connections of `pid` pass the attached programs. Moves the process into their cgroup if the
    /// configuration says so.
    pub fn covers(&self, pid: u32) -> io::Result<bool> {
        if cgroup_contains(&self.cgroup, pid)? {
            return Ok(true);
        }
        if !self.move_jobs {
            return Ok(false);
        }
        fs::write(self.cgroup.join("cgroup.procs"), pid.to_string())?;
        cgroup_contains(&self.cgroup, pid)
    }

    /// How many processes may be followed at once, over all jobs.
    pub fn processes_max(&self) -> usize {
        self.processes_max as usize
    }

    /// Puts a process into a job, at a node that runs an image. Refused if it would be one followed process
    /// too many.
    pub fn tag(&self, tgid: u32, job: u64, node: u64, image: u64) -> Result<(), KernelError> {
        let tag = TaskTag { job, node, image, born_ns: 0, execs: EXECS_UNKNOWN, reserved: 0 };
        if self.tag_of(tgid).is_none() {
            // This races with the kernel side's atomic additions and may undo one. `recount` corrects that,
            // and counts a process that is not tagged after all.
            let mut words = locked(&self.words);
            let tasks = words.get(&word::TASKS, 0).map_err(KernelError::map("read", "WORDS"))?;
            if tasks as i64 >= i64::from(self.processes_max) {
                return Err(KernelError::TooManyProcesses { most: self.processes_max });
            }
            words.set(word::TASKS, tasks.wrapping_add(1), 0).map_err(KernelError::map("write", "WORDS"))?;
        }
        self.marks.set(tgid);
        let tagged = locked(&self.tasks).insert(tgid, tag, 0).map_err(KernelError::map("add to", "TASKS"));
        // Again: a process that ended in between took its mark with it, and an entry without a mark is never
        // removed.
        self.marks.set(tgid);
        tagged
    }

    /// Takes a process out of its job: for an enrolment that did not complete, before the job's program ran.
    pub fn untag(&self, tgid: u32) {
        let _ = locked(&self.tasks).remove(&tgid);
        let _ = self.recount();
    }

    /// Sets the count of followed processes from the map itself. An addition that the kernel side makes
    /// meanwhile may be lost, which shifts the bound by one until the next time.
    pub fn recount(&self) -> Result<(), KernelError> {
        // A set: a walk starts over when the entry that it stands at is removed, and sees some entries twice.
        let tasks: HashSet<u32> = locked(&self.tasks).keys().filter_map(Result::ok).collect();
        let tasks = tasks.len() as u64;
        locked(&self.words).set(word::TASKS, tasks, 0).map_err(KernelError::map("write", "WORDS"))
    }

    /// How often a process that is not followed has forked although a rule by user or cgroup matches it.
    pub fn matched_forks(&self) -> u64 {
        locked(&self.words).get(&word::MATCHED_FORKS, 0).unwrap_or_default()
    }

    /// The tag of a process; `None` if it is not followed.
    pub fn tag_of(&self, tgid: u32) -> Option<TaskTag> {
        locked(&self.tasks).get(&tgid, 0).ok()
    }

    /// How many processes have tags, stale ones included.
    pub(super) fn tag_count(&self) -> usize {
        locked(&self.tasks).keys().filter(Result::is_ok).count()
    }

    /// Every followed process. A process that ended just before the agent tagged it leaves a stale tag: those
    /// are skipped here, and PID reuse overwrites or removes them.
    pub fn tasks(&self) -> Vec<(u32, TaskTag)> {
        let tasks: Vec<(u32, TaskTag)> = locked(&self.tasks).iter().filter_map(Result::ok).collect();
        tasks.into_iter().filter(|(tgid, tag)| tag.born_ns != 0 || exists(*tgid)).collect()
    }

    /// Calls `visit` with each process of these jobs as soon as the walk reaches it, and with a test whether
    /// the PID still belongs to one of these jobs.
    pub fn visit(&self, jobs: &HashSet<Id>, mut visit: impl FnMut(u32, &dyn Fn() -> bool)) {
        let tasks = locked(&self.tasks);
        let in_jobs = |tag: TaskTag| jobs.contains(&Id(tag.job));
        for (tgid, tag) in tasks.iter().filter_map(Result::ok) {
            if in_jobs(tag) {
                visit(tgid, &|| tasks.get(&tgid, 0).is_ok_and(in_jobs));
            }
        }
    }
}
