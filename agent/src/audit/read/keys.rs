//! The public keys that a reader verifies checkpoints with: given ones, or those that lie beside the trail.

use std::{fs, path::Path};

use super::{
    super::trail::{PUBLIC_FILE_PREFIX, PUBLIC_FILE_SUFFIX, PublicKey, read_key},
    error::ReadError,
};

/// Reads a public key from a file, in PEM or as 64 hex digits.
pub(super) fn read(file: &Path) -> Result<PublicKey, ReadError> {
    let text = read_key(file).map_err(ReadError::io("read the public key", file))?;
    PublicKey::parse(&text)
        .map_err(|reason| ReadError::Key { file: file.to_owned(), reason: reason.to_owned() })
}

/// Reads the public keys in a trail's directory, in the order of their names.
pub(super) fn beside(trail_dir: &Path) -> Result<Vec<PublicKey>, ReadError> {
    let mut files = Vec::new();
    for entry in fs::read_dir(trail_dir).map_err(ReadError::io("list", trail_dir))? {
        let file = entry.map_err(ReadError::io("list", trail_dir))?.path();
        let name = file.file_name().and_then(|name| name.to_str()).unwrap_or("");
        if name.starts_with(PUBLIC_FILE_PREFIX) && name.ends_with(PUBLIC_FILE_SUFFIX) {
            files.push(file);
        }
    }
    files.sort();
    files.iter().map(|file| read(file)).collect()
}
