//! Passwords in files.

use std::{fs, io::Read, os::unix::fs::PermissionsExt, path::Path};

use super::{
    error::LoginsError,
    secret::{SECRET_BYTES_MAX, Secret},
};

/// Reads a password from a file, without the line end that an editor puts behind it.
pub(super) fn read(path: &Path) -> Result<Secret, LoginsError> {
    let wrong = |reason: String| LoginsError::File { path: path.to_owned(), reason };
    let file = fs::File::open(path).map_err(|error| wrong(error.to_string()))?;
    let metadata = file.metadata().map_err(|error| wrong(error.to_string()))?;
    if metadata.permissions().mode() & 0o007 != 0 {
        return Err(wrong(
            "every user of this host can read it: chmod o= it, and change the password".into(),
        ));
    }
    if metadata.len() > SECRET_BYTES_MAX {
        return Err(wrong(format!("it has more than {SECRET_BYTES_MAX} bytes")));
    }
    // Large enough for the whole file: a buffer that grew would leave a copy of the password in freed memory.
    let mut bytes = Vec::with_capacity(metadata.len() as usize + 1);
    let read = file.take(metadata.len()).read_to_end(&mut bytes);
    let mut secret = Secret::new(bytes);
    read.map_err(|error| wrong(error.to_string()))?;
    secret.trim_line_end();
    if secret.reveal().is_empty() {
        return Err(wrong("it is empty".into()));
    }
    Ok(secret)
}
