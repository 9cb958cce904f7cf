//! Sends events to the agent. An event that finds the ring full is counted as lost. The maps hold what a lost
//! fork, exec, exit or enrolment changed; of a lost refusal only its count in `STATS` is left.

use agent_abi::{Event, EventKind, Refusal, TaskTag, stat};

use crate::{maps::EVENTS, words::count};

/// Tells the agent of a fork, exec, exit or enrolment. The parameters are the fields of [`Event`].
#[inline(always)]
pub fn tell(kind: EventKind, tgid: u32, job: u64, node: u64, detail: u64) {
    send(&Event { kind: kind as u32, tgid, job, node, detail, address: [0; 4], port: 0, reserved: 0 });
}

/// Counts a refusal and tells the agent of it. `tag` is the tag that the refused call ran under; [`Event`]
/// says what `address` and `port` are.
#[inline(always)]
pub fn refused(why: Refusal, tag: &TaskTag, tgid: u32, address: [u32; 4], port: u32) {
    count(why as u32);
    send(&Event {
        kind: EventKind::Refused as u32,
        tgid,
        job: tag.job,
        node: tag.node,
        detail: why as u64,
        address,
        port,
        reserved: 0,
    });
}

#[inline(always)]
fn send(event: &Event) {
    if EVENTS.output::<Event>(event, 0).is_err() {
        count(stat::EVENTS_LOST);
    }
}
