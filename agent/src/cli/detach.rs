//! `lineal detach`.

use std::{
    io::{self, Write},
    path::PathBuf,
    process::ExitCode,
};

use clap::Args;

use super::Outcome;
use crate::{
    config,
    daemon::{self, Detached},
};

/// What is let go, and why.
#[derive(Args)]
pub struct DetachArgs {
    /// The agent's configuration.
    #[arg(long, value_name = "FILE", default_value = config::DEFAULT_PATH)]
    config: PathBuf,
    /// Why: kept in the trail.
    #[arg(long, default_value = "no reason was given")]
    reason: String,
    /// Detach even if the trail can't be written.
    #[arg(long)]
    unrecorded: bool,
}

/// `lineal detach`.
pub fn detach(args: &DetachArgs) -> Outcome {
    let Detached { processes, unrecorded } = daemon::detach(&args.config, &args.reason, args.unrecorded)?;
    writeln!(io::stdout(), "detached: {processes} processes are followed no more")?;
    if let Some(error) = unrecorded {
        writeln!(io::stderr(), "lineal: this is not on record: {error}")?;
    }
    Ok(ExitCode::SUCCESS)
}
