//! A port forwarder outside every job, as an `ssh -L` on the host would be: another address that leads to a
//! server.

use std::{
    io,
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

/// A forwarder; it works until the process that made it ends.
pub struct Forwarder {
    address: SocketAddr,
    connections: Arc<AtomicUsize>,
}

impl Forwarder {
    /// Listens at a port of the system's choice and forwards every connection to `upstream`.
    pub fn to(upstream: &str) -> anyhow::Result<Self> {
        Self::from("127.0.0.1:0", upstream)
    }

    /// Listens at an address of the calling thread's network namespace and forwards every connection to
    /// `upstream`.
    pub fn from(address: &str, upstream: &str) -> anyhow::Result<Self> {
        let listener = TcpListener::bind(address)?;
        let address = listener.local_addr()?;
        let connections = Arc::new(AtomicUsize::new(0));
        let (counted, upstream) = (Arc::clone(&connections), upstream.to_owned());
        thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                counted.fetch_add(1, Ordering::SeqCst);
                let _ = forward(client, &upstream);
            }
        });
        Ok(Self { address, connections })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// How many connections it has accepted so far.
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

fn forward(client: TcpStream, upstream: &str) -> io::Result<()> {
    let upstream = TcpStream::connect(upstream)?;
    let copy = |mut from: TcpStream, mut to: TcpStream| {
        thread::spawn(move || {
            let _ = io::copy(&mut from, &mut to);
            let _ = to.shutdown(Shutdown::Write);
        });
    };
    copy(client.try_clone()?, upstream.try_clone()?);
    copy(upstream, client);
    Ok(())
}
