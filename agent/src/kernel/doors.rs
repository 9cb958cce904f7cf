//! The agent's listening sockets in a network namespace: for each address family one that it accepts at, and
//! one whose queue is full for good. `agent-ebpf/src/door.rs` says what the second one is for.
//!
//! Nobody else may join the pair. So the port is bound exclusively, then announced, which keeps everybody
//! else off it, and only then shared with the second socket.

use std::{
    io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener},
    os::fd::AsFd,
    sync::Arc,
};

use agent_abi::{Door as Entry, Listener};
use socket2::{Domain, Protocol, Socket, Type};

use super::{addresses::socket_cookie, error::KernelError, maps::Kernel, netns::Netns, sys};

/// Connections that may wait for the agent to accept them, per namespace.
const BACKLOG: i32 = 4_096;

/// A bound port, at which nothing listens yet.
struct Closed {
    at: SocketAddr,
    socket: Socket,
}

/// The agent's listener for one address family in one network namespace.
pub struct Door {
    /// Where the agent accepts.
    pub listener: TcpListener,
    /// The family: 4 or 6.
    pub family: u32,
    /// Everything that the door needs while it is open; taken down with it.
    pub open: Open,
}

/// What a door consists of, besides the socket that the agent accepts at.
pub struct Open {
    kernel: Arc<Kernel>,
    entrance: u32,
    cookies: [u64; 2],
    /// The socket whose queue is full, and the connection that fills it.
    _full: (Socket, Socket),
}

impl Drop for Open {
    fn drop(&mut self) {
        self.kernel.remove_door(self.entrance, &self.cookies);
    }
}

impl Kernel {
    /// Opens the agent's listeners on 127.0.0.1 and, where the namespace has IPv6, on ::1, and announces
    /// them. `pid` is for words of an error.
    pub fn open_doors(self: &Arc<Self>, netns: &Netns, pid: u32) -> Result<Vec<Door>, KernelError> {
        let failed = |source| KernelError::Netns { pid, source };
        let bound = netns.inside(|| {
            let v4 = bind(Ipv4Addr::LOCALHOST.into())?;
            Ok((v4, bind(Ipv6Addr::LOCALHOST.into()).ok()))
        });
        let (v4, v6) = bound.map_err(failed)?;
        let port_v6 = v6.as_ref().map_or(0, |v6| v6.at.port());
        self.set_listener(netns.cookie, Listener { port_v4: v4.at.port(), port_v6 })?;
        let opened: Result<Vec<Door>, KernelError> =
            [Some(v4), v6].into_iter().flatten().map(|closed| self.open_door(netns, pid, closed)).collect();
        if opened.is_err() {
            self.remove_listener(netns.cookie);
        }
        opened
    }

    fn open_door(
        self: &Arc<Self>,
        netns: &Netns,
        pid: u32,
        Closed { at, socket: full }: Closed,
    ) -> Result<Door, KernelError> {
        let failed = |source| KernelError::Netns { pid, source };
        let (filling, accepting) = netns.inside(|| Ok((fill(&full, at)?, socket(at)?))).map_err(failed)?;
        let program = self.door.as_ref().ok_or(KernelError::Missing("lineal_door"))?;
        sys::attach_to_reuseport(program.as_fd(), full.as_fd()).map_err(failed)?;
        let cookies = [socket_cookie(&full).map_err(failed)?, socket_cookie(&accepting).map_err(failed)?];
        let family = if at.is_ipv4() { 4 } else { 6 };
        let entrance = self.take_entrance()?;
        let open = Open { kernel: Arc::clone(self), entrance, cookies, _full: (full, filling) };
        for cookie in cookies {
            self.add_door(cookie, Entry { netns: netns.cookie, listener: family, entrance })?;
        }
        self.set_entrance(entrance + 1, &open._full.0)?;
        // Marked, or the program on `bind` would keep it off the announced port.
        self.mark_listener(&accepting)?;
        accepting.set_reuse_port(true).map_err(failed)?;
        accepting.bind(&at.into()).map_err(failed)?;
        accepting.listen(BACKLOG).map_err(failed)?;
        accepting.set_nonblocking(true).map_err(failed)?;
        self.set_entrance(entrance, &accepting)?;
        // Last: from here on connections are redirected to the pair, whichever of the two a look-up finds.
        self.mark_listener(&open._full.0)?;
        Ok(Door { listener: accepting.into(), family, open })
    }
}

/// Binds a free port of an address, exclusively.
fn bind(address: std::net::IpAddr) -> io::Result<Closed> {
    let socket = socket((address, 0).into())?;
    socket.bind(&SocketAddr::from((address, 0)).into())?;
    let at = socket.local_addr()?.as_socket().ok_or(io::ErrorKind::AddrNotAvailable)?;
    Ok(Closed { at, socket })
}

fn socket(at: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(at), Type::STREAM, Some(Protocol::TCP))?;
    if at.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    Ok(socket)
}

/// Has a bound socket listen, and fills its queue: a queue for no connection takes one. Returns that
/// connection's other end.
fn fill(full: &Socket, at: SocketAddr) -> io::Result<Socket> {
    full.set_reuse_port(true)?;
    full.listen(0)?;
    let filling = socket(at)?;
    filling.connect(&at.into())?;
    Ok(filling)
}
