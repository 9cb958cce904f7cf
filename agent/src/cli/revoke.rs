//! `lineal revoke`.

use std::{
    io::{self, Write},
    path::Path,
    process::ExitCode,
};

use anyhow::Context;
use clap::Args;

use super::Outcome;
use crate::{
    control::{Request, client::ask},
    ids::Id,
    jobs::Selector,
};

/// Whose access ends.
#[derive(Args)]
pub struct RevokeArgs {
    #[command(flatten)]
    selector: SelectorArgs,
    /// Why: shown to whoever runs into it, and kept in the trail.
    #[arg(long, default_value = "no reason was given")]
    reason: String,
    /// Print the ended jobs as JSON, one object a line.
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
#[group(required = true, multiple = false)]
struct SelectorArgs {
    /// One job.
    #[arg(long, value_name = "ID")]
    job: Option<Id>,
    /// Every job of this subject, now and later.
    #[arg(long, value_name = "SUBJECT")]
    subject: Option<String>,
    /// Every job whose credential has this claim, now and later.
    #[arg(long, value_name = "NAME=VALUE")]
    claim: Option<String>,
}

impl SelectorArgs {
    fn into_selector(self) -> anyhow::Result<Selector> {
        Ok(match (self.job, self.subject, self.claim) {
            (Some(job), _, _) => Selector::Job(job.to_string()),
            (None, Some(subject), _) => Selector::Subject(subject),
            (None, None, claim) => {
                let claim = claim.unwrap_or_default();
                let (key, value) = claim.split_once('=').context("--claim wants NAME=VALUE")?;
                Selector::Claim { key: key.to_owned(), value: value.to_owned() }
            }
        })
    }
}

/// `lineal revoke`.
pub fn revoke(control: &Path, args: RevokeArgs) -> Outcome {
    let selector = args.selector.into_selector()?;
    let ended = ask(control, &Request::Revoke { selector, reason: args.reason })?;
    let mut out = io::stdout().lock();
    for job in &ended {
        match job.get("id").and_then(|id| id.as_str()) {
            Some(id) if !args.json => writeln!(out, "revoked job {id}")?,
            _ => writeln!(out, "{job}")?,
        }
    }
    if ended.is_empty() && !args.json {
        writeln!(out, "no live job is meant; new ones will be refused")?;
    }
    Ok(ExitCode::SUCCESS)
}
