//! Writing files so that readers, and a restart after a crash, find the old content or the new, never a part.

use std::{
    fs::{self, File, OpenOptions, Permissions},
    io::{self, Write},
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::Path,
};

/// Replaces the content of `file`, or makes it. The content is on disk before this returns. The file has the
/// permissions `mode` before anything is in it.
///
/// Writes to `file` with the extension `new` first: two callers must not replace one file at once.
pub fn replace(file: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    write_and_rename(file, bytes, mode, File::sync_all)
}

/// Like [`replace`], without waiting for the disk: for what has to survive a crash of the agent, but not of
/// the host.
pub fn replace_unsynced(file: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    write_and_rename(file, bytes, mode, |_| Ok(()))
}

fn write_and_rename(
    file: &Path,
    bytes: &[u8],
    mode: u32,
    sync: impl FnOnce(&File) -> io::Result<()>,
) -> io::Result<()> {
    let unfinished = file.with_extension("new");
    let mut opened =
        OpenOptions::new().write(true).create(true).truncate(true).mode(mode).open(&unfinished)?;
    opened.set_permissions(Permissions::from_mode(mode))?;
    opened.write_all(bytes)?;
    sync(&opened)?;
    fs::rename(&unfinished, file)
}
