//! `lineal audit verify`: proves a trail, or a copy of one, unbroken.
//!
//! It proves that no record was changed, removed, inserted or moved, and that every checkpoint was signed by
//! a key it is given. It cannot prove that nothing was cut off after the last checkpoint someone knows of:
//! it says where the trail ends, for the reader to compare.

use std::io::Write;
use std::path::{Path, PathBuf};

use agent_core::audit::chain::{BreakReason, Claim, Verifier};
use clap::Args;
use serde::Serialize;

use super::config::CHECKPOINT_RECORDS_MAX;
use super::error::TrailError;
use super::keys::PublicKey;
use super::reader::{Lines, Step};

/// Proves the audit trail unbroken.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct VerifyArgs {
    /// The trail's directory, or a copy of it [default: the configured one]
    #[arg(long, value_name = "DIR")]
    pub(crate) dir: Option<PathBuf>,
    /// A public key (PEM, or 64 hex digits) that checkpoints may be signed with; may be repeated
    /// [default: the ones that lie beside the trail, which proves less]
    #[arg(long, value_name = "FILE")]
    pub(crate) key: Vec<PathBuf>,
    /// Older segments were archived: begin at the first one here, on the word of its signed checkpoint
    #[arg(long)]
    pub(crate) archived: bool,
    /// The result as one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

/// What was found.
#[derive(Debug, Default, Serialize)]
struct Report {
    unbroken: bool,
    records: u64,
    checkpoints: u64,
    signatures_checked: bool,
    keys: Vec<String>,
    first: Option<Place>,
    last: Option<Place>,
    last_checkpoint: Option<u64>,
    torn_bytes: usize,
    broken: Option<Break>,
}

#[derive(Clone, Debug, Serialize)]
struct Place {
    seq: u64,
    time: String,
}

#[derive(Debug, Serialize)]
struct Break {
    file: PathBuf,
    line: u64,
    seq: u64,
    reason: String,
}

/// Proves the trail in `dir` and prints what was found; false when it is broken.
pub(crate) fn verify(dir: &Path, args: &VerifyArgs, out: &mut dyn Write) -> Result<bool, TrailError> {
    let keys = match args.key.as_slice() {
        [] => PublicKey::beside(dir)?,
        files => files.iter().map(|file| PublicKey::read(file)).collect::<Result<_, _>>()?,
    };
    let report = prove(dir, &keys, args.archived)?;
    if args.json {
        serde_json::to_writer(&mut *out, &report).map_err(std::io::Error::from)?;
        writeln!(out)?;
    } else {
        print(&report, args.key.is_empty(), out)?;
    }
    out.flush()?;
    Ok(report.unbroken)
}

fn prove(dir: &Path, keys: &[PublicKey], archived: bool) -> Result<Report, TrailError> {
    let mut lines = Lines::open(dir)?;
    let mut verifier = Verifier::from_genesis();
    let keys: Vec<(String, &PublicKey)> = keys.iter().map(|key| (key.fingerprint(), key)).collect();
    let mut report = Report {
        signatures_checked: !keys.is_empty(),
        keys: keys.iter().map(|(fingerprint, _)| fingerprint.clone()).collect(),
        ..Report::default()
    };
    let mut unsigned = 0;
    loop {
        let first_seq = lines.segment_first_seq();
        let has_later = lines.has_later();
        let checked = match lines.step() {
            Ok(Step::End) => break,
            Ok(Step::Torn(_)) if has_later => Err((verifier.end().seq + 1, BreakReason::NoHash.to_string())),
            Ok(Step::Torn(tail)) => {
                report.torn_bytes = tail.len();
                match verifier.check_torn(tail) {
                    Ok(()) => continue,
                    Err(broken) => Err((broken.seq, broken.reason.to_string())),
                }
            }
            Ok(Step::Line(line)) => {
                let begins_late = report.records == 0 && first_seq.is_some_and(|seq| seq > 1);
                let begun = match (begins_late, archived && !keys.is_empty()) {
                    (true, true) => {
                        Verifier::from_checkpoint(line).map(|from| verifier = from).map_err(|_| {
                            (
                                first_seq.unwrap_or(1),
                                "the segment does not begin with a checkpoint".to_owned(),
                            )
                        })
                    }
                    (true, false) => Err((1, missing_beginning(first_seq.unwrap_or(1)))),
                    (false, _) => Ok(()),
                };
                begun.and_then(|()| {
                    verifier.feed(line).map_err(|broken| (broken.seq, broken.reason.to_string()))
                })
            }
            Err(TrailError::Line { reason, .. }) => Err((verifier.end().seq + 1, reason)),
            Err(error) => return Err(error),
        };
        let checked = checked.and_then(|checked| match &checked.claim {
            Some(claim) if !keys.is_empty() => {
                check_signature(claim, &keys).map(|()| checked).map_err(|r| (verifier.end().seq, r))
            }
            _ => Ok(checked),
        });
        let begins_segment = lines.place().1 == 1;
        let checked = checked.and_then(|checked| match &checked.claim {
            None if begins_segment => Err((checked.seq, UNSIGNED_SEGMENT.to_owned())),
            None if unsigned >= CHECKPOINT_RECORDS_MAX => Err((checked.seq, unsigned_run(unsigned))),
            _ => Ok(checked),
        });
        match checked {
            Ok(checked) => {
                let place = Place { seq: checked.seq, time: checked.time };
                report.records += 1;
                unsigned = if checked.claim.is_some() { 0 } else { unsigned + 1 };
                if let Some(claim) = &checked.claim {
                    report.checkpoints += 1;
                    report.last_checkpoint = Some(claim.checkpoint.seq);
                }
                report.first.get_or_insert_with(|| place.clone());
                report.last = Some(place);
            }
            Err((seq, reason)) => {
                let (file, line) = lines.place();
                report.broken = Some(Break { file, line, seq, reason });
                return Ok(report);
            }
        }
    }
    report.unbroken = true;
    Ok(report)
}

/// The writer begins every segment with a checkpoint: one that doesn't was made by somebody else.
const UNSIGNED_SEGMENT: &str = "the segment does not begin with a checkpoint: its signatures were taken out";

fn unsigned_run(records: u64) -> String {
    format!("{records} records before it hold no checkpoint: the writer makes one at least that often")
}

fn missing_beginning(first_seq: u64) -> String {
    format!(
        "the trail begins with record {first_seq}: records 1 to {} are not here; if they were archived, verify this \
         with --archived and --key",
        first_seq - 1
    )
}

fn check_signature(claim: &Claim, keys: &[(String, &PublicKey)]) -> Result<(), String> {
    let Some((_, key)) = keys.iter().find(|(fingerprint, _)| *fingerprint == claim.key) else {
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

fn print(report: &Report, keys_from_beside: bool, out: &mut dyn Write) -> Result<(), TrailError> {
    let Report { records, checkpoints, .. } = report;
    if let Some(Break { file, line, reason, seq }) = &report.broken {
        writeln!(out, "BROKEN at {}:{line}: record {seq}: {reason}", file.display())?;
        if let Some(last) = &report.last {
            writeln!(
                out,
                "{records} records before it hold, the last one record {} of {}",
                last.seq, last.time
            )?;
        }
        return Ok(());
    }
    match (&report.first, &report.last) {
        (Some(first), Some(last)) => writeln!(
            out,
            "{records} records, {checkpoints} checkpoints, unbroken from {} (record {}) to {} (record {})",
            first.time, first.seq, last.time, last.seq
        )?,
        _ => writeln!(out, "0 records, 0 checkpoints: the trail has only begun")?,
    }
    if report.torn_bytes > 0 {
        writeln!(
            out,
            "{} bytes of an unfinished record stand at the end: a write was interrupted or is under way",
            report.torn_bytes
        )?;
    }
    if !report.signatures_checked {
        writeln!(out, "signatures were not checked: no public key is given, and none lies beside the trail")?;
    } else {
        for key in &report.keys {
            writeln!(out, "checkpoints checked with {key}")?;
        }
        if keys_from_beside {
            writeln!(
                out,
                "that key lay beside the trail: compare it with one kept elsewhere, or name yours with --key"
            )?;
        }
    }
    if let (Some(last), Some(checkpoint)) = (&report.last, report.last_checkpoint) {
        writeln!(
            out,
            "signed up to record {checkpoint} of {}: records cut off after a trail's end show only against a later \
             checkpoint or count kept elsewhere",
            last.seq
        )?;
    }
    Ok(())
}
