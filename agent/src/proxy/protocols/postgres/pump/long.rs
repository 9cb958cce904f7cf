//! Long messages: the room that a job's sessions have for them, and the work that is done for a question
//! elsewhere.

use std::{
    sync::Arc,
    task::{Context, Poll, ready},
};

use super::{
    super::{
        later::{Done, Work},
        reading::SHORT_BYTES_MAX,
    },
    Pump,
    held::Room,
};
use crate::{bounds::Bound, proxy::session::Session};

/// The longest message that takes no room: one with a text that is read at once, and some more.
const NO_ROOM_BYTES: usize = SHORT_BYTES_MAX + (16 << 10);

impl Pump {
    /// Ready once there is room for the message of which the client's side needs so many bytes.
    pub(super) fn poll_room(&mut self, cx: &mut Context<'_>, session: &Session) -> Poll<()> {
        if self.client_needs <= NO_ROOM_BYTES {
            return Poll::Ready(());
        }
        let needed = u32::try_from(self.client_needs.div_ceil(1 << 10)).unwrap_or(u32::MAX);
        let Room { held, wait } = &mut self.room;
        if held.as_ref().is_some_and(|held| held.num_permits() >= needed as usize) {
            return Poll::Ready(());
        }
        // Nobody holds room while waiting for more: that could wait for itself.
        *held = None;
        if wait.as_ref().is_none_or(|(kib, _)| *kib != needed) {
            let room = Arc::clone(&session.job.room);
            if room.available_permits() < needed as usize {
                session.proxy.parts.metrics.bound(Bound::LongMessages).inc();
            }
            let got = async move { room.acquire_many_owned(needed).await.ok() };
            *wait = Some((needed, Box::pin(got)));
        }
        let Some((_, got)) = wait else { return Poll::Pending };
        *held = ready!(got.as_mut().poll(cx));
        *wait = None;
        self.client.make_room(self.client_needs);
        Poll::Ready(())
    }

    /// Gives room back, once nothing of a long message is left.
    pub(super) fn rest_room(&mut self) {
        if self.client_needs <= NO_ROOM_BYTES && self.working.is_none() && !self.upstream.has_output() {
            self.room = Room::default();
        }
    }

    /// Has work done for the question at hand.
    pub(super) fn work(&mut self, session: &Session, work: Work) {
        self.working = Some(Box::pin(session.proxy.aside.run(&session.job, move || work.run())));
    }

    /// Takes what came of the work, once it is done, and has the question asked again.
    pub(super) fn poll_work(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(working) = &mut self.working else { return Poll::Pending };
        let done = ready!(working.as_mut().poll(cx)).unwrap_or_else(Done::Failed);
        self.working = None;
        self.progress.add(done);
        self.machine.resume();
        self.client_waits = false;
        Poll::Ready(())
    }
}
