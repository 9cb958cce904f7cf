//! A list of whose access has ended that others keep, such as a company's configuration management. It is read again
//! whenever it changes; one that can't be read leaves the last good one in force.

use std::{
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use serde::Deserialize;
use thiserror::Error;

use super::{
    Registry,
    revocations::{Listed, REVOCATIONS_MAX, Selector},
};
use crate::changes::{Changes, directories_of};

/// The largest file that is read.
const FILE_BYTES_MAX: u64 = 64 << 20;

/// `[revocations]`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RevocationsConfig {
    /// The list; none is read unless given.
    pub file: Option<PathBuf>,
    /// Whether the processes of a job are killed when its access ends.
    #[serde(default)]
    pub kill: bool,
}

/// Why a list isn't in force.
#[derive(Debug, Error)]
pub enum ListError {
    /// It can't be read.
    #[error("{path}: {source}")]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It isn't such a list.
    #[error("{path}: {reason}")]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
}

/// The file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default, rename = "revocation")]
    entries: Vec<Entry>,
}

/// One `[[revocation]]`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    job: Option<String>,
    subject: Option<String>,
    /// `NAME=VALUE`.
    claim: Option<String>,
    reason: Option<String>,
}

/// The list of one file, in force.
pub struct RevocationList {
    path: PathBuf,
    registry: Arc<Registry>,
    /// Held from reading to putting in force: of two reloads, the one that read last must be the last.
    reloading: Mutex<()>,
    /// Why what the file holds now is not in force, if it isn't.
    refused: Mutex<Option<String>>,
}

impl RevocationList {
    /// Whether there is a good one.
    pub fn check(path: &Path) -> Result<(), ListError> {
        read(path).map(drop)
    }

    /// Puts the list in force. Without a good one there is none, and no agent: somebody's access may be ended by it.
    pub fn open(path: &Path, registry: Arc<Registry>) -> Result<Self, ListError> {
        registry.relist(&read(path)?, None);
        Ok(Self { path: path.to_owned(), registry, reloading: Mutex::new(()), refused: Mutex::new(None) })
    }

    /// Why what the file holds now is not in force, if it isn't.
    pub fn last_error(&self) -> Option<String> {
        self.refused.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Reads the file again. On an error the last good list is in force.
    ///
    /// Reads a file: call it where blocking is allowed.
    pub fn reload(&self) -> Result<(), ListError> {
        let _one = self.reloading.lock().unwrap_or_else(PoisonError::into_inner);
        let read = read(&self.path);
        if let Ok(listed) = &read {
            self.registry.relist(listed, Some(&self.path));
        }
        let mut refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        match read {
            Ok(_) => {
                *refused = None;
                Ok(())
            }
            Err(error) => {
                let reason = error.to_string();
                if refused.as_ref() != Some(&reason) {
                    tracing::error!(%reason, "the list of revocations is refused; the last good one stays in force");
                }
                *refused = Some(reason);
                Err(error)
            }
        }
    }

    /// Reloads on every change, for as long as it is polled.
    pub async fn watch(self: Arc<Self>) {
        if let Err(error) = Arc::clone(&self).follow().await {
            let path = self.path.display();
            tracing::error!(%error, %path, "the list of revocations can't be watched; it is read again on SIGHUP alone");
        }
    }

    async fn follow(self: Arc<Self>) -> io::Result<()> {
        let changes = Changes::new()?;
        loop {
            // Watched before it is read: what changes in between wakes the next round.
            changes.watch(&directories_of(&self.path))?;
            let list = Arc::clone(&self);
            // The list tells and keeps the reason itself.
            tokio::task::spawn_blocking(move || drop(list.reload())).await?;
            changes.next().await?;
        }
    }
}

fn read(path: &Path) -> Result<Vec<Listed>, ListError> {
    let malformed = |reason| ListError::Malformed { path: path.to_owned(), reason };
    let failed = |source| ListError::File { path: path.to_owned(), source };
    // Neither a pipe that nobody writes to, nor a file without an end.
    let metadata = std::fs::metadata(path).map_err(failed)?;
    if !metadata.is_file() || metadata.len() > FILE_BYTES_MAX {
        return Err(malformed(format!("it is no file of at most {FILE_BYTES_MAX} bytes")));
    }
    let text = std::fs::read_to_string(path).map_err(failed)?;
    let file: File = toml::from_str(&text).map_err(|error| malformed(error.to_string()))?;
    if file.entries.len() > REVOCATIONS_MAX {
        return Err(malformed(format!("it has more than {REVOCATIONS_MAX} entries")));
    }
    let listed = |(index, entry): (usize, Entry)| {
        let selector = selector(entry.job, entry.subject, entry.claim)
            .map_err(|reason| malformed(format!("[[revocation]] number {}: {reason}", index + 1)))?;
        Ok(Listed { selector, reason: entry.reason.unwrap_or_else(|| "no reason was given".to_owned()) })
    };
    file.entries.into_iter().enumerate().map(listed).collect()
}

fn selector(
    job: Option<String>,
    subject: Option<String>,
    claim: Option<String>,
) -> Result<Selector, &'static str> {
    match (job, subject, claim) {
        (Some(job), None, None) => Ok(Selector::Job(job)),
        (None, Some(subject), None) => Ok(Selector::Subject(subject)),
        (None, None, Some(claim)) => {
            let (key, value) = claim.split_once('=').ok_or("`claim` is NAME=VALUE")?;
            Ok(Selector::Claim { key: key.to_owned(), value: value.to_owned() })
        }
        _ => Err("it needs one of `job`, `subject` and `claim`, and no more"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expect: Result<&[(Selector, &str)], &str>) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("revoked.toml");
        std::fs::write(&path, text).unwrap();
        match (read(&path), expect) {
            (Ok(listed), Ok(expect)) => {
                let listed: Vec<_> =
                    listed.iter().map(|entry| (entry.selector.clone(), entry.reason.as_str())).collect();
                assert_eq!(listed, expect, "{text}");
            }
            (Err(error), Err(part)) => assert!(error.to_string().contains(part), "{text}: {error}"),
            (got, expect) => panic!("{text}: {:?} instead of {expect:?}", got.map(|listed| listed.len())),
        }
    }

    #[test]
    fn an_entry_names_a_job_a_subject_or_a_claim() {
        check("", Ok(&[]));
        let claim = Selector::Claim { key: "actor".into(), value: "dana=x".into() };
        check(
            "[[revocation]]\nsubject = \"dana\"\nreason = \"left\"\n[[revocation]]\nclaim = \"actor=dana=x\"\n",
            Ok(&[(Selector::Subject("dana".into()), "left"), (claim, "no reason was given")]),
        );
    }

    #[test]
    fn what_is_no_file_is_not_read() {
        let error = read(Path::new("/dev/zero")).unwrap_err();
        assert!(error.to_string().contains("it is no file"), "{error}");
    }

    #[test]
    fn a_list_that_may_mean_something_else_is_refused() {
        check("[[revocation]]\nreason = \"left\"\n", Err("number 1: it needs one of"));
        check("[[revocation]]\nsubject = \"a\"\njob = \"b\"\n", Err("number 1: it needs one of"));
        check("[[revocation]]\nclaim = \"actor\"\n", Err("NAME=VALUE"));
        check("[[revocation]]\nsubjects = \"a\"\n", Err("unknown field"));
        check("[[revoked]]\nsubject = \"a\"\n", Err("unknown field"));
        check("[[revocation", Err("revoked.toml"));
    }
}
