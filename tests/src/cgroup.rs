//! The lab's own cgroup. lineal attaches to it, so that nothing else on the machine is affected. Every
//! process of the lab is in it, so that all of them can be killed together.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::Context;

/// A cgroup-v2 directory. It is removed by the lab's guard, not by dropping.
#[derive(Clone)]
pub struct Cgroup {
    path: PathBuf,
}

impl Cgroup {
    /// Makes a cgroup under the root of the cgroup-v2 hierarchy.
    pub fn create(name: &str) -> anyhow::Result<Self> {
        let path = root()?.join(name);
        fs::create_dir(&path)
            .with_context(|| format!("cannot make cgroup {}: are you root?", path.display()))?;
        Ok(Self { path })
    }

    /// Its directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A copy of a command that starts inside the cgroup: a shell moves itself there and then becomes the
    /// command.
    pub fn inside(&self, command: &Command) -> Command {
        let mut shell = Command::new("/bin/sh");
        shell.args(["-c", "echo $$ >\"$0\" && exec \"$@\""]);
        shell.arg(self.path.join("cgroup.procs")).arg(command.get_program()).args(command.get_args());
        for (name, value) in command.get_envs() {
            match value {
                Some(value) => shell.env(name, value),
                None => shell.env_remove(name),
            };
        }
        if let Some(directory) = command.get_current_dir() {
            shell.current_dir(directory);
        }
        shell
    }

    /// The ids of the processes directly in it, without those in cgroups below.
    pub fn processes(&self) -> anyhow::Result<Vec<u32>> {
        let text = fs::read_to_string(self.path.join("cgroup.procs"))?;
        Ok(text.lines().filter_map(|line| line.parse().ok()).collect())
    }
}

/// The root of the cgroup-v2 hierarchy: /sys/fs/cgroup, or a directory below it on hosts that also have
/// cgroup v1.
pub fn root() -> anyhow::Result<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mounts").context("cannot read /proc/self/mounts")?;
    mounts
        .lines()
        .filter_map(|line| {
            let mut fields = line.split(' ');
            let (_, place, kind) = (fields.next()?, fields.next()?, fields.next()?);
            (kind == "cgroup2").then(|| PathBuf::from(place))
        })
        .next()
        .context("no cgroup2 file system is mounted: `mount -t cgroup2 none /sys/fs/cgroup` mounts one")
}
