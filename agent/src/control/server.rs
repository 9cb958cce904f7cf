//! The agent's side of the control socket: who may connect and ask. It carries out no request: its
//! [`Handler`] does.

use std::{
    collections::HashMap,
    io,
    os::unix::fs::PermissionsExt,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use serde::Serialize;
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{UnixListener, UnixStream},
    time::timeout,
};

use super::{
    answer::Answer,
    peer::{FOLLOWED, Peer, Standpoint, refusal},
    request::{CONNECTIONS_MAX, CONNECTIONS_PER_USER_MAX, End, REQUEST_BYTES_MAX, REQUEST_S, Request},
};

/// Carries out the requests that a peer may make.
pub trait Handler: Send + Sync + 'static {
    /// Whether a process is inside a job, by its kernel tag.
    fn standpoint(&self, pid: u32) -> Standpoint;
    /// User ids that may administer the agent besides root.
    fn admins(&self) -> &[u32];
    /// Counts a connection that was closed because there are too many.
    fn on_full(&self);
    /// Carries out a request. The error is the sentence that the peer reads.
    fn handle(
        &self,
        request: Request,
        peer: &Peer,
    ) -> impl Future<Output = Result<Vec<Answer>, String>> + Send;
}

/// Binds the control socket. Every user may connect; what each may ask is decided for each request.
pub fn bind(path: &Path) -> io::Result<UnixListener> {
    if let Some(dir) = path.parent() {
        std::fs::create_dir_all(dir)?;
    }
    // A socket's file outlives its listener. If nobody accepts, it is stale.
    match std::os::unix::net::UnixStream::connect(path) {
        Ok(_) => {
            return Err(io::Error::new(
                io::ErrorKind::AddrInUse,
                "another agent answers there: stop it, or set `control` to another path",
            ));
        }
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => std::fs::remove_file(path)?,
        Err(_) => {}
    }
    let listener = UnixListener::bind(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o666))?;
    Ok(listener)
}

/// How long accepting pauses after it failed, as when descriptors have run out.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves until dropped.
pub async fn serve(listener: UnixListener, handler: Arc<impl Handler>) {
    let slots = Arc::new(Slots::default());
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::error!(%error, "a control connection cannot be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let Ok(peer) = Peer::of(&stream) else { continue };
        // A process loses its tag when it ends. One that has ended by now could pass for a process outside
        // every job, and take a slot of the admins'.
        let at = handler.standpoint(peer.pid);
        if !peer.alive() {
            continue;
        }
        let admin = peer.uid == 0 || handler.admins().contains(&peer.uid);
        let Some(slot) = slots.take(peer.uid, admin && at == Standpoint::Outside) else {
            tracing::warn!(pid = peer.pid, uid = peer.uid, "too many control connections");
            handler.on_full();
            continue;
        };
        let handler = Arc::clone(&handler);
        tokio::spawn(async move {
            if let Err(error) = converse(stream, &peer, at, &*handler).await {
                tracing::debug!(%error, "a control connection failed");
            }
            drop(slot);
        });
    }
}

/// How many connections each [`Slot::holder`] has. One user cannot take every slot. Root and the admins share
/// slots of their own, but only from outside every job: inside one, they count as any other user.
#[derive(Default)]
struct Slots(Mutex<HashMap<Option<u32>, usize>>);

/// One connection's slot, given back when dropped.
struct Slot {
    slots: Arc<Slots>,
    /// The user; `None` for root and the admins outside every job.
    holder: Option<u32>,
}

impl Slots {
    /// A slot for a connection of `uid`, unless there are too many.
    fn take(self: &Arc<Self>, uid: u32, admin: bool) -> Option<Slot> {
        let holder = (!admin).then_some(uid);
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let others: usize = held.iter().filter(|(holder, _)| holder.is_some()).map(|(_, count)| count).sum();
        let count = held.entry(holder).or_default();
        let full = *count >= CONNECTIONS_PER_USER_MAX || !admin && others >= CONNECTIONS_MAX;
        if full {
            return None;
        }
        *count += 1;
        Some(Slot { slots: Arc::clone(self), holder })
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut held = self.slots.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = held.get_mut(&self.holder) {
            *count -= 1;
            if *count == 0 {
                held.remove(&self.holder);
            }
        }
    }
}

/// Reads one request, has it carried out if the peer may ask it, and writes the answer.
async fn converse(
    mut stream: UnixStream,
    peer: &Peer,
    at: Standpoint,
    handler: &impl Handler,
) -> io::Result<()> {
    let patience = Duration::from_secs(REQUEST_S);
    let answer = if at == Standpoint::Inside {
        tracing::warn!(pid = peer.pid, uid = peer.uid, "a process inside a job was refused");
        Err(FOLLOWED.to_owned())
    } else {
        match timeout(patience, read_request(&mut stream)).await {
            Ok(Ok(request)) => match refused(&request, peer, at, handler) {
                Some(refusal) => {
                    tracing::warn!(pid = peer.pid, uid = peer.uid, verb = request.verb(), refusal, "refused");
                    Err(refusal.to_owned())
                }
                None => handler.handle(request, peer).await,
            },
            Ok(Err(error)) => Err(format!("the request cannot be read: {error}")),
            Err(_) => Err(format!("no request within {REQUEST_S} seconds")),
        }
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
    timeout(patience, stream.write_all(&text)).await??;
    stream.shutdown().await
}

/// Why a request is refused; `None` if it is not. A process that has ended has no tag any more, so a
/// connection that it passed on to another process is refused.
fn refused(
    request: &Request,
    peer: &Peer,
    before: Standpoint,
    handler: &impl Handler,
) -> Option<&'static str> {
    let now = handler.standpoint(peer.pid);
    if !peer.alive() {
        return Some("the process that connected has ended");
    }
    // A process that was in a job when it connected, or is now, asks as one inside the job.
    [before, now].into_iter().find_map(|at| refusal(request, peer.uid, at, handler.admins()))
}

async fn read_request(stream: &mut UnixStream) -> io::Result<Request> {
    let mut line = Vec::new();
    let mut limited = BufReader::new(stream.take(REQUEST_BYTES_MAX as u64));
    limited.read_until(b'\n', &mut line).await?;
    if line.last() != Some(&b'\n') {
        let message = format!("a request is one line of at most {REQUEST_BYTES_MAX} bytes");
        return Err(io::Error::new(io::ErrorKind::InvalidData, message));
    }
    // The parser's own message would quote the line, which can hold a token.
    serde_json::from_slice(&line)
        .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, format!("column {}", error.column())))
}

fn push_line(text: &mut Vec<u8>, value: &impl Serialize) -> io::Result<()> {
    serde_json::to_writer(&mut *text, value)?;
    text.push(b'\n');
    Ok(())
}
