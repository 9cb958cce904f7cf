//! Held connections: the agent's verdicts on them, and the destinations whose connections are not held.

use std::{net::SocketAddr, time::Duration};

use agent_abi::{Destination, HeldFlow, VERDICT_GO, VERDICT_REFUSE};

use super::{
    super::addresses::destination,
    connections::monotonic_ns,
    tables::{Kernel, locked},
};

/// What becomes of a held connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It may reach the agent's listener.
    Go,
    /// It is refused.
    Refuse,
}

impl Kernel {
    /// Ends the hold of a connection, as soon as its SYN is sent again.
    pub fn give_verdict(&self, flow: &HeldFlow, verdict: Verdict) {
        let value = match verdict {
            Verdict::Go => VERDICT_GO,
            Verdict::Refuse => VERDICT_REFUSE,
        };
        if let Err(error) = locked(&self.verdicts).insert(flow, value, 0) {
            tracing::error!(%error, "a held connection stays held: there is no room for the verdict on it");
        }
    }

    /// Removes the verdict on a connection that is not held any more.
    pub fn drop_verdict(&self, flow: &HeldFlow) {
        let _ = locked(&self.verdicts).remove(flow);
    }

    /// Has connections to a destination, from the network namespace of this cookie, not held for a while. The
    /// map is full when a job tries many destinations: then they are held, which costs them little.
    pub fn set_reachable(&self, netns: u64, to: SocketAddr, duration: Duration) {
        let until = monotonic_ns() + duration.as_nanos() as u64;
        let _ = locked(&self.reachable).insert(destination(netns, to), until, 0);
    }

    /// Has connections to a destination held again.
    pub fn forget_reachable(&self, netns: u64, to: SocketAddr) {
        let _ = locked(&self.reachable).remove(&destination(netns, to));
    }

    /// Drops what no longer counts: destinations whose time is up, and verdicts on connections that are older
    /// than this.
    pub fn sweep_holds(&self, older_than: Duration) {
        let now = monotonic_ns();
        let mut reachable = locked(&self.reachable);
        let past: Vec<Destination> = reachable
            .iter()
            .filter_map(Result::ok)
            .filter(|(_, until)| *until < now)
            .map(|(to, _)| to)
            .collect();
        past.iter().for_each(|to| drop(reachable.remove(to)));
        drop(reachable);
        let deadline = now.saturating_sub(older_than.as_nanos() as u64);
        let mut verdicts = locked(&self.verdicts);
        let old: Vec<HeldFlow> =
            verdicts.keys().filter_map(Result::ok).filter(|flow| flow.time_ns < deadline).collect();
        old.iter().for_each(|flow| drop(verdicts.remove(flow)));
    }
}
