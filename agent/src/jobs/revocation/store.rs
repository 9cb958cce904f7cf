//! The revocations in force: those made on this host, which are kept on disk, and those of the revocation
//! file.
//!
//! A revocation is in force in memory before it is written, and whoever asks whether access has ended waits
//! for no disk.

use std::{
    collections::{HashMap, HashSet},
    fs::OpenOptions,
    io::Write,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
};

use agent_core::credential::Credential;
use thiserror::Error;

use super::selector::{Listed, Revocation, Selector};
use crate::ids::Id;

/// How many revocations are kept. One more is refused; no old one is dropped for it.
pub const REVOCATIONS_MAX: usize = 65_536;

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
    /// A line isn't a revocation. It may have been meant to end somebody's access, so the agent doesn't
    /// start.
    #[error("{path}:{line} is not a revocation: {reason}; mend or remove the line and start the agent again")]
    Malformed {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What is wrong with the line.
        reason: String,
    },
    /// [`REVOCATIONS_MAX`] is reached.
    #[error(
        "{REVOCATIONS_MAX} revocations are kept already: \
         remove old ones from revocations.jsonl in the state directory and restart the agent"
    )]
    Full,
}

/// The revocations in force.
pub struct RevocationStore {
    /// The file of those made on this host: one JSON object a line.
    path: PathBuf,
    /// Held while the file is written.
    writing: Mutex<()>,
    /// Those made on this host, with their reasons.
    kept: Mutex<HashMap<Selector, String>>,
    /// Those of the revocation file, with their reasons.
    listed: Mutex<HashMap<Selector, String>>,
}

impl RevocationStore {
    /// Opens `revocations.jsonl` in the state directory, and puts what is in it in force.
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
            // A last line without an end was cut off by a crash, and never acknowledged to anybody.
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
        Ok(Self { path, writing: Mutex::new(()), kept: Mutex::new(kept), listed: Mutex::default() })
    }

    /// Puts a revocation in force until the agent ends. False if it was in force already; then the first
    /// reason stays.
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

    /// Writes a revocation to the file, for later agents. It is on disk when this returns.
    pub fn keep(&self, revocation: &Revocation) -> Result<(), RevocationError> {
        let failed = |source| RevocationError::File { path: self.path.clone(), source };
        let line = serde_json::to_string(revocation).map_err(|error| failed(error.into()))?;
        let _one = locked(&self.writing);
        // Opened by name each time: somebody may have replaced the file, to remove old revocations.
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
            // A partial line would make the next one unreadable.
            file.set_len(whole).map_err(failed)?;
            return Err(failed(error));
        }
        Ok(())
    }

    /// Replaces the entries of the revocation file; returns the selectors that are new.
    pub fn replace_listed(&self, listed: &[Listed]) -> HashSet<Selector> {
        let entries = listed.iter().map(|entry| (entry.selector.clone(), entry.reason.clone()));
        let next: HashMap<Selector, String> = entries.collect();
        let before = std::mem::replace(&mut *locked(&self.listed), next.clone());
        next.into_keys().filter(|selector| !before.contains_key(selector)).collect()
    }

    /// Why the access of a job or credential has ended, if it has. `job` is `None` for a credential that has
    /// no job yet; `credential` is `None` for an unidentified job.
    pub fn find(&self, job: Option<Id>, credential: Option<&Credential>) -> Option<String> {
        let selectors: Vec<Selector> = Selector::matching(job, credential).collect();
        [&self.kept, &self.listed].into_iter().find_map(|ended| {
            let ended = locked(ended);
            selectors.iter().find_map(|selector| ended.get(selector).cloned())
        })
    }
}

/// Locks, whatever panicked before: nothing in here can be half done in a way that grants something.
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
    fn a_claim_matches_by_its_whole_value() {
        let matches = |value: &str| {
            let selector = Selector::Claim { key: "team".into(), value: value.into() };
            Selector::matching(None, Some(&credential("x"))).any(|matching| matching == selector)
        };
        assert!(matches("red") && !matches("re") && !matches("reds"));
    }

    #[test]
    fn a_cut_off_last_line_is_dropped_and_a_malformed_line_refused() {
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
    fn a_revocation_goes_to_the_file_that_is_there_now() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("revocations.jsonl");
        let store = RevocationStore::open(dir.path()).unwrap();
        add(&store, &revocation(Selector::Subject("dana".into()))).unwrap();
        // As `sed -i` replaces a file, and as an editor does that writes no final newline.
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
    fn a_revocation_beyond_the_bound_is_refused_and_drops_none() {
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
