//! Sockets in other network namespaces. Each namespace has its own 127.0.0.1, so the agent listens inside
//! each job's namespace, and dials from there.
//!
//! A socket stays in the namespace where it was created. So only the creation happens on a thread that has
//! entered the namespace; that thread ends right after and is never one of the runtime's.

use std::{fs::File, io, net::SocketAddr, os::fd::AsFd, path::Path, sync::Arc};

use rustix::thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space, unshare_unsafe};
use socket2::{Domain, Protocol, Socket, Type};

use super::{addresses::netns_cookie, process::proc_dir};

/// A network namespace, held by an open descriptor.
#[derive(Clone)]
pub struct Netns {
    file: Arc<File>,
    /// The kernel's cookie for it (`SO_NETNS_COOKIE`).
    pub cookie: u64,
    /// It is the agent's own namespace.
    own: bool,
}

impl Netns {
    /// The namespace that process `pid` is in.
    pub fn of(pid: u32) -> io::Result<Self> {
        Self::open(&proc_dir(pid).join("ns/net"))
    }

    /// A new namespace that no process is in.
    pub fn fresh() -> io::Result<Self> {
        std::thread::scope(|scope| {
            let made = scope.spawn(|| {
                own_namespace(UnshareFlags::NEWNET)?;
                Self::open(Path::new("/proc/thread-self/ns/net"))
            });
            made.join().unwrap_or_else(|_| Err(io::Error::other("the namespace's thread panicked")))
        })
    }

    fn open(path: &Path) -> io::Result<Self> {
        use std::os::unix::fs::MetadataExt;
        let file = File::open(path)?;
        let ours = std::fs::metadata("/proc/self/ns/net")?;
        let theirs = file.metadata()?;
        let own = (ours.dev(), ours.ino()) == (theirs.dev(), theirs.ino());
        let file = Arc::new(file);
        let made = inside(&file, own, || Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP)))?;
        Ok(Self { cookie: netns_cookie(&made)?, file, own })
    }

    /// Whether it is the agent's own namespace.
    pub fn is_agents(&self) -> bool {
        self.own
    }

    /// Runs `make` in this namespace.
    pub(super) fn inside<T: Send>(&self, make: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
        inside(&self.file, self.own, make)
    }

    /// A non-blocking TCP socket in this namespace, for dialling `to`.
    pub fn socket_for(&self, to: SocketAddr) -> io::Result<Socket> {
        self.inside(|| socket_here(to))
    }
}

/// A non-blocking TCP socket in the calling thread's namespace, for dialling `to`.
pub fn socket_here(to: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(to), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_nonblocking(true)?;
    socket.set_tcp_nodelay(true)?;
    Ok(socket)
}

/// Moves the calling thread into a new namespace of this kind.
pub fn own_namespace(kind: UnshareFlags) -> io::Result<()> {
    // SAFETY: the function's conditions concern sharing of descriptor tables (FILES), which are not
    // namespaces.
    #[allow(unsafe_code, reason = "the safe wrapper is deprecated")]
    unsafe { unshare_unsafe(kind) }?;
    Ok(())
}

/// Runs `make` in the namespace: on a thread of its own, unless it is the agent's own namespace.
fn inside<T: Send>(netns: &File, own: bool, make: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
    if own {
        return make();
    }
    std::thread::scope(|scope| {
        let entered = scope.spawn(|| {
            move_into_link_name_space(netns.as_fd(), Some(LinkNameSpaceType::Network))?;
            make()
        });
        entered.join().unwrap_or_else(|_| Err(io::Error::other("the namespace's thread panicked")))
    })
}
