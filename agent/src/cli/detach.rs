//! `lineal detach`.

use std::{
    io::{self, Write},
    path::PathBuf,
    process::ExitCode,
};

use clap::Args;

use super::outcome::{Outcome, tell};
use crate::{
    config,
    daemon::{self, Detached},
};

/// Why everything is detached, and whether it must be recorded.
#[derive(Args)]
pub struct DetachArgs {
    /// The agent's configuration.
    #[arg(long, value_name = "FILE", default_value = config::DEFAULT_PATH)]
    config: PathBuf,
    /// Why, for the trail.
    #[arg(long, default_value = "no reason was given")]
    reason: String,
    /// Detach even if it cannot be recorded.
    #[arg(long)]
    unrecorded: bool,
}

/// `lineal detach`.
pub fn detach(args: &DetachArgs) -> Outcome {
    let Detached { processes, unrecorded } = daemon::detach(&args.config, &args.reason, args.unrecorded)?;
    writeln!(io::stdout(), "detached: {processes} processes are no longer followed")?;
    if let Some(error) = unrecorded {
        tell(&format!("this is not on record: {error}"));
    }
    Ok(ExitCode::SUCCESS)
}
