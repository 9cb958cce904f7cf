//! What names, and text, mean to the upstream at the moment of a question: the executor looks here for what
//! SQL `EXECUTE` and `FETCH` run.

use super::{
    encoding::Encoding,
    namespace::{Lookup, Namespace},
    state::Session,
    statements::{Candidates, Portal, Statement},
};

/// The names that the protocol gave a meaning, as they stand for the message that is asked about, and the
/// encoding that the upstream keeps names in.
#[derive(Clone, Copy, Debug)]
pub struct Meanings<'a> {
    statements: &'a Namespace<Statement>,
    portals: &'a Namespace<Portal>,
    segment: u64,
    encoding: Encoding,
}

/// What a name means can't be known before the upstream has answered what was sent earlier. The executor
/// calls [`Session::postpone`] in place of giving a ruling.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unsettled;

impl<'a> Meanings<'a> {
    pub(super) fn of(session: &'a Session) -> Self {
        let Session { statements, portals, segment, .. } = session;
        Self { statements, portals, segment: *segment, encoding: session.settings.server_encoding }
    }

    /// The statement that Parse left under this name; `None` if there is none. SQL `PREPARE` may have made
    /// another since.
    ///
    /// # Errors
    /// It is not known yet.
    pub fn statement(&self, name: &str) -> Result<Option<&'a Statement>, Unsettled> {
        known(self.statements, name, self.segment)
    }

    /// What the portal that Bind made under this name may run; `None` if there is none. SQL `DECLARE` may
    /// have made a cursor of that name since.
    ///
    /// # Errors
    /// It is not known yet.
    pub fn portal(&self, name: &str) -> Result<Option<Candidates<'a>>, Unsettled> {
        Ok(known(self.portals, name, self.segment)?.map(Portal::candidates))
    }

    /// The encoding that the upstream keeps names in, and cuts them by.
    pub fn encoding(&self) -> Encoding {
        self.encoding
    }
}

fn known<'a, V: Clone>(
    names: &'a Namespace<V>,
    name: &str,
    segment: u64,
) -> Result<Option<&'a V>, Unsettled> {
    match names.look_up(name.as_bytes(), segment) {
        Lookup::Known { value, .. } => Ok(Some(value)),
        Lookup::Absent => Ok(None),
        Lookup::Unsettled => Err(Unsettled),
    }
}
