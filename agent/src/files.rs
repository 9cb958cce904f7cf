//! Files that are there whole or not at all.

use std::{
    fs::{self, OpenOptions, Permissions},
    io::{self, Write},
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::Path,
};

/// Puts `bytes` in place of what `file` holds, on disk before this returns; whoever reads it sees the old or the
/// new. `mode` is its permissions, from its first byte on.
pub fn replace(file: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let unfinished = file.with_extension("new");
    let mut opened =
        OpenOptions::new().write(true).create(true).truncate(true).mode(mode).open(&unfinished)?;
    opened.set_permissions(Permissions::from_mode(mode))?;
    opened.write_all(bytes)?;
    opened.sync_all()?;
    fs::rename(&unfinished, file)
}
