//! Files that are there whole or not at all.

use std::{
    fs::{self, File, OpenOptions, Permissions},
    io::{self, Write},
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::Path,
};

/// Puts `bytes` in place of what `file` holds, on disk before this returns; whoever reads it sees the old or the
/// new. `mode` is its permissions, from its first byte on.
pub fn replace(file: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    put(file, bytes, mode, File::sync_all)
}

/// The same for what needs not outlive the host: it survives this process, whenever that ends.
pub fn replace_unsynced(file: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    put(file, bytes, mode, |_| Ok(()))
}

fn put(file: &Path, bytes: &[u8], mode: u32, sync: impl FnOnce(&File) -> io::Result<()>) -> io::Result<()> {
    let unfinished = file.with_extension("new");
    let mut opened =
        OpenOptions::new().write(true).create(true).truncate(true).mode(mode).open(&unfinished)?;
    opened.set_permissions(Permissions::from_mode(mode))?;
    opened.write_all(bytes)?;
    sync(&opened)?;
    fs::rename(&unfinished, file)
}
