//! What policy answers.

use serde::Serialize;

/// The answer to one command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// What happens to the command.
    pub effect: Effect,
    /// The policies that decided, by their names in the bundle. Empty if no policy applied, which denies.
    pub policies: Vec<Box<str>>,
    /// One sentence for the person who reads the error or the trail.
    pub reason: Box<str>,
    /// The decision is recorded and not enforced, because the bundle, or each policy that denies, is in
    /// observe mode.
    pub observed: bool,
}

impl Decision {
    /// A denial that no policy had a say in, and that is enforced.
    pub fn denied(reason: impl Into<Box<str>>) -> Self {
        Self { effect: Effect::Deny, policies: Vec::new(), reason: reason.into(), observed: false }
    }

    /// Whether the command is carried out.
    pub fn passes(&self) -> bool {
        self.effect == Effect::Allow || self.observed
    }
}

/// What happens to a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Effect {
    /// It is forwarded.
    Allow,
    /// It is refused, and the session continues where its protocol can express that.
    Deny,
    /// It waits for a human.
    Hold,
}

impl Effect {
    /// Its name in the audit trail and in reports.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Deny => "deny",
            Self::Hold => "hold",
        }
    }
}
