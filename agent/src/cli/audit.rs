//! `lineal audit query|tail|verify`: reads the trail's directory, so it needs no running agent.

use std::{
    io::{self, Write},
    os::fd::AsFd,
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::{Args, Subcommand};

use super::outcome::{EXIT_NO, Outcome};
use crate::{
    audit::{QueryArgs, TailArgs, VerifyArgs, query, tail, verify},
    config::{self, Config},
};

/// Which trail, and what of it.
#[derive(Args)]
pub struct AuditArgs {
    /// The agent's configuration, which says where the trail is.
    #[arg(long, global = true, value_name = "FILE", default_value = config::DEFAULT_PATH)]
    config: PathBuf,
    #[command(subcommand)]
    command: AuditCommand,
}

#[derive(Subcommand)]
enum AuditCommand {
    /// Decisions with their job, process and outcome.
    Query(QueryArgs),
    /// Records as they are written.
    Tail(TailArgs),
    /// Prove the trail unbroken, or say where it is broken.
    Verify(VerifyArgs),
}

/// `lineal audit`.
pub fn run(args: &AuditArgs) -> Outcome {
    let mut out = io::stdout().lock();
    let found = match &args.command {
        AuditCommand::Query(query_args) => {
            query(&directory(query_args.dir.as_deref(), &args.config)?, query_args, &mut out)?;
            true
        }
        AuditCommand::Tail(tail_args) => {
            let dir = directory(tail_args.dir.as_deref(), &args.config)?;
            tail(&dir, tail_args, &mut out, Some(io::stdout().as_fd()))?;
            true
        }
        AuditCommand::Verify(verify_args) => {
            verify(&directory(verify_args.dir.as_deref(), &args.config)?, verify_args, &mut out)?
        }
    };
    out.flush()?;
    Ok(if found { ExitCode::SUCCESS } else { ExitCode::from(EXIT_NO) })
}

/// The trail's directory: the one given, else the configured one, else the default.
fn directory(given: Option<&Path>, config: &Path) -> anyhow::Result<PathBuf> {
    if let Some(dir) = given {
        return Ok(dir.to_owned());
    }
    if config == Path::new(config::DEFAULT_PATH) && !config.exists() {
        return Ok(crate::audit::AuditConfig::default().dir);
    }
    Ok(Config::read(config)?.audit.dir)
}
