//! The connection to a session's upstream. It takes the session's admission: nothing is dialled before the
//! decision that the session may begin is on record.

use std::{io, time::Duration};

use agent_core::ruling::Admission;
use socket2::{SockRef, Socket};
use tokio::net::{TcpSocket, TcpStream};

use super::Session;
use crate::{kernel::netns::socket_here, proxy::stream::keep_alive};

impl Session {
    /// Dials the destination from the network namespace that the job is in.
    pub async fn dial(&self, _: &Admission) -> io::Result<TcpStream> {
        self.connect(self.netns.socket_for(self.destination)?).await
    }

    /// Dials the destination from the agent's own network namespace.
    pub async fn dial_from_agent(&self, _: &Admission) -> io::Result<TcpStream> {
        self.connect(socket_here(self.destination)?).await
    }

    #[expect(clippy::disallowed_methods, reason = "the one place that dials")]
    async fn connect(&self, socket: Socket) -> io::Result<TcpStream> {
        keep_alive(SockRef::from(&socket), &self.proxy.parts.limits)?;
        let socket = TcpSocket::from_std_stream(socket.into());
        let patience = Duration::from_secs(self.proxy.parts.limits.dial_s);
        tokio::time::timeout(patience, socket.connect(self.destination))
            .await
            .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
    }
}
