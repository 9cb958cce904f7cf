//! The agent's side of the control socket.

use std::{io, os::unix::fs::PermissionsExt, path::Path, sync::Arc, time::Duration};

use serde::Serialize;
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{UnixListener, UnixStream},
    sync::Semaphore,
    time::timeout,
};

use super::{CONNECTIONS_MAX, End, REQUEST_BYTES_MAX, REQUEST_S, Request, peer::Peer};

/// What answers requests that a peer may make.
pub trait Handler: Send + Sync + 'static {
    /// Whether the process carries a kernel tag.
    fn followed(&self, pid: u32) -> bool;
    /// User ids that may administer the agent besides root.
    fn admins(&self) -> &[u32];
    /// Does what is asked; answers JSON objects, or the reason why not.
    fn handle(
        &self,
        request: Request,
        peer: &Peer,
    ) -> impl Future<Output = Result<Vec<serde_json::Value>, String>> + Send;
}

/// Binds the control socket. Every user may connect: what they may ask is decided then.
pub fn bind(path: &Path) -> io::Result<UnixListener> {
    if let Some(dir) = path.parent() {
        std::fs::create_dir_all(dir)?;
    }
    // A socket file outlives its listener: one that nobody answers at is stale.
    match std::os::unix::net::UnixStream::connect(path) {
        Ok(_) => return Err(io::Error::new(io::ErrorKind::AddrInUse, "an agent answers at this socket")),
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => std::fs::remove_file(path)?,
        Err(_) => {}
    }
    let listener = UnixListener::bind(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o666))?;
    Ok(listener)
}

/// Serves until dropped.
pub async fn serve(listener: UnixListener, handler: Arc<impl Handler>) -> io::Result<()> {
    let slots = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let Ok(slot) = Arc::clone(&slots).acquire_owned().await else { return Ok(()) };
        let (stream, _) = listener.accept().await?;
        let handler = Arc::clone(&handler);
        tokio::spawn(async move {
            if let Err(error) = converse(stream, &*handler).await {
                tracing::debug!(%error, "a control connection failed");
            }
            drop(slot);
        });
    }
}

async fn converse(mut stream: UnixStream, handler: &impl Handler) -> io::Result<()> {
    let peer = Peer::of(&stream)?;
    let answer = match timeout(Duration::from_secs(REQUEST_S), read_request(&mut stream)).await {
        Ok(Ok(request)) => {
            let followed = handler.followed(peer.pid);
            match super::peer::refusal(&request, peer.uid, followed, handler.admins()) {
                Some(refusal) => {
                    tracing::warn!(pid = peer.pid, uid = peer.uid, verb = request.verb(), refusal, "refused");
                    Err(refusal.to_owned())
                }
                None => handler.handle(request, &peer).await,
            }
        }
        Ok(Err(error)) => Err(format!("the request can't be read: {error}")),
        Err(_) => Err(format!("no request within {REQUEST_S} seconds")),
    };
    let mut text = Vec::new();
    let end = match answer {
        Ok(objects) => {
            for object in &objects {
                push_line(&mut text, object)?;
            }
            End { done: true, error: None }
        }
        Err(error) => End { done: false, error: Some(error) },
    };
    push_line(&mut text, &end)?;
    stream.write_all(&text).await?;
    stream.shutdown().await
}

async fn read_request(stream: &mut UnixStream) -> io::Result<Request> {
    let mut line = Vec::new();
    let mut limited = BufReader::new(stream.take(REQUEST_BYTES_MAX as u64));
    limited.read_until(b'\n', &mut line).await?;
    if line.last() != Some(&b'\n') {
        let message = format!("a request is one line of at most {REQUEST_BYTES_MAX} bytes");
        return Err(io::Error::new(io::ErrorKind::InvalidData, message));
    }
    // The parser's error would quote the line, which can hold a token.
    serde_json::from_slice(&line)
        .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, format!("column {}", error.column())))
}

fn push_line(text: &mut Vec<u8>, value: &impl Serialize) -> io::Result<()> {
    serde_json::to_writer(&mut *text, value)?;
    text.push(b'\n');
    Ok(())
}
