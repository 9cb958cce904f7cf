//! `lineal doctor`: prints what this host's kernel can enforce and what it cannot, each with reason and
//! remedy.

use std::{
    io::{self, Write},
    process::ExitCode,
};

use super::{
    arguments::Format,
    outcome::{EXIT_NO, Outcome},
};
use crate::kernel;

/// `lineal doctor`.
pub fn doctor(format: &Format) -> Outcome {
    let findings = kernel::probe();
    let mut out = io::stdout().lock();
    for finding in &findings {
        if format.json {
            writeln!(out, "{}", serde_json::to_string(finding)?)?;
        } else {
            let mark = match (finding.ok, finding.required) {
                (true, _) => "ok     ",
                (false, true) => "MISSING",
                (false, false) => "absent ",
            };
            writeln!(out, "{mark}  {:<34} {}", finding.check, finding.detail)?;
        }
    }
    let enough = findings.iter().all(|finding| finding.ok || !finding.required);
    Ok(if enough { ExitCode::SUCCESS } else { ExitCode::from(EXIT_NO) })
}
