//! What [`analyze`](crate::analyze) finds out about one SQL text.

use agent_core::facts::{Access, Action, Detail, Facts, SqlFacts, SqlResource};

use crate::parameters::ByParameters;

/// How many deallocated names of a text are listed.
pub const DEALLOCATES_MAX: usize = 64;

/// The facts of one SQL text, and the prepared statements and cursors that it names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Analysis {
    /// The facts of the whole text, whatever the values of its parameters.
    pub facts: Facts,
    /// The facts by the values of its parameters, if they differ.
    pub parameters: Option<Box<ByParameters>>,
    /// The statements that the text prepares: their names, and the facts of executing them.
    pub prepares: Vec<(Box<str>, Facts)>,
    /// The names of the prepared statements that the text executes.
    pub executes: Vec<Box<str>>,
    /// The names of the cursors that the text fetches from or moves. The protocol's named portals are
    /// cursors, too.
    pub fetches: Vec<Box<str>>,
    /// The names of the prepared statements that the text deallocates, in its order; those of `DEALLOCATE
    /// ALL` are not listed. Empty if the answers to the text could be about other names: if there are more
    /// than [`DEALLOCATES_MAX`], if the text executes a prepared statement, which may deallocate itself, or
    /// if a name is long or not ASCII, for the server cuts such names by its own encoding.
    pub deallocates: Vec<Box<str>>,
    /// Why the text is `sql:unparsed`; `None` if it is not. May quote the text.
    pub unparsed: Option<Box<str>>,
    /// Which of lineal's bounds the text exceeds, and what its sender can do, if that is why it is
    /// `sql:unparsed`. Does not quote the text.
    pub exceeds: Option<Box<str>>,
}

impl Analysis {
    /// The analysis of a text that is `sql:unparsed` for this reason. Nothing is known of its content, so
    /// every flag has the value that policies are more likely to deny.
    pub fn unparsed(reason: &str) -> Self {
        let sql = SqlFacts { writes_in_cte: true, locks_tables: true, ..SqlFacts::default() };
        let access = Access { action: Action::SqlUnparsed, resource: SqlResource::Database.into() };
        Self {
            facts: Facts { accesses: vec![access], detail: Some(Detail::Sql(sql)), barred: None },
            parameters: None,
            prepares: Vec::new(),
            executes: Vec::new(),
            fetches: Vec::new(),
            deallocates: Vec::new(),
            unparsed: Some(reason.into()),
            exceeds: None,
        }
    }

    /// The analysis of a text that exceeds a bound, in these words.
    pub(crate) fn beyond(bound: &str) -> Self {
        Self { exceeds: Some(bound.into()), ..Self::unparsed(bound) }
    }
}
