//! Sends events to the agent. A full ring loses the wake-up only: the event is counted as lost, and the maps
//! hold what it was about.

use agent_abi::{Event, EventKind, Refusal, TaskTag, stat};

use crate::{maps::EVENTS, words::count};

/// Tells the agent of a fork, exec, exit or enrolment.
#[inline(always)]
pub fn tell(kind: EventKind, tgid: u32, job: u64, node: u64, detail: u64) {
    send(&Event { kind: kind as u32, tgid, job, node, detail, address: [0; 4], port: 0, reserved: 0 });
}

/// Counts a refusal and tells the agent of it. `tag` is the tag that the refused call ran under.
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
