//! The revocation file: a list of ended access that is maintained outside lineal, for example by
//! configuration management.
//!
//! It is read again whenever it changes. A file that can't be read, or isn't such a list, leaves the last
//! good list in force.

use std::{
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use serde::Deserialize;
use thiserror::Error;

use super::{
    super::registry::Registry,
    selector::{Listed, Selector},
    store::REVOCATIONS_MAX,
};
use crate::changes::{Changes, directories_of};

/// The largest file that is read.
const FILE_BYTES_MAX: u64 = 64 << 20;

/// `[revocations]` of the configuration.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RevocationsConfig {
    /// The revocation file; none unless given.
    pub file: Option<PathBuf>,
    /// Whether the processes of a job are killed when its access ends.
    #[serde(default)]
    pub kill: bool,
}

/// Why a revocation file can't be put in force.
#[derive(Debug, Error)]
pub enum ListError {
    /// It can't be read.
    #[error("cannot read the revocation file {path}: {source}")]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It isn't a list of revocations.
    #[error("the revocation file {path} is refused: {reason}")]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
}

/// The file's format, TOML.
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

/// A revocation file in force.
pub struct RevocationList {
    path: PathBuf,
    registry: Arc<Registry>,
    /// Held from reading the file until it is in force: of two reloads, the one that read last must take
    /// effect last.
    reloading: Mutex<()>,
    /// Why the file's present content is not in force, if it isn't.
    refused: Mutex<Option<String>>,
}

impl RevocationList {
    /// Whether a file can be put in force.
    pub fn check(path: &Path) -> Result<(), ListError> {
        read(path).map(drop)
    }

    /// Puts a file in force. If it is bad the agent must not start: it may have been meant to end somebody's
    /// access.
    pub fn open(path: &Path, registry: Arc<Registry>) -> Result<Self, ListError> {
        registry.relist(&read(path)?, None);
        Ok(Self { path: path.to_owned(), registry, reloading: Mutex::new(()), refused: Mutex::new(None) })
    }

    /// Why the file's present content is not in force, if it isn't.
    pub fn last_error(&self) -> Option<String> {
        self.refused.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Reads the file again. On an error the last good list stays in force.
    ///
    /// This blocks on the disk: call it where blocking is allowed.
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
                    tracing::error!(%reason, "the last good list of revocations stays in force");
                }
                *refused = Some(reason);
                Err(error)
            }
        }
    }

    /// Reloads the file on every change, for as long as this is polled.
    pub async fn watch(self: Arc<Self>) {
        if let Err(error) = Arc::clone(&self).follow().await {
            let path = self.path.display();
            tracing::error!(%error, %path, "cannot watch the revocation file; only SIGHUP reads it again");
        }
    }

    async fn follow(self: Arc<Self>) -> io::Result<()> {
        let changes = Changes::new()?;
        loop {
            // Watched before it is read: a change in between wakes the next round.
            changes.watch(&directories_of(&self.path))?;
            let list = Arc::clone(&self);
            // `reload` logs the reason, and `last_error` shows it.
            tokio::task::spawn_blocking(move || drop(list.reload())).await?;
            changes.next().await?;
        }
    }
}

/// Reads and checks a revocation file.
fn read(path: &Path) -> Result<Vec<Listed>, ListError> {
    let malformed = |reason| ListError::Malformed { path: path.to_owned(), reason };
    let failed = |source| ListError::File { path: path.to_owned(), source };
    // Neither a pipe that nobody writes to nor a device without an end is read.
    let metadata = std::fs::metadata(path).map_err(failed)?;
    if !metadata.is_file() || metadata.len() > FILE_BYTES_MAX {
        return Err(malformed(format!("it is not a regular file of at most {FILE_BYTES_MAX} bytes")));
    }
    let text = std::fs::read_to_string(path).map_err(failed)?;
    let file: File = toml::from_str(&text).map_err(|error| malformed(error.to_string()))?;
    if file.entries.len() > REVOCATIONS_MAX {
        return Err(malformed(format!("it has more than {REVOCATIONS_MAX} entries, which is the bound")));
    }
    let listed = |(index, entry): (usize, Entry)| {
        let selector = selector(entry.job, entry.subject, entry.claim)
            .map_err(|reason| malformed(format!("[[revocation]] number {}: {reason}", index + 1)))?;
        Ok(Listed { selector, reason: entry.reason.unwrap_or_else(|| "no reason was given".to_owned()) })
    };
    file.entries.into_iter().enumerate().map(listed).collect()
}

/// What an entry selects: exactly one of the three.
fn selector(
    job: Option<String>,
    subject: Option<String>,
    claim: Option<String>,
) -> Result<Selector, &'static str> {
    match (job, subject, claim) {
        (Some(job), None, None) => Ok(Selector::Job(job)),
        (None, Some(subject), None) => Ok(Selector::Subject(subject)),
        (None, None, Some(claim)) => {
            let (key, value) = claim.split_once('=').ok_or("`claim` must be NAME=VALUE")?;
            Ok(Selector::Claim { key: key.to_owned(), value: value.to_owned() })
        }
        _ => Err("it needs exactly one of `job`, `subject` and `claim`"),
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
            "[[revocation]]\nsubject = \"dana\"\nreason = \"left\"\n\
             [[revocation]]\nclaim = \"actor=dana=x\"\n",
            Ok(&[(Selector::Subject("dana".into()), "left"), (claim, "no reason was given")]),
        );
    }

    #[test]
    fn a_device_is_not_read() {
        let error = read(Path::new("/dev/zero")).unwrap_err();
        assert!(error.to_string().contains("it is not a regular file"), "{error}");
    }

    #[test]
    fn an_ambiguous_or_misspelled_entry_refuses_the_whole_file() {
        check("[[revocation]]\nreason = \"left\"\n", Err("number 1: it needs exactly one of"));
        check("[[revocation]]\nsubject = \"a\"\njob = \"b\"\n", Err("number 1: it needs exactly one of"));
        check("[[revocation]]\nclaim = \"actor\"\n", Err("NAME=VALUE"));
        check("[[revocation]]\nsubjects = \"a\"\n", Err("unknown field"));
        check("[[revoked]]\nsubject = \"a\"\n", Err("unknown field"));
        check("[[revocation", Err("revoked.toml"));
    }
}
