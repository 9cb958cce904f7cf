//! `query --summary`: counts decisions that are alike, the most frequent first.

use std::{
    collections::HashMap,
    io::{self, Write},
};

use serde::Serialize;

use super::{
    print::shown,
    row::{DecisionRow, Origin},
};

/// Distinct sorts of decision that are counted; the decisions of further sorts are counted together.
const SORTS_MAX: usize = 10_000;

/// Decisions that are equal in this are counted as one sort.
#[derive(PartialEq, Eq, Hash)]
struct Sort {
    decision: String,
    observed: bool,
    policies: Vec<String>,
    reason: String,
    subject: String,
}

/// How often, and when, decisions of one sort were made.
struct Count {
    count: u64,
    first: String,
    last: String,
    /// The first statement of this sort.
    example: Option<String>,
}

/// A line of the summary as JSON.
#[derive(Serialize)]
struct Line<'a> {
    count: u64,
    decision: &'a str,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    observed: bool,
    policies: &'a [String],
    reason: &'a str,
    subject: &'a str,
    first: &'a str,
    last: &'a str,
    example: Option<&'a str>,
}

/// Counts decisions by sorts.
#[derive(Default)]
pub(super) struct Summary {
    sorts: HashMap<Sort, Count>,
    others: u64,
}

impl Summary {
    /// Counts a decision.
    pub(super) fn add(&mut self, row: &DecisionRow, origin: &Origin) {
        let subject = origin.credential.as_ref().map_or_else(String::new, |c| c.subject.clone());
        let sort = Sort {
            decision: row.decision.clone(),
            observed: row.observed,
            policies: row.policies.clone(),
            reason: row.reason.clone(),
            subject,
        };
        if let Some(count) = self.sorts.get_mut(&sort) {
            count.count += 1;
            count.last.clone_from(&row.time);
        } else if self.sorts.len() < SORTS_MAX {
            let example = row.statement.as_ref().map(|statement| statement.text.clone());
            let (first, last) = (row.time.clone(), row.time.clone());
            self.sorts.insert(sort, Count { count: 1, first, last, example });
        } else {
            self.others += 1;
        }
    }

    /// Prints the summary.
    pub(super) fn print(&self, json: bool, out: &mut dyn Write) -> io::Result<()> {
        let mut sorts: Vec<_> = self.sorts.iter().collect();
        sorts.sort_by(|(_, a), (_, b)| b.count.cmp(&a.count).then_with(|| a.first.cmp(&b.first)));
        for (sort, count) in sorts {
            let Sort { decision, observed, policies, reason, subject } = sort;
            let Count { count, first, last, example } = count;
            if json {
                let example = example.as_deref();
                let line = Line {
                    count: *count,
                    decision,
                    observed: *observed,
                    policies,
                    reason,
                    subject,
                    first,
                    last,
                    example,
                };
                serde_json::to_writer(&mut *out, &line)?;
                out.write_all(b"\n")?;
                continue;
            }
            let observed = if *observed { " (observed only)" } else { "" };
            let subject = if subject.is_empty() { "no credential" } else { subject };
            writeln!(out, "{count:>8}  {}{observed}  {}", decision.to_uppercase(), shown(reason))?;
            writeln!(out, "          job  {}", shown(subject))?;
            if let Some(example) = example {
                writeln!(out, "          such as  {}", shown(example))?;
            }
        }
        if self.others > 0 && !json {
            writeln!(out, "{:>8}  of more than {SORTS_MAX} other sorts", self.others)?;
        } else if self.others > 0 {
            writeln!(out, "{{\"count\":{},\"others\":true}}", self.others)?;
        }
        Ok(())
    }
}
