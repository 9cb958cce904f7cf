//! `lineal audit query|tail|verify`: reads the trail's files, so it needs no running agent.

use std::{
    io::{self, Write},
    os::fd::AsFd,
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::{Args, Subcommand};

use super::{
    outcome::{EXIT_NO, Outcome},
    trail::{self, Named},
};
use crate::audit::{QueryArgs, TailArgs, VerifyArgs, query, tail, verify};

/// Which trail is read, and what is done with it.
#[derive(Args)]
pub struct AuditArgs {
    /// The configuration of the agent whose trail is meant [default: the agent that runs]
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(subcommand)]
    command: AuditCommand,
}

#[derive(Subcommand)]
enum AuditCommand {
    /// Decisions with their job, process and outcome.
    Query(QueryArgs),
    /// Records as they are written.
    Tail(TailArgs),
    /// Check that the trail is unbroken, or say where it is broken.
    Verify(VerifyArgs),
}

/// `lineal audit`.
pub fn run(control: &Path, args: &AuditArgs) -> Outcome {
    let find = |dir: &Option<PathBuf>| {
        trail::find(&Named { dir: dir.as_deref(), config: args.config.as_deref(), control })
    };
    let mut out = io::stdout().lock();
    let unbroken = match &args.command {
        AuditCommand::Query(args) => query(&find(&args.dir)?, args, &mut out).map(|()| true)?,
        AuditCommand::Tail(args) => {
            tail(&find(&args.dir)?, args, &mut out, Some(io::stdout().as_fd())).map(|()| true)?
        }
        AuditCommand::Verify(args) => verify(&find(&args.dir)?, args, &mut out)?,
    };
    out.flush()?;
    Ok(if unbroken { ExitCode::SUCCESS } else { ExitCode::from(EXIT_NO) })
}
