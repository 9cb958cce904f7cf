//! Access that was ended, kept over restarts: a revoked subject can't come back the next night.

use std::{
    fs::{File, OpenOptions},
    io::Write,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use agent_core::credential::Credential;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::ids::Id;

/// How many revocations are kept; one more is refused rather than an old one forgotten.
pub const REVOCATIONS_MAX: usize = 65_536;

/// Whose access ends.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Selector {
    /// One job.
    Job(String),
    /// Every job of a subject, now and later.
    Subject(String),
    /// Every job whose credential has this claim, now and later.
    Claim {
        /// The claim.
        key: String,
        /// Its value.
        value: String,
    },
}

impl Selector {
    /// Whether it means this job; `job` is none for a credential that has no job yet, and `credential` for a job that has
    /// shown none.
    pub fn matches(&self, job: Option<Id>, credential: Option<&Credential>) -> bool {
        let of = |means: &dyn Fn(&Credential) -> bool| credential.is_some_and(means);
        match self {
            Self::Job(id) => job.is_some_and(|job| job.to_string() == *id),
            Self::Subject(subject) => of(&|credential| credential.subject == *subject),
            Self::Claim { key, value } => of(&|credential| credential.claims.get(key) == Some(value)),
        }
    }
}

/// One revocation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Revocation {
    /// Whose access ended.
    pub selector: Selector,
    /// Why.
    pub reason: String,
    /// When, microseconds since the Unix epoch.
    pub time_us: u64,
    /// User id of who said so.
    pub by_uid: u32,
}

/// An entry of the list that others keep.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Listed {
    /// Whose access has ended.
    pub selector: Selector,
    /// Why.
    pub reason: String,
}

/// Why a revocation isn't kept.
#[derive(Debug, Error)]
pub enum RevocationError {
    /// The file can't be used.
    #[error("cannot use the revocations in {path}: {source}")]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A line isn't a revocation: somebody's access may have been ended by it, so the agent won't start.
    #[error("{path}:{line}: {reason}")]
    Malformed {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// Why.
        reason: String,
    },
    /// [`REVOCATIONS_MAX`] is reached.
    #[error("{REVOCATIONS_MAX} revocations are kept already: remove old ones from the file")]
    Full,
}

/// The revocations in force: those kept here, one JSON object a line, synced before anybody is told of it; and those of
/// the list that others keep.
pub struct RevocationStore {
    path: PathBuf,
    inner: Mutex<(File, Vec<Revocation>)>,
    listed: Mutex<Vec<Listed>>,
}

impl RevocationStore {
    /// Opens `revocations.jsonl` in the state directory.
    pub fn open(state_dir: &Path) -> Result<Self, RevocationError> {
        let path = state_dir.join("revocations.jsonl");
        let failed = |source| RevocationError::File { path: path.clone(), source };
        let mut text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
            Err(error) => return Err(failed(error)),
        };
        let file = OpenOptions::new().create(true).append(true).open(&path).map_err(failed)?;
        if !text.is_empty() && !text.ends_with('\n') {
            // A torn last line was never acknowledged to anybody.
            let whole = text.rfind('\n').map_or(0, |end| end + 1);
            text.truncate(whole);
            file.set_len(whole as u64).map_err(failed)?;
        }
        let mut kept = Vec::new();
        for (index, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
            kept.push(serde_json::from_str(line).map_err(|error| RevocationError::Malformed {
                path: path.clone(),
                line: index + 1,
                reason: error.to_string(),
            })?);
        }
        Ok(Self { path, inner: Mutex::new((file, kept)), listed: Mutex::default() })
    }

    /// Puts a revocation in force and keeps it: it is on disk when this returns. After an error it is in force
    /// until the agent ends, but for [`RevocationError::Full`].
    pub fn add(&self, revocation: &Revocation) -> Result<(), RevocationError> {
        let failed = |source| RevocationError::File { path: self.path.clone(), source };
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let (file, kept) = &mut *inner;
        if kept.len() >= REVOCATIONS_MAX {
            return Err(RevocationError::Full);
        }
        let mut line = serde_json::to_vec(revocation).map_err(|error| failed(error.into()))?;
        line.push(b'\n');
        kept.push(revocation.clone());
        let whole = file.metadata().map_err(failed)?.len();
        if let Err(error) = file.write_all(&line).and_then(|()| file.sync_data()) {
            // Half a line would make the next one unreadable.
            file.set_len(whole).map_err(failed)?;
            return Err(failed(error));
        }
        Ok(())
    }

    /// Puts a list in the place of the last one, and answers that one.
    pub fn list(&self, listed: Vec<Listed>) -> Vec<Listed> {
        std::mem::replace(&mut *self.listed.lock().unwrap_or_else(PoisonError::into_inner), listed)
    }

    /// Why the access of a job that has no credential has ended, if it has.
    pub fn find_job(&self, job: Id) -> Option<String> {
        let inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let meant = |revocation: &&Revocation| revocation.selector.matches(Some(job), None);
        inner.1.iter().find(meant).map(|revocation| revocation.reason.clone())
    }

    /// Why a credential's access has ended, if it has.
    pub fn find(&self, job: Option<Id>, credential: &Credential) -> Option<String> {
        let inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let kept = inner.1.iter().find(|revocation| revocation.selector.matches(job, Some(credential)));
        if let Some(revocation) = kept {
            return Some(revocation.reason.clone());
        }
        let listed = self.listed.lock().unwrap_or_else(PoisonError::into_inner);
        let found = listed.iter().find(|entry| entry.selector.matches(job, Some(credential)));
        found.map(|entry| entry.reason.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn credential(subject: &str) -> Credential {
        Credential {
            issuer: "https://issuer".into(),
            subject: subject.into(),
            groups: vec![],
            claims: [("team".to_owned(), "red".to_owned())].into(),
            expires_unix: 0,
            acts_until_unix: 0,
        }
    }

    fn revocation(selector: Selector) -> Revocation {
        Revocation { selector, reason: "left".into(), time_us: 1, by_uid: 0 }
    }

    #[test]
    fn a_revocation_survives_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let store = RevocationStore::open(dir.path()).unwrap();
        store.add(&revocation(Selector::Subject("dana".into()))).unwrap();
        drop(store);
        let store = RevocationStore::open(dir.path()).unwrap();
        assert!(store.find(None, &credential("dana")).is_some());
        assert!(store.find(None, &credential("erin")).is_none());
    }

    #[test]
    fn a_claim_selects_by_its_whole_value() {
        let selector = Selector::Claim { key: "team".into(), value: "red".into() };
        assert!(selector.matches(None, Some(&credential("x"))));
        assert!(
            !Selector::Claim { key: "team".into(), value: "re".into() }.matches(None, Some(&credential("x")))
        );
    }

    #[test]
    fn a_torn_last_line_is_dropped_and_a_malformed_one_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("revocations.jsonl");
        let whole = serde_json::to_string(&revocation(Selector::Subject("dana".into()))).unwrap();
        std::fs::write(&path, format!("{whole}\n{{\"selec")).unwrap();
        let store = RevocationStore::open(dir.path()).unwrap();
        store.add(&revocation(Selector::Subject("erin".into()))).unwrap();
        drop(store);
        let store = RevocationStore::open(dir.path()).unwrap();
        assert!(
            store.find(None, &credential("dana")).is_some()
                && store.find(None, &credential("erin")).is_some()
        );
        std::fs::write(&path, "{}\n").unwrap();
        assert!(RevocationStore::open(dir.path()).is_err());
    }

    #[test]
    fn one_more_than_are_kept_is_refused_and_forgets_none() {
        let dir = tempfile::tempdir().unwrap();
        let line = |subject: usize| {
            let revocation = revocation(Selector::Subject(subject.to_string()));
            serde_json::to_string(&revocation).unwrap() + "\n"
        };
        let lines: String = (1..REVOCATIONS_MAX).map(line).collect();
        std::fs::write(dir.path().join("revocations.jsonl"), lines).unwrap();
        let store = RevocationStore::open(dir.path()).unwrap();
        store.add(&revocation(Selector::Subject("last".into()))).unwrap();
        let beyond = store.add(&revocation(Selector::Subject("beyond".into())));
        assert!(matches!(beyond, Err(RevocationError::Full)), "{beyond:?}");
        assert!(store.find(None, &credential("1")).is_some());
        assert!(store.find(None, &credential("last")).is_some());
        assert!(store.find(None, &credential("beyond")).is_none());
    }
}
