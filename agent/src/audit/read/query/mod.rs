//! `lineal audit query`: finds decisions, each joined with its job, credential, process, upstream and outcome.
//!
//! It reads the trail once, in order, in memory bounded by what was alive at one time. Only where very many
//! decisions wait for one outcome does a second reader look ahead for it.

use std::io::Write;
use std::path::{Path, PathBuf};

use agent_core::audit::timestamp;
use clap::{Args, ValueEnum};
use serde::de::DeserializeOwned;

use super::error::TrailError;
use super::index::Index;
use super::pending::{Found, Pending};
use super::print;
use super::reader::{Lines, Step};
use super::row::{DecisionRow, Head, JobRow, Joined, Origin, OutcomeRow, SessionRow};
use super::summary::Summary;

/// Searches the audit trail.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct QueryArgs {
    /// The trail's directory, or a copy of it [default: the configured one]
    #[arg(long, value_name = "DIR")]
    pub(crate) dir: Option<PathBuf>,
    /// One JSON object a line
    #[arg(long)]
    pub(crate) json: bool,
    /// Only this job, by id or name
    #[arg(long, value_name = "JOB")]
    pub(crate) job: Option<String>,
    /// Only jobs of this credential's subject
    #[arg(long, value_name = "SUBJECT")]
    pub(crate) subject: Option<String>,
    /// Only this session
    #[arg(long, value_name = "ID")]
    pub(crate) session: Option<String>,
    /// Only commands decided so
    #[arg(long, value_name = "DECISION")]
    pub(crate) decision: Option<DecisionFilter>,
    /// Only commands that passed because they were only observed, and would be denied
    #[arg(long)]
    pub(crate) would_deny: bool,
    /// How many there are of each sort, most first, instead of each
    #[arg(long, conflicts_with_all = ["kind", "limit"])]
    pub(crate) summary: bool,
    /// Records of this kind instead of decisions, as they were written; may be repeated
    #[arg(long, value_name = "KIND")]
    pub(crate) kind: Vec<Kind>,
    /// Not before: RFC 3339 (2026-01-31T12:00:00Z), a date, or an age (90s, 15m, 2h, 7d)
    #[arg(long, value_name = "TIME")]
    pub(crate) since: Option<String>,
    /// Before: the same forms
    #[arg(long, value_name = "TIME")]
    pub(crate) until: Option<String>,
    /// Only commands whose text contains this, in any case
    #[arg(long, value_name = "TEXT")]
    pub(crate) text: Option<String>,
    /// The first so many
    #[arg(long, value_name = "N")]
    pub(crate) limit: Option<u64>,
}

/// The answers a command can get.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum DecisionFilter {
    /// Allowed.
    Allow,
    /// Denied.
    Deny,
    /// Held.
    Hold,
}

impl DecisionFilter {
    const fn name(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Deny => "deny",
            Self::Hold => "hold",
        }
    }
}

/// The kinds of records.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Kind {
    Job,
    Process,
    Session,
    Decision,
    Outcome,
    Approval,
    Revocation,
    Bundle,
    Agent,
    Checkpoint,
}

impl Kind {
    fn is(self, kind: &str) -> bool {
        self.to_possible_value().is_some_and(|value| value.get_name() == kind)
    }
}

/// Prints what `args` asks for of the trail in `dir`; stops when no one reads the output any more.
pub(crate) fn query(dir: &Path, args: &QueryArgs, out: &mut dyn Write) -> Result<(), TrailError> {
    match search(dir, args, out) {
        Err(error) if error.is_reader_gone() => Ok(()),
        searched => searched,
    }
}

fn search(dir: &Path, args: &QueryArgs, out: &mut dyn Write) -> Result<(), TrailError> {
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
            Step::Torn(_) => continue,
            Step::End => break,
        };
        if let Err(reason) = search.read(line)? {
            return Err(lines.bad_line(reason));
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

struct Search<'a> {
    filter: Filter<'a>,
    index: Index,
    pending: Pending,
    found: u64,
    /// What decisions come to, where each is not asked for.
    summary: Option<Summary>,
}

/// The inner error says what is wrong with the line; the outer one is the search's own.
type Read = Result<Result<(), String>, TrailError>;

macro_rules! parse {
    ($line:expr) => {
        match parse($line) {
            Ok(row) => row,
            Err(reason) => return Ok(Err(reason)),
        }
    };
}

impl Search<'_> {
    fn read(&mut self, line: &[u8]) -> Read {
        let head: Head<'_> = match serde_json::from_slice(line) {
            Ok(head) => head,
            Err(error) => return Ok(Err(error.to_string())),
        };
        match &*head.kind {
            "decision" if self.filter.wants("decision") && self.filter.in_time(&head.time) => {
                let row: DecisionRow = parse!(line);
                let origin = self.index.origin(&row.session);
                if self.has_room() && self.filter.takes_decision(&row, &origin) {
                    if let Some(summary) = &mut self.summary {
                        summary.add(&row, &origin);
                        return Ok(Ok(()));
                    }
                    self.found += 1;
                    let joined = Box::new(Joined { decision: row, origin, outcome: None });
                    self.pending.push(Found::Decision(joined), line.len());
                }
            }
            "outcome" if !self.pending.is_empty() => self.pending.outcome(parse!(line)),
            "job" => {
                let row: JobRow = parse!(line);
                // An ended job must still be known when its own record is judged below.
                if row.state == "ended" {
                    self.take_other(&head, line);
                    self.index.job(row)?;
                    return Ok(Ok(()));
                }
                self.index.job(row)?;
            }
            "process" => self.index.process(parse!(line))?,
            "session" => {
                let row: SessionRow = parse!(line);
                if let SessionRow::Closed { session } = &row {
                    self.pending.session_closed(session);
                    self.take_other(&head, line);
                    self.index.session(row)?;
                    return Ok(Ok(()));
                }
                self.index.session(row)?;
            }
            _ => {}
        }
        self.take_other(&head, line);
        Ok(Ok(()))
    }

    /// Takes a record of another kind than a decision, if it was asked for.
    fn take_other(&mut self, head: &Head<'_>, line: &[u8]) {
        if head.kind != "decision"
            && self.has_room()
            && self.filter.wants(&head.kind)
            && self.filter.in_time(&head.time)
            && self.filter.takes_line(line, &mut self.index)
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

    /// Finds the outcomes of all that waits, past where the search stands.
    fn look_ahead(&mut self, lines: &Lines) -> Result<(), TrailError> {
        let mut ahead = lines.fork()?;
        while !self.pending.is_settled() {
            let line = match ahead.step()? {
                Step::Line(line) => line,
                Step::Torn(_) => continue,
                Step::End => break,
            };
            let read = |line| -> Result<(), String> {
                let head: Head<'_> = serde_json::from_slice(line).map_err(|error| error.to_string())?;
                match &*head.kind {
                    "outcome" => self.pending.outcome(parse::<OutcomeRow>(line)?),
                    "session" => {
                        if let SessionRow::Closed { session } = parse(line)? {
                            self.pending.session_closed(&session);
                        }
                    }
                    _ => {}
                }
                Ok(())
            };
            if let Err(reason) = { read }(line) {
                return Err(ahead.bad_line(reason));
            }
        }
        self.pending.settle_all();
        Ok(())
    }

    fn print(&mut self, json: bool, out: &mut dyn Write) -> Result<(), TrailError> {
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

fn parse<T: DeserializeOwned>(line: &[u8]) -> Result<T, String> {
    serde_json::from_slice(line).map_err(|error| error.to_string())
}

/// What is asked for.
struct Filter<'a> {
    args: &'a QueryArgs,
    /// As the trail spells time, so that text order is time order.
    since: Option<String>,
    until: Option<String>,
    text: Option<String>,
    limit: Option<u64>,
}

impl<'a> Filter<'a> {
    fn new(args: &'a QueryArgs) -> Result<Self, TrailError> {
        Ok(Self {
            args,
            since: args.since.as_deref().map(|value| instant("since", value)).transpose()?,
            until: args.until.as_deref().map(|value| instant("until", value)).transpose()?,
            text: args.text.as_deref().map(str::to_lowercase),
            limit: args.limit,
        })
    }

    fn wants(&self, kind: &str) -> bool {
        if self.args.kind.is_empty() {
            kind == "decision"
        } else {
            self.args.kind.iter().any(|wanted| wanted.is(kind))
        }
    }

    fn in_time(&self, time: &str) -> bool {
        self.since.as_deref().is_none_or(|since| time >= since)
            && self.until.as_deref().is_none_or(|until| time < until)
    }

    fn takes_decision(&self, row: &DecisionRow, origin: &Origin) -> bool {
        let args = self.args;
        args.decision.is_none_or(|decision| row.decision == decision.name())
            && (!args.would_deny || row.observed && row.decision == DecisionFilter::Deny.name())
            && args.session.as_deref().is_none_or(|session| row.session == session)
            && self.takes_origin(origin)
            && self.text.as_deref().is_none_or(|text| {
                row.statement.as_ref().is_some_and(|statement| statement.text.to_lowercase().contains(text))
            })
    }

    fn takes_origin(&self, origin: &Origin) -> bool {
        let job =
            |wanted: &str| origin.job.as_ref().is_some_and(|job| job.id == wanted || job.name == wanted);
        let subject =
            |wanted: &str| origin.credential.as_ref().is_some_and(|credential| credential.subject == wanted);
        self.args.job.as_deref().is_none_or(job) && self.args.subject.as_deref().is_none_or(subject)
    }

    /// Whether a record that is no decision is asked for: judged by whatever of its fields the filters name.
    fn takes_line(&self, line: &[u8], index: &mut Index) -> bool {
        let args = self.args;
        if args.decision.is_some() || args.would_deny {
            return false;
        }
        if self
            .text
            .as_deref()
            .is_some_and(|text| !String::from_utf8_lossy(line).to_lowercase().contains(text))
        {
            return false;
        }
        if args.job.is_none() && args.subject.is_none() && args.session.is_none() {
            return true;
        }
        let Ok(fields) = serde_json::from_slice::<serde_json::Value>(line) else { return false };
        let field = |pointer: &str| fields.pointer(pointer).and_then(serde_json::Value::as_str);
        let session = field("/session");
        if args.session.is_some() && args.session.as_deref() != session {
            return false;
        }
        let origin = match (field("/job/id").or(field("/job")), session) {
            (Some(job), _) => index.origin_of_job(job),
            (None, Some(session)) => index.origin(session),
            (None, None) => return args.subject.is_some() && args.subject.as_deref() == field("/subject"),
        };
        self.takes_origin(&origin)
    }
}

/// A time as the trail spells it.
fn instant(option: &'static str, value: &str) -> Result<String, TrailError> {
    let bad =
        |reason: &str| TrailError::Filter { option, value: value.to_owned(), reason: reason.to_owned() };
    let at = if let Ok(at) = value.parse::<jiff::Timestamp>() {
        at
    } else if let Ok(date) = value.parse::<jiff::civil::Date>() {
        date.to_zoned(jiff::tz::TimeZone::UTC).map_err(|error| bad(&error.to_string()))?.timestamp()
    } else {
        let unit = value.char_indices().next_back();
        let age = unit.and_then(|(at, unit)| {
            let seconds: i64 = match unit {
                's' => 1,
                'm' => 60,
                'h' => 3_600,
                'd' => 86_400,
                _ => return None,
            };
            value.get(..at)?.parse::<u32>().ok().map(|count| i64::from(count) * seconds)
        });
        let age = age.ok_or_else(|| {
            bad("give RFC 3339 (2026-01-31T12:00:00Z), a date, or an age such as 15m, 2h, 7d")
        })?;
        jiff::Timestamp::now()
            .checked_sub(jiff::SignedDuration::from_secs(age))
            .map_err(|error| bad(&error.to_string()))?
    };
    let unix_us = u64::try_from(at.as_microsecond()).map_err(|_| bad("is before 1970"))?;
    Ok(timestamp::rfc3339(unix_us))
}
