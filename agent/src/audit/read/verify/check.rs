//! Checks a trail line by line: the chain, the signatures of its checkpoints, and that no checkpoint is
//! missing. It stops at the first break.

use std::path::Path;

use agent_core::audit::{
    Broken, Checked, Verifier,
    chain::{BreakReason, Claim},
};

use super::{
    super::{
        error::ReadError,
        reader::{Lines, Step},
    },
    report::{Break, Position, Report},
};
use crate::audit::{config::CHECKPOINT_RECORDS_MAX, trail::PublicKey};

/// The writer begins every segment with a checkpoint, so a segment without one was made by somebody else.
const UNSIGNED_SEGMENT: &str = "the segment does not begin with a checkpoint: its signatures were taken out";

/// Checks the trail in `dir`. Without keys, signatures are not checked. With `archived`, the trail may begin
/// later than with record 1, if its first line is a checkpoint.
pub(super) fn check(dir: &Path, keys: &[PublicKey], archived: bool) -> Result<Report, ReadError> {
    let mut lines = Lines::open(dir)?;
    let mut checker = Checker::new(keys, archived);
    loop {
        let first_seq = lines.segment_first_seq().unwrap_or(1);
        let checked = match lines.step() {
            Ok(Step::End) => break,
            Ok(Step::Torn { tail, last }) => match checker.torn(tail, last) {
                Ok(()) => continue,
                Err(fault) => Err(fault),
            },
            Ok(Step::Line(line)) => checker.line(line, first_seq),
            Err(ReadError::Line { reason, .. }) => Err(checker.next_record(reason)),
            Err(error) => return Err(error),
        };
        let (file, line) = lines.position();
        match checked.and_then(|checked| checker.checkpoints(checked, line == 1)) {
            Ok(checked) => checker.count(checked),
            Err(Fault { seq, reason }) => {
                checker.report.broken = Some(Break { file, line, seq, reason });
                return Ok(checker.report);
            }
        }
    }
    checker.report.unbroken = true;
    Ok(checker.report)
}

/// A break at the current line.
struct Fault {
    /// The record that should stand there.
    seq: u64,
    reason: String,
}

impl From<Broken> for Fault {
    fn from(Broken { seq, reason }: Broken) -> Self {
        Self { seq, reason: reason.to_string() }
    }
}

/// A trail that is being checked.
struct Checker<'a> {
    /// Keys with their fingerprints.
    keys: Vec<(String, &'a PublicKey)>,
    archived: bool,
    verifier: Verifier,
    /// Records since the last checkpoint.
    unsigned: u64,
    report: Report,
}

impl<'a> Checker<'a> {
    fn new(keys: &'a [PublicKey], archived: bool) -> Self {
        let keys: Vec<_> = keys.iter().map(|key| (key.fingerprint(), key)).collect();
        let report = Report {
            signatures_checked: !keys.is_empty(),
            keys: keys.iter().map(|(fingerprint, _)| fingerprint.clone()).collect(),
            ..Report::default()
        };
        Self { keys, archived, verifier: Verifier::from_genesis(), unsigned: 0, report }
    }

    /// A fault at the record after the last one that was checked.
    fn next_record(&self, reason: String) -> Fault {
        Fault { seq: self.verifier.end().seq + 1, reason }
    }

    /// Checks a complete line against the chain. `first_seq` is the number by which its segment's name
    /// begins.
    fn line(&mut self, line: &[u8], first_seq: u64) -> Result<Checked, Fault> {
        if self.report.records == 0 && first_seq > 1 {
            // The checkpoint vouches for what came before, so its signature must be checked.
            if !self.archived || self.keys.is_empty() {
                return Err(Fault { seq: 1, reason: missing_beginning(first_seq) });
            }
            self.verifier = Verifier::from_checkpoint(line).map_err(|_| Fault {
                seq: first_seq,
                reason: "the segment does not begin with a checkpoint".to_owned(),
            })?;
        }
        Ok(self.verifier.feed(line)?)
    }

    /// Checks the bytes after a segment's last newline. Only the last segment may have some.
    fn torn(&mut self, tail: &[u8], last: bool) -> Result<(), Fault> {
        if !last {
            return Err(self.next_record(BreakReason::NoHash.to_string()));
        }
        self.report.torn_bytes = tail.len();
        Ok(self.verifier.check_torn(tail)?)
    }

    /// Checks a line's signature, if it is a checkpoint, and otherwise that none should stand here.
    fn checkpoints(&self, checked: Checked, begins_segment: bool) -> Result<Checked, Fault> {
        let fault = |reason| Fault { seq: checked.seq, reason };
        match &checked.claim {
            Some(claim) if !self.keys.is_empty() => self.signature(claim).map_err(fault)?,
            Some(_) => {}
            None if begins_segment => return Err(fault(UNSIGNED_SEGMENT.to_owned())),
            None if self.unsigned >= CHECKPOINT_RECORDS_MAX => {
                return Err(fault(unsigned_run(self.unsigned)));
            }
            None => {}
        }
        Ok(checked)
    }

    fn signature(&self, claim: &Claim) -> Result<(), String> {
        let Some((_, key)) = self.keys.iter().find(|(fingerprint, _)| *fingerprint == claim.key) else {
            return Err(format!(
                "the checkpoint is signed with {}, a key that is not given: name it with --key",
                claim.key
            ));
        };
        if key.signed(&claim.checkpoint, &claim.signature) {
            Ok(())
        } else {
            Err(format!("the checkpoint's signature is not {}'s", claim.key))
        }
    }

    /// Counts a line in which no fault was found.
    fn count(&mut self, checked: Checked) {
        let Checked { seq, time, claim } = checked;
        self.report.records += 1;
        self.unsigned = if claim.is_some() { 0 } else { self.unsigned + 1 };
        if let Some(claim) = claim {
            self.report.checkpoints += 1;
            self.report.last_checkpoint = Some(claim.checkpoint.seq);
        }
        let position = Position { seq, time };
        self.report.first.get_or_insert_with(|| position.clone());
        self.report.last = Some(position);
    }
}

fn unsigned_run(records: u64) -> String {
    format!("{records} records before it hold no checkpoint: the writer makes one at least that often")
}

fn missing_beginning(first_seq: u64) -> String {
    format!(
        "the trail begins with record {first_seq}: records 1 to {} are not here; \
         if they were archived, verify this with --archived and --key",
        first_seq - 1
    )
}
