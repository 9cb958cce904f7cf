//! `lineal audit query`: finds decisions, each joined with its job, credential, process, upstream and
//! outcome.
//!
//! It reads the trail once, in order, and remembers what was alive at one time only. Where very many
//! decisions wait for one outcome, a second reader looks ahead for it.

mod args;
mod filter;
#[cfg(test)]
mod tests;

use std::{io::Write, path::Path};

pub(crate) use args::QueryArgs;

use self::filter::Filter;
use super::{
    error::ReadError,
    index::Index,
    pending::{Found, Pending},
    print,
    reader::{Lines, Step},
    row::{DecisionRow, Head, JobRow, Joined, SessionRow},
    summary::Summary,
};

/// Prints the records of the trail in `dir` that match `args`; stops when nobody reads the output any more.
pub(crate) fn query(dir: &Path, args: &QueryArgs, out: &mut dyn Write) -> Result<(), ReadError> {
    match search(dir, args, out) {
        Err(error) if error.is_reader_gone() => Ok(()),
        searched => searched,
    }
}

fn search(dir: &Path, args: &QueryArgs, out: &mut dyn Write) -> Result<(), ReadError> {
    let mut lines = Lines::open(dir)?;
    let mut search = Search {
        filter: Filter::new(args)?,
        index: Index::default(),
        pending: Pending::default(),
        found: 0,
        summary: args.summary.then(Summary::default),
    };
    loop {
        let line = match lines.step()? {
            Step::Line(line) => line,
            Step::Torn { .. } => continue,
            Step::End => break,
        };
        match search.read(line) {
            Ok(()) => {}
            Err(LineError::NotARecord(error)) => return Err(lines.bad_line(error.to_string())),
            Err(LineError::Search(error)) => return Err(error),
        }
        if search.pending.is_full() {
            search.look_ahead(&lines)?;
        }
        search.print(args.json, out)?;
        if search.is_done() {
            break;
        }
    }
    search.pending.settle_all();
    search.print(args.json, out)?;
    if let Some(summary) = &search.summary {
        summary.print(args.json, out)?;
    }
    out.flush()?;
    Ok(())
}

/// A search at one position of the trail.
struct Search<'a> {
    filter: Filter<'a>,
    index: Index,
    pending: Pending,
    /// Matches so far.
    found: u64,
    /// The counts of matching decisions, where those are asked for.
    summary: Option<Summary>,
}

/// Why a line could not be taken in.
enum LineError {
    /// The line is not a record.
    NotARecord(serde_json::Error),
    /// The search ends for another reason.
    Search(ReadError),
}

impl From<serde_json::Error> for LineError {
    fn from(error: serde_json::Error) -> Self {
        Self::NotARecord(error)
    }
}

impl From<ReadError> for LineError {
    fn from(error: ReadError) -> Self {
        Self::Search(error)
    }
}

impl Search<'_> {
    /// Takes in the trail's next line.
    fn read(&mut self, line: &[u8]) -> Result<(), LineError> {
        let head: Head<'_> = serde_json::from_slice(line)?;
        match &*head.kind {
            "decision" => {
                if self.filter.wants_kind("decision") && self.filter.in_time(&head.time) {
                    self.decision(line)?;
                }
            }
            "outcome" => {
                if !self.pending.is_empty() {
                    self.pending.outcome(serde_json::from_slice(line)?);
                }
                self.keep(&head, line);
            }
            "job" => {
                let row: JobRow = serde_json::from_slice(line)?;
                // The index forgets an ended job, so its own record is matched first.
                let ended = row.state == "ended";
                if ended {
                    self.keep(&head, line);
                }
                self.index.job(row)?;
                if !ended {
                    self.keep(&head, line);
                }
            }
            "process" => {
                self.index.process(serde_json::from_slice(line)?)?;
                self.keep(&head, line);
            }
            "session" => {
                let row: SessionRow = serde_json::from_slice(line)?;
                // The index forgets a closed session, so its own record is matched first.
                if let SessionRow::Closed { session } = &row {
                    self.pending.session_closed(session);
                    self.keep(&head, line);
                    self.index.session(row)?;
                } else {
                    self.index.session(row)?;
                    self.keep(&head, line);
                }
            }
            _ => self.keep(&head, line),
        }
        Ok(())
    }

    /// Keeps a decision, or counts it, if it matches.
    fn decision(&mut self, line: &[u8]) -> Result<(), LineError> {
        let row: DecisionRow = serde_json::from_slice(line)?;
        let origin = self.index.origin(&row.session);
        if !self.has_room() || !self.filter.matches_decision(&row, &origin) {
            return Ok(());
        }
        if let Some(summary) = &mut self.summary {
            summary.add(&row, &origin);
            return Ok(());
        }
        self.found += 1;
        let joined = Box::new(Joined { decision: row, origin, outcome: None });
        self.pending.push(Found::Decision(joined), line.len());
        Ok(())
    }

    /// Keeps a record of another kind than a decision, if it matches.
    fn keep(&mut self, head: &Head<'_>, line: &[u8]) {
        if self.has_room()
            && self.filter.wants_kind(&head.kind)
            && self.filter.in_time(&head.time)
            && self.filter.matches_line(line, &mut self.index)
        {
            self.found += 1;
            self.pending.push(Found::Line(line.to_vec()), line.len());
        }
    }

    fn has_room(&self) -> bool {
        self.filter.limit.is_none_or(|limit| self.found < limit)
    }

    fn is_done(&self) -> bool {
        !self.has_room() && self.pending.is_empty()
    }

    /// Reads on past the search's position until every waiting decision is settled.
    fn look_ahead(&mut self, lines: &Lines) -> Result<(), ReadError> {
        let mut ahead = lines.fork()?;
        while !self.pending.is_settled() {
            let line = match ahead.step()? {
                Step::Line(line) => line,
                Step::Torn { .. } => continue,
                Step::End => break,
            };
            if let Err(error) = self.read_ahead(line) {
                return Err(ahead.bad_line(error.to_string()));
            }
        }
        self.pending.settle_all();
        Ok(())
    }

    /// Takes from a line ahead of the search only what settles decisions.
    fn read_ahead(&mut self, line: &[u8]) -> serde_json::Result<()> {
        let head: Head<'_> = serde_json::from_slice(line)?;
        match &*head.kind {
            "outcome" => self.pending.outcome(serde_json::from_slice(line)?),
            "session" => {
                if let SessionRow::Closed { session } = serde_json::from_slice(line)? {
                    self.pending.session_closed(&session);
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// Prints the matches that are settled.
    fn print(&mut self, json: bool, out: &mut dyn Write) -> Result<(), ReadError> {
        while let Some(found) = self.pending.pop() {
            match found {
                Found::Decision(joined) if json => {
                    serde_json::to_writer(&mut *out, &joined.json()).map_err(std::io::Error::from)?;
                    out.write_all(b"\n")?;
                }
                Found::Decision(joined) => print::decision(&joined, out)?,
                Found::Line(line) if json => {
                    out.write_all(&line)?;
                    out.write_all(b"\n")?;
                }
                Found::Line(line) => print::line(&line, out)?,
            }
        }
        Ok(())
    }
}
