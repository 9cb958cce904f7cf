//! Telling when files change. An event says only that something did, so events are drained, not read: whoever is told
//! reads everything again, and nothing can be missed for good.

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

/// A file was written and closed, or an entry came or went. Not every single write: half-written files are
/// read at their close.
const CHANGES: WatchFlags = WatchFlags::CLOSE_WRITE
    .union(WatchFlags::CREATE)
    .union(WatchFlags::DELETE)
    .union(WatchFlags::MOVED_FROM)
    .union(WatchFlags::MOVED_TO)
    .union(WatchFlags::ATTRIB)
    .union(WatchFlags::DELETE_SELF)
    .union(WatchFlags::MOVE_SELF);

/// How many bytes of events one read takes; all are read before anybody is told.
const EVENT_BYTES: usize = 4_096;

/// Changes in some directories.
pub struct Changes(AsyncFd<OwnedFd>);

impl Changes {
    /// Watches nothing yet. To be made within a runtime.
    pub fn new() -> io::Result<Self> {
        readiness_of(inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC)?).map(Self)
    }

    /// Watches these directories, too. What isn't there shows as a change of what it would stand in.
    pub fn watch<P: AsRef<Path>>(&self, directories: &[P]) -> io::Result<()> {
        for path in directories {
            match inotify::add_watch(&self.0, path.as_ref(), CHANGES | WatchFlags::ONLYDIR) {
                Ok(_) | Err(Errno::NOENT | Errno::NOTDIR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// Waits for a change since this was last asked, or since its directory was first watched.
    pub async fn next(&self) -> io::Result<()> {
        let mut ready = self.0.readable().await?;
        self.drain()?;
        ready.clear_ready();
        Ok(())
    }

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

/// Where a change of `file` shows, however it is put in place, a directory above it or a link on the way there: every
/// directory that its path or the path it leads to goes through.
pub fn directories_of(file: &Path) -> Vec<PathBuf> {
    let led_to = std::fs::canonicalize(file).ok();
    let above = |path: &Path| path.ancestors().skip(1).map(Path::to_owned).collect::<Vec<_>>();
    let mut all = above(file);
    all.extend(led_to.as_deref().map(above).unwrap_or_default());
    all.sort();
    all.dedup();
    all
}

#[allow(
    deprecated,
    reason = "tokio's successor is unsafe, for types whose descriptor may change under it; an OwnedFd's cannot"
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

    /// Follows `list` in a directory, makes each change in turn, and waits until its content is that change's.
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
                    // Only once all is watched: what is seen is seen by its events.
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
    async fn a_file_written_or_replaced_is_seen() {
        let replace = |outer: &Path| {
            fs::write(outer.join("next"), "1").unwrap();
            fs::rename(outer.join("next"), outer.join("lists/list")).unwrap();
        };
        check(|outer| put(&outer.join("lists"), ""), &[&|outer| put(&outer.join("lists"), "0"), &replace])
            .await;
    }

    #[tokio::test]
    async fn a_directory_that_goes_and_comes_is_followed() {
        let again = |content: &'static str| {
            move |outer: &Path| {
                fs::rename(outer.join("lists"), outer.join(format!("last-{content}"))).unwrap();
                put(&outer.join("lists"), content);
            }
        };
        check(|outer| put(&outer.join("lists"), ""), &[&again("0"), &again("1")]).await;
    }

    #[tokio::test]
    async fn a_link_on_the_way_that_leads_elsewhere_is_followed() {
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
