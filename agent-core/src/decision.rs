//! What policy answers.

use serde::Serialize;

/// The answer to one command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// What happens to the command.
    pub verdict: Verdict,
    /// The policies that decided, by their names in the bundle; empty when no policy spoke, which denies.
    pub policies: Vec<Box<str>>,
    /// One sentence for the person who reads the error or the trail.
    pub reason: Box<str>,
    /// It is recorded and not enforced: the bundle, or each policy that denies, is only observed.
    pub observed: bool,
}

impl Decision {
    /// A denial that no policy had a say in, and that is enforced.
    pub fn denied(reason: impl Into<Box<str>>) -> Self {
        Self { verdict: Verdict::Deny, policies: Vec::new(), reason: reason.into(), observed: false }
    }

    /// Whether the command goes on.
    pub fn passes(&self) -> bool {
        self.verdict == Verdict::Allow || self.observed
    }
}

/// What happens to a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// It is forwarded.
    Allow,
    /// It is refused, and the session goes on where its protocol can express that.
    Deny,
    /// It waits for a human.
    Hold,
}
