//! How a session ends that does not end by itself: who is told what, and in which order the two connections
//! go.

use std::time::Duration;

use agent_core::postgres::Violation;

use super::{
    super::{
        cancel,
        refusal::{message, sqlstate},
    },
    Pump,
};
use crate::{
    bounds::Bound,
    proxy::{
        Proxy,
        session::{
            Session,
            ended::{Ended, Refusal},
        },
        stream::{Side, Upstream},
    },
};

/// How long the agent tries to end what a session runs, or its place at the server, when it cuts the session.
const CANCEL: Duration = Duration::from_secs(2);

impl Pump {
    /// Ends what is under way: the client is told why, what runs is cancelled, both connections end.
    pub(super) async fn cut(mut self: Box<Self>, session: &Session, refusal: &Refusal) -> Ended {
        let idle = self.is_idle();
        // A cancel request costs the server a process. A server that owes no answer runs nothing to cancel.
        let runs = self.machine.awaited() > 0;
        self.put_goodbye(refusal);
        self.client.flush_last();
        self.account(session);
        let Self { upstream, mut client, key, .. } = *self;
        let told = async {
            if !client.ended {
                client.linger().await;
            }
        };
        if idle {
            tokio::join!(told, close_idle(upstream, &session.proxy));
            return refusal.why;
        }
        // Before the cancel: a server that has lost its client runs nothing of what else it was sent.
        upstream.reset();
        let cancelled = async {
            if let Some(registration) = key.filter(|_| runs) {
                let _ = tokio::time::timeout(CANCEL, cancel::send(session, &registration.cancellable)).await;
            }
        };
        tokio::join!(told, cancelled);
        refusal.why
    }

    /// The client or the upstream broke the protocol.
    pub(super) async fn break_off(mut self: Box<Self>, session: &Session, violation: &Violation) -> Ended {
        tracing::warn!(%violation, "a session was ended");
        if self.machine.at_boundary() {
            self.client.answer(&violation.to_client());
        }
        self.upstream.drop_output();
        self.finish(session, Ended::ProtocolViolation).await
    }

    /// Tells the client why it ends, if a message of the server isn't half-way through.
    pub(super) async fn say_goodbye(mut self: Box<Self>, session: &Session, refusal: &Refusal) -> Ended {
        self.put_goodbye(refusal);
        self.finish(session, refusal.why).await
    }

    fn put_goodbye(&mut self, refusal: &Refusal) {
        // Nothing more goes to the server, however well it was decided.
        self.upstream.drop_output();
        if let Some(goodbye) = self.machine.terminate(sqlstate(refusal.why), &message(refusal)) {
            self.client.answer(&goodbye);
        }
    }

    /// Records that what was sent and not answered ends unknown.
    fn account(&mut self, session: &Session) {
        self.machine.finish();
        self.take_events(session);
    }

    /// Writes what can be written at once; the rest is lost. Then lets the client read it.
    pub(super) async fn finish(mut self: Box<Self>, session: &Session, ended: Ended) -> Ended {
        self.upstream.flush_last();
        self.client.flush_last();
        self.account(session);
        drop(self.upstream);
        if !self.client.ended {
            self.client.linger().await;
        }
        ended
    }
}

/// Ends a session at a server that has nothing to do for it. A server's process takes longer to end than a
/// client takes to be told: of many sessions that end at once all clients are told first.
async fn close_idle(mut upstream: Side<Upstream>, proxy: &Proxy) {
    let orderly = async {
        let _turn = match proxy.closings.try_acquire() {
            Ok(turn) => Ok(turn),
            Err(_) => {
                proxy.parts.metrics.bound(Bound::Closings).inc();
                proxy.closings.acquire().await
            }
        };
        upstream.linger().await;
    };
    let _ = tokio::time::timeout(CANCEL, orderly).await;
}
