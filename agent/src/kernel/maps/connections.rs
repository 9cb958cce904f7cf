//! Redirected connections: their flows, the agent's listeners, and the lease without which every connection
//! is refused.

use std::{os::fd::AsRawFd, time::Duration};

use agent_abi::{Flow, FlowKey, Listener, SOCKET_LISTENS, SocketTag, word};
use aya::maps::MapError;

use super::{
    super::error::KernelError,
    tables::{Kernel, locked},
};

impl Kernel {
    /// The flow of an accepted connection. It is removed: a second call finds none.
    pub fn take_flow(&self, key: &FlowKey) -> Option<Flow> {
        let mut flows = locked(&self.flows);
        let flow = flows.get(key, 0).ok()?;
        flows.remove(key).ok()?;
        Some(flow)
    }

    /// Drops flows whose connection never reached the agent; returns how many.
    pub fn sweep_flows(&self, older_than: Duration) -> usize {
        let deadline = monotonic_ns().saturating_sub(older_than.as_nanos() as u64);
        let mut flows = locked(&self.flows);
        let old: Vec<FlowKey> = flows
            .iter()
            .filter_map(Result::ok)
            .filter(|(_, flow)| flow.time_ns < deadline)
            .map(|(key, _)| key)
            .collect();
        old.iter().filter(|key| flows.remove(key).is_ok()).count()
    }

    /// Marks a socket as the agent's listener: connections are redirected to no other.
    pub fn mark_listener(&self, socket: &impl AsRawFd) -> Result<(), KernelError> {
        let tag = SocketTag {
            job: 0,
            node: 0,
            tgid: 0,
            uid: 0,
            state: SOCKET_LISTENS,
            port: 0,
            address: [0; 4],
            flags: 0,
            reserved: 0,
        };
        locked(&self.sockets).insert(socket, tag, 0).map_err(KernelError::map("add to", "SOCKETS"))
    }

    /// Announces the agent's listener in a network namespace: connections there are redirected from now on.
    pub fn set_listener(&self, netns: u64, listener: Listener) -> Result<(), KernelError> {
        locked(&self.listeners).insert(netns, listener, 0).map_err(|error| match error {
            MapError::SyscallError(error) if error.io_error.raw_os_error() == Some(libc::E2BIG) => {
                KernelError::TooManyNamespaces { most: self.namespaces_max }
            }
            error => KernelError::map("add to", "LISTENERS")(error),
        })
    }

    /// Withdraws the agent's listener in a network namespace: connections there are refused from now on.
    pub fn remove_listener(&self, netns: u64) {
        let _ = locked(&self.listeners).remove(&netns);
    }

    /// Says that the agent is alive, for `duration` from now.
    pub fn renew_lease(&self, duration: Duration) -> Result<(), KernelError> {
        let until = monotonic_ns() + duration.as_nanos() as u64;
        locked(&self.words).set(word::LEASE, until, 0).map_err(KernelError::map("write", "WORDS"))
    }

    /// Gives up the lease: connections of followed processes are refused from now on, until another agent
    /// takes over.
    pub fn end(&self) {
        let _ = locked(&self.words).set(word::LEASE, 0, 0);
        let followed = self.tag_count();
        if followed > 0 {
            tracing::warn!(
                followed,
                "processes are still followed; their connections are refused until an agent runs again \
                 (`lineal detach` lets them go)"
            );
        }
    }
}

fn monotonic_ns() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}
