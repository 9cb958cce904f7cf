//! Waits for a server to report that it is ready, by the protocol of sd_notify(3).

use std::{
    fs,
    io::ErrorKind,
    os::unix::{fs::PermissionsExt, net::UnixDatagram},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Context, bail};

use crate::server::Server;

/// The longest message that is read; the rest of a longer one is cut off, as systemd does.
const MESSAGE_BYTES_MAX: usize = 4096;
/// How often to check whether a server that reports nothing has ended.
const ALIVE_CHECK: Duration = Duration::from_millis(100);

/// A socket that one server reports to.
pub struct Notify {
    socket: UnixDatagram,
    path: PathBuf,
}

impl Notify {
    /// Listens at `path`, for a server that may run as any user.
    pub fn listen(path: &Path) -> anyhow::Result<Self> {
        let socket =
            UnixDatagram::bind(path).with_context(|| format!("cannot listen at {}", path.display()))?;
        fs::set_permissions(path, fs::Permissions::from_mode(0o777))?;
        socket.set_read_timeout(Some(ALIVE_CHECK))?;
        Ok(Self { socket, path: path.to_owned() })
    }

    /// The value of the server's `NOTIFY_SOCKET`.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns once the server is ready; fails if it ends first or takes longer than `patience`.
    pub fn ready(&self, server: &mut Server, patience: Duration) -> anyhow::Result<()> {
        let deadline = Instant::now() + patience;
        let mut message = [0; MESSAGE_BYTES_MAX];
        loop {
            match self.socket.recv(&mut message) {
                Ok(length) => {
                    let said =
                        String::from_utf8_lossy(message.get(..length).unwrap_or_default()).into_owned();
                    if said.lines().any(|line| line == "READY=1") {
                        return Ok(());
                    }
                }
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                    if let Some(status) = server.ended()? {
                        bail!("{} ended before it was ready ({status}):\n{}", server.name(), server.log());
                    }
                    if Instant::now() >= deadline {
                        bail!("{} was not ready within {patience:?}:\n{}", server.name(), server.log());
                    }
                }
                Err(error) => return Err(error).context("cannot hear whether a server is ready"),
            }
        }
    }
}
