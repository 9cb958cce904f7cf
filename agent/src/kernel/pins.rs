//! Pins on bpffs: what stays in force when the agent ends.
//!
//! Links, and the maps that must outlive the agent, are pinned in one directory, which is named after the
//! version of the maps' layout ([`LAYOUT`]). However the agent ends, its programs go on following processes.
//! Once the agent's lease has lapsed or its listener is gone, the programs refuse the connections that they
//! would redirect. Only `lineal detach` detaches them.
//!
//! The next agent takes the maps over and replaces the old programs. A cgroup link gets its new program
//! between two events. A tracing link can't be updated, so the new program is attached before the old one is
//! detached; the programs handle an event that both of them see once only (`agent-ebpf/src/lineage.rs`).
//!
//! If the next agent has another layout, it can't take the maps over. It leaves the old programs attached
//! until the last process that they follow has ended. Until then they refuse these processes' connections.

use std::{
    fs::{self, DirBuilder, File, Permissions},
    io,
    os::{
        fd::{BorrowedFd, OwnedFd},
        unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt},
    },
    path::{Path, PathBuf},
};

use agent_abi::{LAYOUT, Unidentified};
use aya::{
    maps::{HashMap, Map, MapData, MapInfo},
    programs::links::FdLink,
};
use rustix::{
    fs::{FlockOperation, flock},
    mount::MountFlags,
};

use super::{error::KernelError, sys};

/// Where the agent mounts a bpffs if the directory for pins is not on one.
pub const BPFFS: &str = "/sys/fs/bpf";
/// Where pins are kept unless the configuration says otherwise.
const DEFAULT_ROOT: &str = "/sys/fs/bpf/lineal";
/// The map of followed processes: the one map that is read in other layouts' directories, too. Only its
/// entries are counted there.
pub const TASKS: &str = "TASKS";
/// Suffix of the pin of a tracing link that is about to replace another.
const REPLACEMENT: &str = "_coming";
/// The programs that apply enrolment rules. They have these names in every layout.
const ENROLLING: [&str; 3] = ["lineal_exec", "lineal_cgroup_mkdir", "lineal_cgroup_rmdir"];
/// The type that statfs(2) reports for a bpffs (`BPF_FS_MAGIC`).
const BPF_FS_MAGIC: i64 = 0xcafe_4a11;

/// The link that keeps a program attached.
pub enum Link {
    /// A link that aya made.
    Aya(FdLink),
    /// A link of a kind that aya doesn't hand out, made by [`sys`].
    Raw(OwnedFd),
}

/// The directories of pins, held by one process at a time.
pub struct Pins {
    /// The directory that holds one directory for each layout.
    root: PathBuf,
    /// The directory of this agent's layout.
    dir: PathBuf,
    /// When this was made, an earlier agent had left pins in `dir`.
    inherited: bool,
    /// `root`, locked for as long as this lives.
    _held: File,
}

impl Pins {
    /// Locks the directory `root` (`None`: `DEFAULT_ROOT`), and makes it if need be. Mounts a bpffs at
    /// [`BPFFS`] if none is there and `root` is below it.
    ///
    /// # Errors
    /// [`KernelError::Held`] if another process holds the directory; [`KernelError::Pin`] if it is not on a
    /// bpffs, or not this user's.
    pub fn hold(root: Option<&Path>) -> Result<Self, KernelError> {
        let root = root.unwrap_or(Path::new(DEFAULT_ROOT)).to_owned();
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |source| KernelError::Pin { path, source }
        };
        if !on_bpffs(&root) {
            let parent = Path::new(BPFFS);
            // A second bpffs there would hide the pins of every other program.
            if on_bpffs(parent) || !root.starts_with(parent) {
                let wrong = format!("it is not on a bpffs: choose a directory below {BPFFS}");
                return Err(failed(&root)(io::Error::other(wrong)));
            }
            rustix::mount::mount("bpffs", parent, "bpf", MountFlags::empty(), Some(c"mode=0700"))
                .map_err(|errno| failed(parent)(errno.into()))?;
        }
        let dir = root.join(format!("v{LAYOUT}"));
        // Closed to other users: whoever can open the directory can lock it, and so keep every agent out. Its
        // owner can rename the pins.
        DirBuilder::new().recursive(true).mode(0o700).create(&dir).map_err(failed(&dir))?;
        let held = File::open(&root).map_err(failed(&root))?;
        if held.metadata().map_err(failed(&root))?.uid() != rustix::process::geteuid().as_raw() {
            return Err(failed(&root)(io::Error::other("it belongs to another user")));
        }
        held.set_permissions(Permissions::from_mode(0o700)).map_err(failed(&root))?;
        match flock(&held, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {
                let inherited = fs::read_dir(&dir).is_ok_and(|mut entries| entries.next().is_some());
                Ok(Self { root, dir, inherited, _held: held })
            }
            Err(rustix::io::Errno::WOULDBLOCK) => Err(KernelError::Held { path: root }),
            Err(errno) => Err(failed(&root)(errno.into())),
        }
    }

    /// Whether an earlier agent with this layout had left pins when these were taken hold of.
    pub fn inherited(&self) -> bool {
        self.inherited
    }

    /// How many processes are followed by programs of this layout.
    pub fn followed(&self) -> Result<usize, KernelError> {
        followed(&self.dir).map_err(|source| KernelError::Pin { path: self.path(TASKS), source })
    }

    /// The jobs of this layout, by id, that rules began and that have shown no token. Empty also if their map
    /// is not pinned or can't be read.
    pub fn unidentified(&self) -> Vec<(u64, Unidentified)> {
        let map = MapData::from_pin(self.path("UNIDENTIFIED")).ok();
        let map =
            map.and_then(|data| HashMap::<MapData, u64, Unidentified>::try_from(Map::HashMap(data)).ok());
        map.iter().flat_map(HashMap::iter).filter_map(Result::ok).collect()
    }

    /// How many entries a pinned map has room for; `None` if the map isn't pinned.
    pub fn capacity(&self, name: &str) -> Result<Option<u32>, KernelError> {
        let path = self.path(name);
        if !path.exists() {
            return Ok(None);
        }
        let info = MapInfo::from_pin(&path).map_err(|error| io::Error::other(error.to_string()));
        info.map(|info| Some(info.max_entries())).map_err(|source| KernelError::Pin { path, source })
    }

    /// Where a map or link of this name is pinned, or is to be pinned.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// Replaces the program of this name that an earlier agent attached to this cgroup. False if there is
    /// none: then the caller has to attach the program, and to pin its link.
    ///
    /// # Errors
    /// [`KernelError::OtherCgroup`] if the earlier agent attached the program to another cgroup and some
    /// processes are still followed.
    pub fn update(&self, name: &str, program: BorrowedFd<'_>, cgroup: &File) -> Result<bool, KernelError> {
        let path = self.path(name);
        let failed = |source| KernelError::Pin { path: path.clone(), source };
        let Some(link) = sys::pinned(&path).map_err(failed)? else { return Ok(false) };
        let attached = sys::cgroup_of(&link).map_err(failed)?;
        if attached == rustix::fs::fstat(cgroup).map_err(|errno| failed(errno.into()))?.st_ino {
            sys::update_link(&link, program).map_err(failed)?;
            return Ok(true);
        }
        // A link whose cgroup was removed (id 0) sees no process any more, so its pin can go. A link to
        // another cgroup may still see followed processes.
        if attached != 0 && self.followed()? != 0 {
            return Err(KernelError::OtherCgroup { path });
        }
        fs::remove_file(&path).map_err(failed)?;
        Ok(false)
    }

    /// Pins a link, so that its program stays attached when this process ends. A link that is pinned under
    /// the same name is replaced.
    pub fn pin(&self, name: &str, link: Link) -> Result<(), KernelError> {
        let path = self.path(name);
        let replacement = self.path(&format!("{name}{REPLACEMENT}"));
        // An earlier agent may have ended between pinning its link and renaming the pin.
        let _ = fs::remove_file(&replacement);
        let pinned = match link {
            Link::Aya(link) => {
                link.pin(&replacement).map(drop).map_err(|error| io::Error::other(error.to_string()))
            }
            Link::Raw(link) => sys::pin(&link, &replacement),
        };
        pinned
            .and_then(|()| fs::rename(&replacement, &path))
            .map_err(|source| KernelError::Pin { path, source })
    }

    /// Removes the programs that agents with other layouts left attached, if they follow no process any more.
    /// Returns how many processes the remaining ones still follow: connections of these are refused.
    pub fn sweep(&self) -> usize {
        let Ok(entries) = fs::read_dir(&self.root) else { return 0 };
        let mut left = 0;
        for dir in entries.flatten().map(|entry| entry.path()).filter(|dir| *dir != self.dir) {
            match followed(&dir) {
                Ok(0) => remove(&dir),
                Ok(processes) => left += processes,
                Err(error) => {
                    let dir = dir.display();
                    tracing::warn!(%error, %dir, "cannot read the pins of another version of lineal");
                }
            }
        }
        left
    }

    /// Keeps other layouts' programs from beginning jobs by rules: this agent's programs begin them. What
    /// remains of the other layouts still follows the processes that it follows already, and refuses their
    /// connections.
    pub fn stop_other_layouts_enrolling(&self) {
        for dir in fs::read_dir(&self.root).into_iter().flatten().flatten().map(|entry| entry.path()) {
            for program in ENROLLING.iter().filter(|_| dir != self.dir) {
                let _ = fs::remove_file(dir.join(program));
            }
        }
    }

    /// Removes this layout's pins, and detaches its programs. Other layouts' pins stay as they are.
    pub fn remove_own(&self) {
        remove(&self.dir);
        let _ = fs::remove_dir(&self.root);
    }

    /// Removes all pins, whatever their layout: no program stays attached, and no process is followed any
    /// more. Failures are only logged.
    pub fn remove(self) {
        for dir in fs::read_dir(&self.root).into_iter().flatten().flatten() {
            remove(&dir.path());
        }
        let _ = fs::remove_dir(&self.root);
    }
}

/// How many processes the pinned [`TASKS`] map in a directory holds; 0 if no such map is pinned, as then
/// nothing was ever followed.
fn followed(dir: &Path) -> io::Result<usize> {
    sys::pinned(&dir.join(TASKS))?.map_or(Ok(0), |tasks| sys::entries(&tasks))
}

/// Removes a directory of pins, and detaches the links in it.
fn remove(dir: &Path) {
    for pin in fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path()) {
        // A link whose pin is removed is detached some time later; an explicit detach takes effect at once.
        // The explicit detach fails for maps and tracing links, which don't support it: removing the pin has
        // to do for them.
        if let Ok(Some(link)) = sys::pinned(&pin) {
            let _ = sys::detach_link(&link);
        }
        let _ = fs::remove_file(pin);
    }
    if let Err(error) = fs::remove_dir(dir) {
        tracing::warn!(%error, dir = %dir.display(), "cannot remove a directory of pins");
    }
}

/// Whether a path, or its closest ancestor that exists, is on a bpffs.
fn on_bpffs(path: &Path) -> bool {
    let existing = path.ancestors().find(|ancestor| ancestor.exists());
    existing
        .and_then(|existing| rustix::fs::statfs(existing).ok())
        .is_some_and(|stat| stat.f_type == BPF_FS_MAGIC)
}
