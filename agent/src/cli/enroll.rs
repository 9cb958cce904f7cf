//! `lineal enroll`: does for a running process what `lineal run` does for a new one.

use std::{
    io::{self, Write},
    path::Path,
    process::ExitCode,
};

use clap::Args;

use super::{enrolment::EnrolmentArgs, outcome::Outcome};

/// Which process is enrolled, and as whom.
#[derive(Args)]
pub struct EnrollArgs {
    /// The process: one of your own, or any as root. Its descendants are enrolled too.
    #[arg(long)]
    pid: u32,
    #[command(flatten)]
    enrolment: EnrolmentArgs,
    /// Print the job as JSON.
    #[arg(long)]
    json: bool,
}

/// `lineal enroll`.
pub fn enroll(control: &Path, args: EnrollArgs) -> Outcome {
    let job = args.enrolment.enrol(control, Some(args.pid))?;
    let mut out = io::stdout().lock();
    if args.json {
        writeln!(out, "{}", serde_json::to_string(&job)?)?;
    } else {
        writeln!(out, "job {}: {} processes", job.id, job.processes)?;
    }
    Ok(ExitCode::SUCCESS)
}
