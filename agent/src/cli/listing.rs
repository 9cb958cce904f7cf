//! `lineal jobs`, `lineal status` and `lineal rotate-authority`.

use std::{
    io::{self, Write},
    path::Path,
    process::ExitCode,
};

use serde_json::Value;

use super::{Format, Outcome};
use crate::control::{Request, client::ask};

/// `lineal jobs`.
pub fn jobs(control: &Path, format: &Format) -> Outcome {
    let jobs = ask(control, &Request::Jobs)?;
    let mut out = io::stdout().lock();
    if format.json {
        return print_json(&jobs);
    }
    writeln!(out, "{:<14} {:<9} {:>9} {:>6}  {:<28} NAME", "JOB", "STATE", "PROCESSES", "FLOWS", "SUBJECT")?;
    for job in &jobs {
        let text = |pointer: &str| job.pointer(pointer).and_then(Value::as_str).unwrap_or("-");
        let number = |pointer: &str| job.pointer(pointer).and_then(Value::as_u64).unwrap_or(0);
        writeln!(
            out,
            "{:<14} {:<9} {:>9} {:>6}  {:<28} {}",
            text("/id"),
            text("/state"),
            number("/processes"),
            number("/flows"),
            text("/credential/subject"),
            text("/name"),
        )?;
    }
    Ok(ExitCode::SUCCESS)
}

/// `lineal rotate-authority`.
pub fn rotate_authority(control: &Path) -> Outcome {
    for done in ask(control, &Request::Rotate)? {
        let published = done.get("authority").and_then(Value::as_str).unwrap_or("-");
        writeln!(
            io::stdout(),
            "jobs that start from now on trust {published}; those that run trust the last one, too"
        )?;
    }
    Ok(ExitCode::SUCCESS)
}

/// `lineal status`.
pub fn status(control: &Path, format: &Format) -> Outcome {
    let status = ask(control, &Request::Status)?;
    if format.json {
        return print_json(&status);
    }
    let mut out = io::stdout().lock();
    for object in status.iter().filter_map(Value::as_object) {
        for (name, value) in object {
            match value {
                Value::String(text) => writeln!(out, "{name:<16} {text}")?,
                other => writeln!(out, "{name:<16} {other}")?,
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn print_json(objects: &[Value]) -> Outcome {
    let mut out = io::stdout().lock();
    for object in objects {
        writeln!(out, "{object}")?;
    }
    Ok(ExitCode::SUCCESS)
}
