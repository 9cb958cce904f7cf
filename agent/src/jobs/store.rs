//! Keeps live jobs on disk for the next agent: the part of a job that the kernel side can't hold.
//!
//! Each job has a file, `jobs/ID.json` in the state directory, from before its first process is tagged until
//! its last one has ended. The files have to outlive the agent but not the host, as no process does, so they
//! are not synced.

use std::{
    fs,
    io::{self, ErrorKind},
    path::{Path, PathBuf},
};

use agent_core::credential::Credential;
use serde::{Deserialize, Serialize};

use super::job::Job;
use crate::{files::replace_unsynced, ids::Id};

/// Version of the files.
const VERSION: u32 = 1;

/// A job with a credential, as it is kept.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeptJob {
    v: u32,
    id: String,
    /// The name that its starter gave it.
    pub name: String,
    /// Who it acts for.
    pub credential: Credential,
    /// Host PID of its root process.
    pub root_pid: u32,
    /// Cookie of the network namespace its root was in.
    pub netns: u64,
    /// Why its access has ended, if it has: no later agent may grant it again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revoked: Option<String>,
}

impl KeptJob {
    /// A live job, which has this credential, as it is to be kept.
    pub fn of(job: &Job, credential: &Credential) -> Self {
        Self {
            v: VERSION,
            id: job.id.to_string(),
            name: job.name.clone(),
            credential: credential.clone(),
            root_pid: job.root_pid,
            netns: job.netns.get().copied().unwrap_or_default(),
            revoked: None,
        }
    }

    /// The live job. [`KeptJob::revoked`] is left to the caller.
    pub(super) fn into_job(self, id: Id) -> Job {
        Job::new(id, self.name, Some(self.credential), self.root_pid, Some(self.netns))
    }
}

/// The directory of kept jobs.
pub struct JobStore {
    dir: PathBuf,
}

impl JobStore {
    /// Opens `jobs` in the state directory.
    pub fn open(state_dir: &Path) -> io::Result<Self> {
        let dir = state_dir.join("jobs");
        fs::create_dir_all(&dir)?;
        Ok(Self { dir })
    }

    /// Keeps a job. When this returns, the file survives this process.
    pub fn keep(&self, job: &KeptJob) -> io::Result<()> {
        let text = serde_json::to_vec(job)?;
        replace_unsynced(&self.dir.join(format!("{}.json", job.id)), &text, 0o600)
    }

    /// Removes a job's file, if there is one.
    pub fn forget(&self, job: Id) {
        match fs::remove_file(self.dir.join(format!("{job}.json"))) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                tracing::warn!(%error, %job, "cannot remove the file of a job that has ended");
            }
            _ => {}
        }
    }

    /// Every kept job. A file that can't be read is logged and left out: the processes of its job stay shut
    /// off. Files that an earlier agent left half written are removed; only an agent that starts calls this.
    pub fn all(&self) -> io::Result<Vec<(Id, KeptJob)>> {
        let mut jobs = Vec::new();
        for entry in fs::read_dir(&self.dir)? {
            let path = entry?.path();
            match path.extension().and_then(|extension| extension.to_str()) {
                Some("json") => {}
                Some("new") => {
                    fs::remove_file(&path)?;
                    continue;
                }
                _ => continue,
            }
            match read(&path) {
                Ok(job) => jobs.push(job),
                Err(error) => {
                    let path = path.display();
                    tracing::error!(%error, %path, "cannot read a kept job; its processes stay shut off");
                }
            }
        }
        Ok(jobs)
    }
}

/// Reads one file.
fn read(path: &Path) -> io::Result<(Id, KeptJob)> {
    let job: KeptJob = serde_json::from_slice(&fs::read(path)?)?;
    if job.v != VERSION {
        return Err(io::Error::other(format!("version {} is not {VERSION}", job.v)));
    }
    Ok((job.id.parse().map_err(io::Error::other)?, job))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job(id: Id) -> KeptJob {
        let credential = Credential {
            issuer: "https://issuer".into(),
            subject: "dana".into(),
            groups: vec!["contractors".into()],
            claims: [("ref".to_owned(), "main".to_owned())].into(),
            expires_unix: 5,
            acts_until_unix: 7,
        };
        KeptJob {
            v: VERSION,
            id: id.to_string(),
            name: "nightly".into(),
            credential,
            root_pid: 42,
            netns: 7,
            revoked: None,
        }
    }

    #[test]
    fn a_kept_job_is_read_back_unchanged_until_it_is_forgotten() {
        let dir = tempfile::tempdir().unwrap();
        let store = JobStore::open(dir.path()).unwrap();
        store.keep(&job(Id(9))).unwrap();
        assert_eq!(JobStore::open(dir.path()).unwrap().all().unwrap(), [(Id(9), job(Id(9)))]);
        store.forget(Id(9));
        store.forget(Id(9));
        assert!(store.all().unwrap().is_empty());
    }

    #[test]
    fn an_unreadable_file_is_left_out_and_a_half_written_one_removed() {
        let dir = tempfile::tempdir().unwrap();
        let store = JobStore::open(dir.path()).unwrap();
        store.keep(&job(Id(9))).unwrap();
        fs::write(dir.path().join("jobs/torn.json"), "{").unwrap();
        fs::write(dir.path().join("jobs/0f3k2m9v7qwxy.new"), "{").unwrap();
        assert_eq!(store.all().unwrap().len(), 1);
        assert!(!dir.path().join("jobs/0f3k2m9v7qwxy.new").exists());
    }
}
