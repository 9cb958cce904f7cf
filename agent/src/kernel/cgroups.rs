//! The cgroup-v2 hierarchy: where it is mounted, and which processes a cgroup contains.

use std::{
    ffi::OsStr,
    fs, io,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
};

use super::error::KernelError;

/// The root of the cgroup-v2 hierarchy: `/sys/fs/cgroup`, or `/sys/fs/cgroup/unified` on hybrid hosts.
pub fn cgroup_root() -> Result<PathBuf, KernelError> {
    fs::read_to_string("/proc/mounts")
        .unwrap_or_default()
        .lines()
        .find_map(|line| {
            let mut fields = line.split(' ');
            let path = fields.nth(1)?;
            (fields.next()? == "cgroup2").then(|| PathBuf::from(path))
        })
        .ok_or(KernelError::NoCgroup2)
}

/// Whether process `pid` is in the cgroup at `path`, or in one below it.
pub fn cgroup_contains(path: &Path, pid: u32) -> io::Result<bool> {
    Ok(cgroup_of(pid)?.is_some_and(|whole| whole.starts_with(path)))
}

/// The directory of the cgroup that process `pid` is in; `None` if no cgroup-v2 hierarchy is mounted.
pub fn cgroup_of(pid: u32) -> io::Result<Option<PathBuf>> {
    let text = fs::read(format!("/proc/{pid}/cgroup"))?;
    // The names of cgroups need not be UTF-8.
    let inside = text.split(|byte| *byte == b'\n').find_map(|line| line.strip_prefix(b"0::/"));
    let Some(inside) = inside else { return Ok(None) };
    Ok(cgroup_root().ok().map(|root| root.join(OsStr::from_bytes(inside))))
}
