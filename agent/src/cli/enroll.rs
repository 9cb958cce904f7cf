//! `lineal enroll`: what `lineal run` does, for a process that runs already.

use std::{
    io::{self, Write},
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::Args;
use serde_json::Value;

use super::{Outcome, run::token};
use crate::control::{Request, client::ask};

/// Which process, and as whom.
#[derive(Args)]
pub struct EnrollArgs {
    /// The process: one's own user's, or any as root. What descends from it comes along.
    #[arg(long)]
    pid: u32,
    /// File that holds the token; LINEAL_TOKEN or the CI system's own source unless given.
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// The audience to ask the CI system for, where it issues tokens on request.
    #[arg(long, default_value = "lineal")]
    audience: String,
    /// The job's name in listings and in the trail.
    #[arg(long)]
    name: Option<String>,
    /// Print the job as JSON.
    #[arg(long)]
    json: bool,
}

/// `lineal enroll`.
pub fn enroll(control: &Path, args: EnrollArgs) -> Outcome {
    let token = token(args.token_file.as_deref(), &args.audience)?;
    let request = Request::Enroll { token: token.reveal().to_owned(), name: args.name, pid: Some(args.pid) };
    let enrolled = ask(control, &request)?;
    drop(token);
    let mut out = io::stdout().lock();
    for job in &enrolled {
        if args.json {
            writeln!(out, "{job}")?;
            continue;
        }
        let id = job.get("id").and_then(Value::as_str).unwrap_or_default();
        let processes = job.get("processes").and_then(Value::as_u64).unwrap_or_default();
        writeln!(out, "job {id}: {processes} processes")?;
    }
    Ok(ExitCode::SUCCESS)
}
