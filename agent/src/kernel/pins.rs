//! Pins on bpffs: what stays in force when the agent doesn't.
//!
//! Links and the maps that hold what must survive are pinned in one directory, named after their layout. However the
//! agent ends, its programs go on following processes and, once its lease has lapsed or its listener is gone, refuse what
//! they would redirect. The next agent takes the maps over and puts its own programs in the place of the old ones:
//! cgroup links change their program between two events, tracing links have the new program attached before the old
//! one goes, and what both see is done once. `lineal detach` alone ends it.
//!
//! An agent with another layout leaves the old programs where they are, refusing, until their last process has ended.

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

use super::{load::KernelError, sys};

/// Where bpffs is mounted unless it is already.
pub const BPFFS: &str = "/sys/fs/bpf";
/// Where pins are kept unless the configuration says otherwise.
const DEFAULT_ROOT: &str = "/sys/fs/bpf/lineal";
/// Followed processes: the one map that is read whatever its layout.
pub const TASKS: &str = "TASKS";
/// Ends the name of a tracing link that is about to take another's place.
const COMING: &str = "_coming";
/// Programs that can begin a job, in every layout.
const TAKING_IN: [&str; 3] = ["lineal_exec", "lineal_cgroup_mkdir", "lineal_cgroup_rmdir"];
/// `BPF_FS_MAGIC`.
const BPF_FS_MAGIC: i64 = 0xcafe_4a11;

/// An attached program.
pub enum Link {
    /// By aya.
    Aya(FdLink),
    /// Of a kind whose link aya keeps to itself.
    Own(OwnedFd),
}

/// The pins of one layout, held by one process at a time.
pub struct Pins {
    root: PathBuf,
    dir: PathBuf,
    /// An earlier agent had left programs here.
    inherited: bool,
    /// Locked: one agent a directory.
    _held: File,
}

impl Pins {
    /// Takes hold of the pins, mounting bpffs if nobody has. There may be none yet.
    pub fn hold(root: Option<&Path>) -> Result<Self, KernelError> {
        let root = root.unwrap_or(Path::new(DEFAULT_ROOT)).to_owned();
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |source| KernelError::Pin { path, source }
        };
        if !on_bpffs(&root) {
            let parent = Path::new(BPFFS);
            rustix::mount::mount("bpffs", parent, "bpf", MountFlags::empty(), Some(c"mode=0700"))
                .map_err(|errno| failed(parent)(errno.into()))?;
        }
        let dir = root.join(format!("v{LAYOUT}"));
        // Nobody else's: who can open it can lock it, and who owns it can rename what is in it.
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

    /// Whether an earlier agent has left programs here.
    pub fn inherited(&self) -> bool {
        self.inherited
    }

    /// How many processes are followed.
    pub fn followed(&self) -> Result<usize, KernelError> {
        followed(&self.dir).map_err(|source| KernelError::Pin { path: self.path(TASKS), source })
    }

    /// The jobs that rules began, of this layout.
    pub fn unidentified(&self) -> Vec<(u64, Unidentified)> {
        let map = MapData::from_pin(self.path("UNIDENTIFIED")).ok();
        let map =
            map.and_then(|data| HashMap::<MapData, u64, Unidentified>::try_from(Map::HashMap(data)).ok());
        map.iter().flat_map(HashMap::iter).filter_map(Result::ok).collect()
    }

    /// How many entries a pinned map has room for; none if it isn't there.
    pub fn capacity(&self, name: &str) -> Result<Option<u32>, KernelError> {
        let path = self.path(name);
        if !path.exists() {
            return Ok(None);
        }
        let info = MapInfo::from_pin(&path).map_err(|error| io::Error::other(error.to_string()));
        info.map(|info| Some(info.max_entries())).map_err(|source| KernelError::Pin { path, source })
    }

    /// Where something is pinned.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// Puts a program in the place of the one that an earlier agent attached to this cgroup. False if there is none: then
    /// the program is to be attached, and its link pinned.
    pub fn update(&self, name: &str, program: BorrowedFd<'_>, cgroup: &File) -> Result<bool, KernelError> {
        let path = self.path(name);
        let failed = |source| KernelError::Pin { path: path.clone(), source };
        let Some(link) = sys::pinned(&path).map_err(failed)? else { return Ok(false) };
        let attached = sys::cgroup_of(&link).map_err(failed)?;
        if attached == rustix::fs::fstat(cgroup).map_err(|errno| failed(errno.into()))?.st_ino {
            sys::update_link(&link, program).map_err(failed)?;
            return Ok(true);
        }
        // One whose cgroup is gone holds nobody any more; another one may.
        if attached != 0 && self.followed()? != 0 {
            return Err(KernelError::OtherCgroup { path });
        }
        fs::remove_file(&path).map_err(failed)?;
        Ok(false)
    }

    /// Pins a link: its program stays attached when this process ends. A link that is pinned there already goes.
    pub fn pin(&self, name: &str, link: Link) -> Result<(), KernelError> {
        let path = self.path(name);
        let coming = self.path(&format!("{name}{COMING}"));
        // Left by an agent that ended at this very place.
        let _ = fs::remove_file(&coming);
        let pinned = match link {
            Link::Aya(link) => {
                link.pin(&coming).map(drop).map_err(|error| io::Error::other(error.to_string()))
            }
            Link::Own(link) => sys::pin(&link, &coming),
        };
        pinned.and_then(|()| fs::rename(&coming, &path)).map_err(|source| KernelError::Pin { path, source })
    }

    /// Removes what agents with other layouts left, where they follow no process any more. Answers how many processes
    /// the others still shut off.
    pub fn sweep(&self) -> usize {
        let Ok(entries) = fs::read_dir(&self.root) else { return 0 };
        let mut left = 0;
        for dir in entries.flatten().map(|entry| entry.path()).filter(|dir| *dir != self.dir) {
            match followed(&dir) {
                Ok(0) => remove(&dir),
                Ok(processes) => left += processes,
                Err(error) => tracing::warn!(%error, dir = %dir.display(), "pins can't be read"),
            }
        }
        left
    }

    /// Keeps other layouts' programs from taking anybody in: a rule means one agent's jobs. What they follow already they
    /// go on following, and refuse.
    pub fn silence_others(&self) {
        for dir in fs::read_dir(&self.root).into_iter().flatten().flatten().map(|entry| entry.path()) {
            for program in TAKING_IN.iter().filter(|_| dir != self.dir) {
                let _ = fs::remove_file(dir.join(program));
            }
        }
    }

    /// Takes down what stands under this layout, and leaves other layouts' as it is.
    pub fn remove_own(&self) {
        remove(&self.dir);
        let _ = fs::remove_dir(&self.root);
    }

    /// Takes everything down, whatever its layout: no program stays attached, no process is followed any more.
    pub fn remove(self) {
        for dir in fs::read_dir(&self.root).into_iter().flatten().flatten() {
            remove(&dir.path());
        }
        let _ = fs::remove_dir(&self.root);
    }
}

/// How many processes the map in a directory holds; none if it isn't there, as nothing was ever followed.
fn followed(dir: &Path) -> io::Result<usize> {
    sys::pinned(&dir.join(TASKS))?.map_or(Ok(0), |tasks| sys::entries(&tasks))
}

fn remove(dir: &Path) {
    for pin in fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path()) {
        // A link that only loses its pin goes by and by; one that is detached has gone. Maps and tracing links know no
        // such thing.
        if let Ok(Some(link)) = sys::pinned(&pin) {
            let _ = sys::detach_link(&link);
        }
        let _ = fs::remove_file(pin);
    }
    if let Err(error) = fs::remove_dir(dir) {
        tracing::warn!(%error, dir = %dir.display(), "pins can't be removed");
    }
}

fn on_bpffs(path: &Path) -> bool {
    let existing = path.ancestors().find(|ancestor| ancestor.exists());
    existing
        .and_then(|existing| rustix::fs::statfs(existing).ok())
        .is_some_and(|stat| stat.f_type == BPF_FS_MAGIC)
}
