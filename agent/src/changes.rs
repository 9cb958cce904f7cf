//! Notices when files change (inotify). The events' content is never read: each only means that something has
//! changed, and whoever waited reads everything again. A lost or merged event is no loss then.

use std::{
    io,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
};

use rustix::{
    fs::inotify::{self, CreateFlags, WatchFlags},
    io::Errno,
};
use tokio::io::unix::AsyncFd;

/// A file was closed after writing, or an entry of a directory came or went. Not single writes: a
/// half-written file is of no use yet.
const CHANGES: WatchFlags = WatchFlags::CLOSE_WRITE
    .union(WatchFlags::CREATE)
    .union(WatchFlags::DELETE)
    .union(WatchFlags::MOVED_FROM)
    .union(WatchFlags::MOVED_TO)
    .union(WatchFlags::ATTRIB)
    .union(WatchFlags::DELETE_SELF)
    .union(WatchFlags::MOVE_SELF);

/// How many bytes of events are read at a time.
const EVENT_BYTES: usize = 4_096;

/// Watches directories for changes.
pub struct Changes(AsyncFd<OwnedFd>);

impl Changes {
    /// A watch of no directory yet. Must be called within a tokio runtime.
    pub fn new() -> io::Result<Self> {
        readiness_of(inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC)?).map(Self)
    }

    /// Adds directories to the watch. A missing directory is skipped: watch its parent as well, which changes
    /// when it is made, and add it then.
    pub fn watch<P: AsRef<Path>>(&self, directories: &[P]) -> io::Result<()> {
        for path in directories {
            match inotify::add_watch(&self.0, path.as_ref(), CHANGES | WatchFlags::ONLYDIR) {
                Ok(_) | Err(Errno::NOENT | Errno::NOTDIR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// Waits for a change in a watched directory. Returns at once if there was one since the last call, or
    /// since the directory was added.
    pub async fn next(&self) -> io::Result<()> {
        let mut ready = self.0.readable().await?;
        self.drain()?;
        ready.clear_ready();
        Ok(())
    }

    /// Reads all pending events, and drops them.
    fn drain(&self) -> io::Result<()> {
        let mut buffer = [0; EVENT_BYTES];
        loop {
            match rustix::io::read(&self.0, &mut buffer) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return Ok(()),
                Err(error) => return Err(error.into()),
            }
        }
    }
}

/// The directories in which every change of `file` shows, also when a directory above it or a symbolic link
/// on its path is replaced: all those above its path, and above the path that it resolves to.
pub fn directories_of(file: &Path) -> Vec<PathBuf> {
    let resolved = std::fs::canonicalize(file).ok();
    let above = |path: &Path| path.ancestors().skip(1).map(Path::to_owned).collect::<Vec<_>>();
    let mut all = above(file);
    all.extend(resolved.as_deref().map(above).unwrap_or_default());
    all.sort();
    all.dedup();
    all
}

#[allow(
    deprecated,
    reason = "tokio's successor is unsafe, for types whose descriptor may change; an OwnedFd's cannot"
)]
fn readiness_of(descriptor: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    AsyncFd::new(descriptor)
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::symlink, time::Duration};

    use super::*;

    /// Long enough for any machine; a test that waits so long has failed.
    const PATIENCE: Duration = Duration::from_secs(60);

    /// Watches the file `lists/list` in a temporary directory, makes one change after another, and waits
    /// until each is seen: change number n writes n.
    async fn check(prepare: impl Fn(&Path), changes: &[&dyn Fn(&Path)]) {
        let outer = tempfile::tempdir().unwrap();
        prepare(outer.path());
        let file = outer.path().join("lists/list");
        let watch = Changes::new().unwrap();
        for (turn, change) in changes.iter().enumerate() {
            let wanted = turn.to_string();
            let mut change = Some(change);
            let seen = async {
                loop {
                    watch.watch(&directories_of(&file)).unwrap();
                    if fs::read_to_string(&file).is_ok_and(|content| content == wanted) {
                        return;
                    }
                    // Not before everything is watched, so that the change can only be seen by its events.
                    if let Some(change) = change.take() {
                        change(outer.path());
                    }
                    watch.next().await.unwrap();
                }
            };
            tokio::time::timeout(PATIENCE, seen).await.unwrap();
        }
    }

    fn put(directory: &Path, content: &str) {
        fs::create_dir_all(directory).unwrap();
        fs::write(directory.join("list"), content).unwrap();
    }

    #[tokio::test]
    async fn a_written_or_replaced_file_is_noticed() {
        let replace = |outer: &Path| {
            fs::write(outer.join("next"), "1").unwrap();
            fs::rename(outer.join("next"), outer.join("lists/list")).unwrap();
        };
        check(|outer| put(&outer.join("lists"), ""), &[&|outer| put(&outer.join("lists"), "0"), &replace])
            .await;
    }

    #[tokio::test]
    async fn a_file_is_noticed_in_a_directory_that_was_replaced() {
        let again = |content: &'static str| {
            move |outer: &Path| {
                fs::rename(outer.join("lists"), outer.join(format!("last-{content}"))).unwrap();
                put(&outer.join("lists"), content);
            }
        };
        check(|outer| put(&outer.join("lists"), ""), &[&again("0"), &again("1")]).await;
    }

    #[tokio::test]
    async fn a_changed_symbolic_link_on_the_path_is_noticed() {
        let relink = |content: &'static str| {
            move |outer: &Path| {
                put(&outer.join(content), content);
                symlink(content, outer.join("link")).unwrap();
                fs::rename(outer.join("link"), outer.join("lists")).unwrap();
            }
        };
        check(|outer| relink("start")(outer), &[&relink("0"), &relink("1")]).await;
    }
}
