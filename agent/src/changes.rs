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

/// Where a change of `file` shows, however it is put in place: its directory, and where a link in between leads.
pub fn directories_of(file: &Path) -> Vec<PathBuf> {
    let parent = |path: &Path| path.parent().map(Path::to_owned);
    let led_to = std::fs::canonicalize(file).ok();
    parent(file).into_iter().chain(led_to.as_deref().and_then(parent)).collect()
}

#[allow(
    deprecated,
    reason = "tokio's successor is unsafe, for types whose descriptor may change under it; an OwnedFd's cannot"
)]
fn readiness_of(descriptor: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    AsyncFd::new(descriptor)
}
