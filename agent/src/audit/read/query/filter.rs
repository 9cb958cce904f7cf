//! Which records a query keeps, and how its times are read.

use agent_core::audit::timestamp;

use super::{
    super::{
        error::ReadError,
        index::Index,
        row::{DecisionRow, Origin},
    },
    args::{DecisionFilter, QueryArgs},
};

/// Which records a search keeps.
pub(super) struct Filter<'a> {
    args: &'a QueryArgs,
    /// Times are spelled as in the trail, so that comparing text compares times.
    since: Option<String>,
    until: Option<String>,
    text: Option<String>,
    pub(super) limit: Option<u64>,
}

impl<'a> Filter<'a> {
    pub(super) fn new(args: &'a QueryArgs) -> Result<Self, ReadError> {
        Ok(Self {
            args,
            since: args.since.as_deref().map(|value| instant("since", value)).transpose()?,
            until: args.until.as_deref().map(|value| instant("until", value)).transpose()?,
            text: args.text.as_deref().map(str::to_lowercase),
            limit: args.limit,
        })
    }

    /// Whether records of this kind are searched for.
    pub(super) fn wants_kind(&self, kind: &str) -> bool {
        if self.args.kind.is_empty() {
            kind == "decision"
        } else {
            self.args.kind.iter().any(|wanted| wanted.is(kind))
        }
    }

    pub(super) fn in_time(&self, time: &str) -> bool {
        self.since.as_deref().is_none_or(|since| time >= since)
            && self.until.as_deref().is_none_or(|until| time < until)
    }

    /// Whether a decision matches.
    pub(super) fn matches_decision(&self, row: &DecisionRow, origin: &Origin) -> bool {
        let args = self.args;
        args.decision.is_none_or(|decision| row.decision == decision.name())
            && (!args.would_deny || row.observed && row.decision == DecisionFilter::Deny.name())
            && args.session.as_deref().is_none_or(|session| row.session == session)
            && self.matches_origin(origin)
            && self.text.as_deref().is_none_or(|text| {
                row.statement.as_ref().is_some_and(|statement| statement.text.to_lowercase().contains(text))
            })
    }

    fn matches_origin(&self, origin: &Origin) -> bool {
        let job =
            |wanted: &str| origin.job.as_ref().is_some_and(|job| job.id == wanted || job.name == wanted);
        let subject =
            |wanted: &str| origin.credential.as_ref().is_some_and(|credential| credential.subject == wanted);
        self.args.job.as_deref().is_none_or(job) && self.args.subject.as_deref().is_none_or(subject)
    }

    /// Whether a record of another kind matches: a filter compares the field that it names, and a record
    /// without that field does not match.
    pub(super) fn matches_line(&self, line: &[u8], index: &mut Index) -> bool {
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
        self.matches_origin(&origin)
    }
}

/// The time that an option's value names, spelled as in the trail.
fn instant(option: &'static str, value: &str) -> Result<String, ReadError> {
    let bad = |reason: &str| ReadError::Filter { option, value: value.to_owned(), reason: reason.to_owned() };
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
    let unix_us = u64::try_from(at.as_microsecond()).map_err(|_| bad("that is before 1970"))?;
    Ok(timestamp::rfc3339(unix_us))
}
