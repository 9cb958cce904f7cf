//! `lineal jobs`, `lineal status` and `lineal rotate-authority`: each asks the agent over its control socket,
//! at the path `control`, and prints the answer. Without an answer it fails.

use std::{
    io::{self, Write},
    path::Path,
    process::ExitCode,
};

use serde_json::Value;

use super::{arguments::Format, outcome::Outcome};
use crate::control::{
    Request,
    answer::{LiveJob, Rotated, Status},
    client::{ask, ask_one},
};

/// `lineal jobs`: prints the live jobs as a table, or as JSON, one object a line. The column FLOWS counts
/// open sessions.
pub fn jobs(control: &Path, format: &Format) -> Outcome {
    let jobs: Vec<LiveJob> = ask(control, &Request::Jobs)?;
    let mut out = io::stdout().lock();
    if format.json {
        for job in &jobs {
            writeln!(out, "{}", serde_json::to_string(job)?)?;
        }
        return Ok(ExitCode::SUCCESS);
    }
    writeln!(out, "{:<14} {:<9} {:>9} {:>6}  {:<28} NAME", "JOB", "STATE", "PROCESSES", "FLOWS", "SUBJECT")?;
    for LiveJob { id, name, state, credential, processes, flows, .. } in &jobs {
        let subject = credential.as_ref().map_or("-", |credential| &credential.subject);
        writeln!(out, "{id:<14} {state:<9} {processes:>9} {flows:>6}  {subject:<28} {name}")?;
    }
    Ok(ExitCode::SUCCESS)
}

/// `lineal rotate-authority`: has the agent replace the host's certificate authority, and prints the new
/// one's file.
pub fn rotate_authority(control: &Path) -> Outcome {
    let Rotated { authority } = ask_one(control, &Request::Rotate)?;
    writeln!(
        io::stdout(),
        "jobs that start from now on trust {}; running jobs trust it and the last one",
        authority.display()
    )?;
    Ok(ExitCode::SUCCESS)
}

/// `lineal status`: prints every field of the status, one a line, or all as one JSON object.
pub fn status(control: &Path, format: &Format) -> Outcome {
    let status: Status = ask_one(control, &Request::Status)?;
    let mut out = io::stdout().lock();
    if format.json {
        writeln!(out, "{}", serde_json::to_string(&status)?)?;
        return Ok(ExitCode::SUCCESS);
    }
    if let Value::Object(fields) = serde_json::to_value(&status)? {
        for (name, value) in fields {
            match value {
                Value::String(text) => writeln!(out, "{name:<16} {text}")?,
                other => writeln!(out, "{name:<16} {other}")?,
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}
