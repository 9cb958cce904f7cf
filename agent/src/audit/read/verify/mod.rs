//! `lineal audit verify`: checks that a trail, or a copy of one, is unbroken.
//!
//! It proves that no record was changed, removed, inserted or moved, and that every checkpoint was signed
//! with one of the given keys. It cannot prove that nothing was cut off after the last checkpoint that
//! somebody knows of: it prints where the trail ends, for the reader to compare.

mod check;
mod report;
#[cfg(test)]
mod tests;

use std::{
    io::{self, Write},
    path::{Path, PathBuf},
};

use clap::Args;

use self::check::check;
use super::{error::ReadError, keys};

/// Checks that the audit trail is unbroken.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct VerifyArgs {
    /// The trail's directory, or a copy of it [default: the running agent's trail]
    #[arg(long, value_name = "DIR")]
    pub(crate) dir: Option<PathBuf>,
    /// A public key (PEM, or 64 hex digits) that checkpoints may be signed with; may be repeated
    /// [default: those in the trail's directory, which proves less]
    #[arg(long, value_name = "FILE")]
    pub(crate) key: Vec<PathBuf>,
    /// Older segments were archived: begin with the first one here, trusting its signed checkpoint
    #[arg(long)]
    pub(crate) archived: bool,
    /// Print the result as one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

/// Checks the trail in `dir` and prints the result; false when it is broken.
pub(crate) fn verify(dir: &Path, args: &VerifyArgs, out: &mut dyn Write) -> Result<bool, ReadError> {
    let keys = match args.key.as_slice() {
        [] => keys::beside(dir)?,
        files => files.iter().map(|file| keys::read(file)).collect::<Result<_, _>>()?,
    };
    let report = check(dir, &keys, args.archived)?;
    if args.json {
        serde_json::to_writer(&mut *out, &report).map_err(io::Error::from)?;
        writeln!(out)?;
    } else {
        report.print(args.key.is_empty(), out)?;
    }
    out.flush()?;
    Ok(report.unbroken)
}
