//! The cgroup-v2 hierarchy: where it is mounted, and which processes a cgroup contains.

use std::{
    fs, io,
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
    let text = fs::read_to_string(format!("/proc/{pid}/cgroup"))?;
    let Some(inside) = text.lines().find_map(|line| line.strip_prefix("0::")) else { return Ok(false) };
    let Ok(root) = cgroup_root() else { return Ok(false) };
    let whole = root.join(inside.trim_start_matches('/'));
    Ok(whole.starts_with(path))
}
