//! Jobs as the kernel side knows them: their share of the maps, whether they are shut off, and which ones
//! rules began.

use std::collections::HashSet;

use agent_abi::{JOB_SHUT_OFF, JobControl, Unidentified};

use super::{
    super::error::KernelError,
    tables::{Kernel, locked},
};
use crate::ids::Id;

impl Kernel {
    /// Notes that so many nodes and images of a job were removed: the job may hold as many more.
    pub fn give_back(&self, job: u64, nodes: u64, images: u64) {
        let _ = self.change_control(job, |control| {
            control.nodes += nodes;
            control.images += images;
        });
    }

    /// Shuts a job off for what the kernel side allows without asking the agent. False if it could not be
    /// told.
    pub fn shut_off(&self, job: u64) -> bool {
        self.change_control(job, |control| control.flags |= JOB_SHUT_OFF)
    }

    fn change_control(&self, job: u64, change: impl FnOnce(&mut JobControl)) -> bool {
        let mut jobs = locked(&self.jobs);
        let mut control = jobs.get(&job, 0).unwrap_or_default();
        change(&mut control);
        if let Err(error) = jobs.insert(job, control, 0) {
            tracing::error!(%error, job = %Id(job), "the kernel side can't be told about a job");
            return false;
        }
        true
    }

    /// Every job that the kernel side counts entries of, or that the agent has told it about.
    pub fn jobs(&self) -> HashSet<u64> {
        let uses: HashSet<u64> = locked(&self.uses).keys().filter_map(Result::ok).collect();
        locked(&self.jobs).keys().filter_map(Result::ok).chain(uses).collect()
    }

    /// Removes the counts of a job that holds nothing any more.
    pub fn forget_job(&self, job: u64) {
        let _ = locked(&self.uses).remove(&job);
        let _ = locked(&self.jobs).remove(&job);
    }

    /// How an unidentified job began: one that a rule began and that has shown no token. `None` for any other
    /// job.
    pub fn unidentified(&self, job: u64) -> Option<Unidentified> {
        locked(&self.unidentified).get(&job, 0).ok()
    }

    /// Every unidentified job.
    pub fn all_unidentified(&self) -> Vec<(u64, Unidentified)> {
        locked(&self.unidentified).iter().filter_map(Result::ok).collect()
    }

    /// Notes that a rule began a job.
    pub fn set_unidentified(&self, job: u64, begun: Unidentified) -> Result<(), KernelError> {
        locked(&self.unidentified).insert(job, begun, 0).map_err(KernelError::map("add to", "UNIDENTIFIED"))
    }

    /// Forgets an unidentified job.
    pub fn forget_unidentified(&self, job: u64) {
        let _ = locked(&self.unidentified).remove(&job);
    }
}
