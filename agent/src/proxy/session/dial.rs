//! The connection to a session's upstream. It takes the session's admission: nothing is sent before the
//! decision that the session may begin is on record.

use std::{io, time::Duration};

use agent_core::ruling::Admission;
use tokio::net::TcpStream;

use super::Session;
use crate::proxy::reach::{Origin, REACHABLE, reach};

impl Session {
    /// The connection to the destination: the one that was made ahead of the session, or a new one.
    pub async fn dial(&self, origin: Origin, admission: &Admission) -> io::Result<TcpStream> {
        if let Some(reached) = self.take_reached(origin) {
            return TcpStream::from_std(reached.admit(admission));
        }
        let limits = &self.proxy.parts.limits;
        let reached = reach(origin, &self.netns, self.destination, limits);
        let reached = tokio::time::timeout(Duration::from_secs(limits.dial_s), reached)
            .await
            .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))?;
        self.proxy.parts.kernel.set_reachable(self.netns.cookie, self.destination, REACHABLE);
        TcpStream::from_std(reached.admit(admission))
    }
}
