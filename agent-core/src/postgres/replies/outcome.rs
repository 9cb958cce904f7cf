//! How a command ended, by the replies that its entry in the queue got.

use super::{
    expect::Expect,
    queue::Replies,
    reply::{Answered, Fate},
};
use crate::postgres::event::{Ending, Outcome};

/// The outcome of an entry that has left the queue; `None` if no question was asked about its message.
pub(in crate::postgres) fn outcome(expect: &Expect, answered: Answered, fate: Fate) -> Option<Outcome> {
    let command = expect.command()?;
    let (rows, bytes, tag) = (answered.rows(), answered.bytes, answered.tag);
    let ending = match (fate, answered.error, expect.poison()) {
        (Fate::Skipped, ..) => Ending::Skipped,
        (_, Some(_), Some(_)) => Ending::Denied,
        (_, Some(error), None) => Ending::Error(error),
        (Fate::Suspended, None, _) => Ending::Suspended,
        (Fate::Answered, None, _) => Ending::Complete,
    };
    Some(Outcome { command, ending, rows, bytes, tag })
}

impl Replies {
    /// Empties the queue, because no answer will come any more. Every command in it ends unknown.
    pub(in crate::postgres) fn abandon(&mut self) -> Vec<Outcome> {
        let mut answered = std::mem::take(&mut self.front);
        let mut outcomes = Vec::new();
        for expect in std::mem::take(&mut self.queue) {
            let Answered { bytes, tag, .. } = answered;
            let rows = answered.rows();
            if let Some(command) = expect.command() {
                outcomes.push(Outcome { command, ending: Ending::Unknown, rows, bytes, tag });
            }
            answered = Answered::default();
        }
        outcomes
    }
}
