//! Access that was ended, kept over restarts: a revoked subject can't come back the next night.

use std::{
    collections::{HashMap, HashSet},
    fs::OpenOptions,
    io::Write,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
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
    /// Every selector that means this job; `job` is none for a credential that has no job yet, and `credential` for a job
    /// that has shown none.
    pub fn meaning(job: Option<Id>, credential: Option<&Credential>) -> impl Iterator<Item = Self> {
        let subject = credential.map(|credential| Self::Subject(credential.subject.clone()));
        let claims = credential.into_iter().flat_map(|credential| &credential.claims);
        let claims = claims.map(|(key, value)| Self::Claim { key: key.clone(), value: value.clone() });
        job.map(|job| Self::Job(job.to_string())).into_iter().chain(subject).chain(claims)
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
    #[error(
        "{REVOCATIONS_MAX} revocations are kept already: remove old ones from the file and restart the agent"
    )]
    Full,
}

/// The revocations in force: those kept here, one JSON object a line, synced before anybody is told of it; and those of
/// the list that others keep. They are known apart from the file: who asks for them waits for no disk.
pub struct RevocationStore {
    path: PathBuf,
    /// One at a time writes to the file.
    keeping: Mutex<()>,
    kept: Mutex<HashMap<Selector, String>>,
    listed: Mutex<HashMap<Selector, String>>,
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
        let mut kept = HashMap::new();
        for (index, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
            let Revocation { selector, reason, .. } = serde_json::from_str(line).map_err(|error| {
                RevocationError::Malformed { path: path.clone(), line: index + 1, reason: error.to_string() }
            })?;
            kept.entry(selector).or_insert(reason);
        }
        Ok(Self { path, keeping: Mutex::new(()), kept: Mutex::new(kept), listed: Mutex::default() })
    }

    /// Puts a revocation in force until the agent ends; whether it was not before. The first reason stays.
    pub fn know(&self, revocation: &Revocation) -> Result<bool, RevocationError> {
        let mut kept = locked(&self.kept);
        if kept.contains_key(&revocation.selector) {
            return Ok(false);
        }
        if kept.len() >= REVOCATIONS_MAX {
            return Err(RevocationError::Full);
        }
        kept.insert(revocation.selector.clone(), revocation.reason.clone());
        Ok(true)
    }

    /// Keeps a revocation for later agents: it is on disk when this returns.
    pub fn keep(&self, revocation: &Revocation) -> Result<(), RevocationError> {
        let failed = |source| RevocationError::File { path: self.path.clone(), source };
        let line = serde_json::to_string(revocation).map_err(|error| failed(error.into()))?;
        let _one = locked(&self.keeping);
        // By its name: somebody may have put another file there, to remove old ones.
        let mut file =
            OpenOptions::new().create(true).read(true).append(true).open(&self.path).map_err(failed)?;
        let whole = file.metadata().map_err(failed)?.len();
        let mut last = [b'\n'];
        if whole > 0 {
            file.read_exact_at(&mut last, whole - 1).map_err(failed)?;
        }
        let before = if last == *b"\n" { "" } else { "\n" };
        if let Err(error) =
            file.write_all(format!("{before}{line}\n").as_bytes()).and_then(|()| file.sync_data())
        {
            // Half a line would make the next one unreadable.
            file.set_len(whole).map_err(failed)?;
            return Err(failed(error));
        }
        Ok(())
    }

    /// Puts a list in the place of the last one; answers what is new in it.
    pub fn list(&self, listed: &[Listed]) -> HashSet<Selector> {
        let entries = listed.iter().map(|entry| (entry.selector.clone(), entry.reason.clone()));
        let next: HashMap<Selector, String> = entries.collect();
        let before = std::mem::replace(&mut *locked(&self.listed), next.clone());
        next.into_keys().filter(|selector| !before.contains_key(selector)).collect()
    }

    /// Why the access of a job, or of a credential, has ended, if it has: a credential that begins a job has none yet, and
    /// a job that a rule began has no credential.
    pub fn find(&self, job: Option<Id>, credential: Option<&Credential>) -> Option<String> {
        let meaning: Vec<Selector> = Selector::meaning(job, credential).collect();
        [&self.kept, &self.listed].into_iter().find_map(|ended| {
            let ended = locked(ended);
            meaning.iter().find_map(|selector| ended.get(selector).cloned())
        })
    }
}

/// Nothing in here is half done that could grant anything.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
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

    fn add(store: &RevocationStore, revocation: &Revocation) -> Result<(), RevocationError> {
        store.know(revocation)?;
        store.keep(revocation)
    }

    #[test]
    fn a_revocation_survives_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let store = RevocationStore::open(dir.path()).unwrap();
        add(&store, &revocation(Selector::Subject("dana".into()))).unwrap();
        drop(store);
        let store = RevocationStore::open(dir.path()).unwrap();
        assert!(store.find(None, Some(&credential("dana"))).is_some());
        assert!(store.find(None, Some(&credential("erin"))).is_none());
    }

    #[test]
    fn a_claim_selects_by_its_whole_value() {
        let means = |value: &str| {
            let selector = Selector::Claim { key: "team".into(), value: value.into() };
            Selector::meaning(None, Some(&credential("x"))).any(|meaning| meaning == selector)
        };
        assert!(means("red") && !means("re") && !means("reds"));
    }

    #[test]
    fn a_torn_last_line_is_dropped_and_a_malformed_one_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("revocations.jsonl");
        let whole = serde_json::to_string(&revocation(Selector::Subject("dana".into()))).unwrap();
        std::fs::write(&path, format!("{whole}\n{{\"selec")).unwrap();
        let store = RevocationStore::open(dir.path()).unwrap();
        add(&store, &revocation(Selector::Subject("erin".into()))).unwrap();
        drop(store);
        let store = RevocationStore::open(dir.path()).unwrap();
        assert!(
            store.find(None, Some(&credential("dana"))).is_some()
                && store.find(None, Some(&credential("erin"))).is_some()
        );
        std::fs::write(&path, "{}\n").unwrap();
        assert!(RevocationStore::open(dir.path()).is_err());
    }

    #[test]
    fn what_is_kept_after_the_file_was_replaced_is_in_the_new_one() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("revocations.jsonl");
        let store = RevocationStore::open(dir.path()).unwrap();
        add(&store, &revocation(Selector::Subject("dana".into()))).unwrap();
        // As `sed -i` does it, and an editor that ends no last line.
        let next = dir.path().join("next");
        std::fs::write(&next, serde_json::to_string(&revocation(Selector::Subject("erin".into()))).unwrap())
            .unwrap();
        std::fs::rename(next, &path).unwrap();
        add(&store, &revocation(Selector::Subject("finn".into()))).unwrap();
        let store = RevocationStore::open(dir.path()).unwrap();
        let ended = |subject| store.find(None, Some(&credential(subject))).is_some();
        assert_eq!(["dana", "erin", "finn"].map(ended), [false, true, true]);
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
        add(&store, &revocation(Selector::Subject("last".into()))).unwrap();
        let beyond = add(&store, &revocation(Selector::Subject("beyond".into())));
        assert!(matches!(beyond, Err(RevocationError::Full)), "{beyond:?}");
        assert!(store.find(None, Some(&credential("1"))).is_some());
        assert!(store.find(None, Some(&credential("last"))).is_some());
        assert!(store.find(None, Some(&credential("beyond"))).is_none());
    }
}
