//! Reads the files of a policy bundle: those in `default/`, then those in `hosts/<hostname>/`, each in sorted
//! order.
//!
//! Symbolic links to files are followed, because Kubernetes mounts files so; links to directories are
//! refused, so that there are no loops. Files that everyone may write are refused: anybody could change the
//! policies.

use std::{
    fs,
    io::{self, Read as _},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use agent_policy::Source;

/// The largest file that is read.
const FILE_BYTES_MAX: u64 = 1024 * 1024;

/// How many files a bundle may have.
const FILES_MAX: usize = 1_000;

/// How deep directories may be nested below `default/` and `hosts/<hostname>/`.
const DEPTH_MAX: usize = 4;

/// Why a policy directory could not be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DirectoryError {
    /// A file or directory can't be read.
    #[error("cannot read {path}: {source}", path = path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file or directory may not be part of a bundle.
    #[error("{path} is refused: {reason}", path = path.display())]
    Refused {
        /// The file or directory.
        path: PathBuf,
        /// What is wrong with it, and what to do.
        reason: String,
    },
    /// The hostname can't name a directory.
    #[error("the hostname {0:?} can't name a directory under hosts/; set `hostname` in the configuration")]
    Hostname(String),
}

/// The files of the bundle in `dir` for a host. Skips names that begin with a dot, and names that end in
/// neither `.cedar` nor `.toml`: editors and version control leave such files behind.
pub(crate) fn read(dir: &Path, hostname: &str) -> Result<Vec<Source>, DirectoryError> {
    let mut walk = Walk::default();
    let hosts = dir.join("hosts");
    refuse_strays(dir)?;
    if fs::symlink_metadata(&hosts).is_ok() {
        refuse_strays(&hosts)?;
    }
    walk.directory(&dir.join("default"), 0)?;
    let host = host_directory(dir, hostname)?;
    match fs::symlink_metadata(&host) {
        Ok(_) => walk.directory(&host, 0)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(io_error(&host)(error)),
    }
    Ok(walk.sources)
}

/// Refuses files that look like part of the bundle, but are where no host reads them.
fn refuse_strays(dir: &Path) -> Result<(), DirectoryError> {
    guard(dir, &fs::metadata(dir).map_err(io_error(dir))?)?;
    match entries(dir)?.into_iter().find(|path| is_ours(path)) {
        Some(stray) => {
            let reason = "no host would read it there; move it to default/ or hosts/HOSTNAME/".to_owned();
            Err(refused(&stray, reason))
        }
        None => Ok(()),
    }
}

/// Every directory whose changes can change the bundle, whether it exists or not. The parent of `dir` is
/// among them: the whole directory may be replaced there.
pub(super) fn watched(dir: &Path, hostname: &str) -> Vec<PathBuf> {
    let parent = match dir.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let mut all = vec![parent.to_owned(), dir.to_owned(), dir.join("default"), dir.join("hosts")];
    all.extend(host_directory(dir, hostname));
    let mut walk = Walk::default();
    for root in all.split_off(2) {
        all.push(root.clone());
        // An error ends the walk early and is not reported: the next reading reports it.
        let _ = walk.directories(&root, 0);
    }
    all.append(&mut walk.directories);
    all
}

fn host_directory(dir: &Path, hostname: &str) -> Result<PathBuf, DirectoryError> {
    let plain = !hostname.is_empty()
        && !matches!(hostname, "." | "..")
        && !hostname.contains(|c: char| c == '/' || c.is_control());
    if plain {
        Ok(dir.join("hosts").join(hostname))
    } else {
        Err(DirectoryError::Hostname(hostname.to_owned()))
    }
}

/// What a walk through the bundle's directories has found.
#[derive(Default)]
struct Walk {
    sources: Vec<Source>,
    directories: Vec<PathBuf>,
}

impl Walk {
    /// Reads the bundle's files in a directory and below.
    fn directory(&mut self, dir: &Path, depth: usize) -> Result<(), DirectoryError> {
        guard(dir, &fs::metadata(dir).map_err(io_error(dir))?)?;
        for path in entries(dir)? {
            // Links are not followed here: a link to a directory is refused below.
            if fs::symlink_metadata(&path).map_err(io_error(&path))?.is_dir() {
                if depth == DEPTH_MAX {
                    return Err(refused(
                        &path,
                        format!("it lies more than {DEPTH_MAX} directories deep; move it up"),
                    ));
                }
                self.directory(&path, depth + 1)?;
            } else if is_ours(&path) {
                self.file(&path)?;
            } else if fs::metadata(&path).is_ok_and(|target| target.is_dir()) {
                return Err(refused(&path, "it links to a directory; link to files".to_owned()));
            }
        }
        Ok(())
    }

    fn file(&mut self, path: &Path) -> Result<(), DirectoryError> {
        if self.sources.len() == FILES_MAX {
            return Err(refused(path, format!("the bundle has more than {FILES_MAX} files; join some")));
        }
        // Checked before it is opened: opening a pipe would wait for a writer.
        let before = fs::metadata(path).map_err(io_error(path))?;
        if !before.is_file() {
            return Err(refused(path, "it is not a regular file".to_owned()));
        }
        let file = fs::File::open(path).map_err(io_error(path))?;
        guard(path, &file.metadata().map_err(io_error(path))?)?;
        let mut text = String::new();
        file.take(FILE_BYTES_MAX + 1).read_to_string(&mut text).map_err(io_error(path))?;
        if text.len() as u64 > FILE_BYTES_MAX {
            return Err(refused(path, format!("it is larger than {FILE_BYTES_MAX} bytes; split it")));
        }
        self.sources.push(Source::new(path.to_string_lossy(), text));
        Ok(())
    }

    /// Finds the directories below a directory.
    fn directories(&mut self, dir: &Path, depth: usize) -> Result<(), DirectoryError> {
        for path in entries(dir)? {
            if depth < DEPTH_MAX && fs::symlink_metadata(&path).is_ok_and(|meta| meta.is_dir()) {
                self.directories.push(path.clone());
                self.directories(&path, depth + 1)?;
            }
        }
        Ok(())
    }
}

/// The entries of a directory, sorted, without those that begin with a dot.
fn entries(dir: &Path) -> Result<Vec<PathBuf>, DirectoryError> {
    let mut paths = Vec::new();
    for entry in fs::read_dir(dir).map_err(io_error(dir))? {
        let entry = entry.map_err(io_error(dir))?;
        if !entry.file_name().as_encoded_bytes().starts_with(b".") {
            paths.push(entry.path());
        }
    }
    paths.sort();
    Ok(paths)
}

/// Whether a file's name is that of a part of a bundle.
fn is_ours(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "cedar" || extension == "toml")
}

/// Refuses a file or directory that others than its owner and group may change.
fn guard(path: &Path, metadata: &fs::Metadata) -> Result<(), DirectoryError> {
    if metadata.permissions().mode() & 0o002 == 0 {
        return Ok(());
    }
    Err(refused(path, "everyone may write to it; forbid that with chmod o-w".to_owned()))
}

fn refused(path: &Path, reason: String) -> DirectoryError {
    DirectoryError::Refused { path: path.to_owned(), reason }
}

fn io_error(path: &Path) -> impl FnOnce(io::Error) -> DirectoryError {
    let path = path.to_owned();
    move |source| DirectoryError::Io { path, source }
}

#[cfg(test)]
mod tests;
